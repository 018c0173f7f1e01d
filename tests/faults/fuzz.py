"""Feed every reader mutated files, drawn and made smaller by hypothesis, and pickles that would run code."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import re
import resource
import select
import shlex
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from counting import Clock, Count, Held
from hypothesis import Phase, find, settings
from hypothesis.errors import Flaky, NoSuchExample
from mutations import mutated
from readers import Reader, readers
from world import World

SECONDS, GIGABYTES = 10.0, 2.0  # of its own; a reader that takes more has a fault
PATIENCE = 12  # times as long on the clock: on a busy machine a process waits for others
FEWEST = 50  # inputs of a reader
GOOD, SLOW = ("read", "one line"), f"slow, more than {SECONDS:g} s"
SHRUNK = 5  # faults of different kinds, of each reader, that are made smaller


def counts(world: World, tries: int, seed: int, done: Held) -> Iterator[Count]:
    """Yield the count of each reader, 100 times ``tries`` inputs over all, and that of pickles."""
    found = [reader for reader in readers() if reader.samples(world)]  # those whose commands were not left out
    for reader in found:
        if ("mutated input", reader.name) not in done:
            yield counted(world, reader, max(FEWEST, -(-100 * tries // len(found))), seed)
    if ("a pickle that runs code", "every reader") not in done:
        yield _pickles(world, found)


def counted(world: World, reader: Reader, inputs: int, seed: int) -> Count:
    """Return how a reader ended on so many inputs; the first of each kind of fault with a smaller one that ends so."""
    count, samples = Count("mutated input", reader.name), reader.samples(world)
    first: dict[str, tuple[int, bytes]] = {}  # kind of fault -> where in the list of faults, and the input

    def look(content: bytes) -> bool:
        outcome = child.ended(content)
        bad = outcome not in GOOD
        count.add(_kind(outcome) if bad else outcome, outcome if bad else None)
        if bad:
            first.setdefault(_kind(outcome), (len(count.faults) - 1, content))
        return False

    with Clock(count), world.place("fuzz") as place, contextlib.closing(Child(world, reader, place)) as child:
        outcomes = {child.ended(sample) for sample in samples}
        count.control = "read" if outcomes == {"read"} else f"refused: {sorted(outcomes - {'read'})[0]}"
        _find(samples, look, inputs, f"{seed} {reader.name}")
        for kind, (at, content) in list(first.items())[:SHRUNK]:

            def alike(other: bytes, kind: str = kind) -> bool:
                return _kind(child.ended(other)) == kind

            if not kind.startswith("slow"):  # each look at it would take as long
                content = _find(samples, alike, inputs, f"{seed} {reader.name}") or content
            file = Path(tempfile.gettempdir()) / f"fault-{re.sub(r'[^a-z]+', '-', reader.name)}-{at}"
            file.write_bytes(content)
            words = shlex.join(["python", "tests/faults", "--input", reader.name, str(file)])
            count.faults[at] += f"; {len(content):,} bytes: {words}"
    return count


def _find(samples: list[bytes], wanted: Callable[[bytes], bool], inputs: int, seed: str) -> bytes | None:
    """Return the smallest input that is wanted, of those that hypothesis draws and shrinks; the same for a seed."""
    rules = settings(max_examples=inputs, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))
    try:
        return find(
            mutated(samples), lambda view: wanted(view.obj), settings=rules, random=random.Random(seed)
        ).tobytes()
    except (NoSuchExample, Flaky):  # flaky: it does not end so every time
        return None


def _kind(outcome: str) -> str:
    return outcome.partition(": ")[0]


class Child:
    """A process that gives inputs to a reader, one after the other; after a fault another takes its place."""

    def __init__(self, world: World, reader: Reader, place: Path) -> None:
        self.world, self.reader, self.place = world, reader, place
        self.pid = self.asks = self.answers = 0

    def ended(self, content: bytes) -> str:
        """Return how the reader ended on an input: ``read``, ``one line``, or a kind of fault with more words."""
        before = set(self.world.root.iterdir())
        for left in self.place.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (self.place / self.reader.file).write_bytes(content)
        if not self.pid:
            self._start()
        os.write(self.asks, b"x")
        outcome = os.read(self.answers, select.PIPE_BUF).decode(errors="replace") if self._answers() else SLOW
        if strangers := set(self.world.root.iterdir()) - before:
            for stranger in strangers:
                shutil.rmtree(stranger) if stranger.is_dir() else stranger.unlink()
            outcome = f"wrote outside: {sorted(strangers)[0].name}"
        if (self.place / "EXECUTED").exists():
            outcome = "ran code"
        if outcome not in GOOD:
            outcome = outcome or f"died with {self.close()}"
            self.close()
        return outcome

    def _answers(self) -> bool:
        """Wait for an answer, or the end of the process; return whether there was one in time."""
        began, used = time.monotonic(), self._used()
        while not select.select([self.answers], [], [], SECONDS / 10)[0]:
            if self._used() - used > SECONDS or time.monotonic() - began > PATIENCE * SECONDS:
                return False
        return True

    def _used(self) -> float:
        """Return the seconds of the processor that the process has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> int:
        """End the process; return its exit code, or minus the signal that it died of."""
        if not self.pid:
            return 0
        os.kill(self.pid, signal.SIGKILL)  # of a dead one, not waited for yet, the code stays
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.asks)
        os.close(self.answers)
        self.pid = 0
        return code

    def _start(self) -> None:
        theirs, self.asks = os.pipe()
        self.answers, mine = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.asks)
            self._loop(theirs, mine)
        os.close(theirs)
        os.close(mine)

    def _loop(self, asks: int, answers: int) -> None:
        with contextlib.suppress(BaseException):
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.chdir(self.place)
            least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            while os.read(asks, 1):
                outcome = _read(self.world, self.reader, self.place / self.reader.file)
                if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - least > GIGABYTES * 1e6:
                    outcome = f"more than {GIGABYTES} GB"
                os.write(answers, outcome.encode(errors="replace")[: select.PIPE_BUF])
        os._exit(0)


