"""Contenders that take turns, each side in a process of its own: none runs with another's settings or memory."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Side:
    """A process that runs this script's contenders of one side when it is asked to."""

    def __init__(self, script: str, name: str, words: list[str] | None = None) -> None:
        """Start ``script --side name``, with the words of this command line where none are given."""
        given = sys.argv[1:] if words is None else words
        self.process = subprocess.Popen(
            [sys.executable, script, *given, "--side", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            bufsize=1,
        )  # fmt: skip
        self.says = self._line()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, what: str, *arguments: Any) -> float:
        """Let a contender run; return what it returns, images per second."""
        return float(self.ask([what, *arguments]))

    def peak(self, what: str, *arguments: Any) -> float:
        """Let a contender run; return the most memory in MB that its process and workers hold meanwhile."""
        return float(self.ask(["peak", what, *arguments]))

    def ask(self, words: list[Any]) -> Any:
        """Let a contender, the first of ``words``, run with the other words; return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        return self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with code {self.process.wait()}")
        return json.loads(line)


def take(says: Any, runs: Mapping[str, Callable[..., Any]]) -> None:
    """Be a side: say something, then run what each line of the input asks for, until it ends."""
    print(json.dumps(says), flush=True)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        if what == "peak":
            what, *arguments = arguments
            answer = peak(functools.partial(runs[what], *arguments))
        else:
            answer = runs[what](*arguments)
        print(json.dumps(answer), flush=True)


def peak(run: Callable[[], object]) -> float:
    """Return the most memory in MB that this process and its workers hold while a contender runs."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(most[0], resident())


def resident() -> float:
    """Return the proportional set size of this process and its children in MB: shared pages count once."""
    pids = ["self", *Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # a worker that has just ended
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024