def _read(world: World, reader: Reader, path: Path) -> str:
    from slmlp.runtime.errors import SlmlpError

    try:
        reader.read(world, path)
    except SlmlpError as error:
        return "one line" if "\n" not in str(error) else f"several lines: {str(error)[:80]!r}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}, line {last.lineno}: {str(error)[:120]!r}"
    return "read"


def again(world: World, name: str, file: Path) -> None:
    """Give one input to the reader of a name, in this process: a fault is a traceback."""
    [reader] = [reader for reader in readers() if reader.name == name]
    with world.place("fuzz") as place:
        print(reader.read(world, Path(shutil.copy(file, place / reader.file))))


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("EXECUTED", "w")


def _pickles(world: World, found: list[Reader]) -> Count:
    """Give every reader a pickle that would write a file: as itself, in a zip of torch, as an array of objects."""
    import torch

    count = Count("a pickle that runs code", "every reader")
    torch_file, numpy_file = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"conv1.weight": _Bomb()}}, torch_file)
    np.savez(numpy_file, x=np.array([_Bomb()], dtype=object), y=np.array([_Bomb()], dtype=object))
    bombs = [
        pickle.dumps(_Bomb()),
        pickle.dumps({"x": _Bomb()}, protocol=0),
        torch_file.getvalue(),
        numpy_file.getvalue(),
    ]
    with Clock(count):
        for reader in found:
            with world.place("fuzz") as place, contextlib.closing(Child(world, reader, place)) as child:
                for outcome in map(child.ended, bombs):
                    good = outcome in GOOD
                    count.add("refused" if good else outcome, None if good else f"{reader.name}: {outcome}")
    return count
