"""Thousands of steps, a clock that is set back, and one of several processes killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from counting import Acts, Count, Held, counted
from world import ALL, SMALL, World


def counts(world: World, tries: int, seed: int, done: Held) -> Iterator[Count]:
    """Yield the counts of memory, threads and files over 100 times ``tries`` steps, of the clock, and of torchrun."""
    acts: Acts = {
        ("many steps", f"pretrain, {100 * tries:,} steps"): partial(_flat, world, 100 * tries),
        ("the clock set back by a day", "every command, in its middle"): partial(_clock, world),
        ("kill -9 of one of two processes", "torchrun with one restart, pretrain"): partial(
            _one_of_two, world, max(1, tries // 10), seed
        ),
    }
    yield from counted(acts, done)


def _flat(world: World, steps: int, count: Count) -> None:
    words = ["pretrain", world.images, *SMALL, "--epochs", str(steps // 2), "--save-every", "0"]
    seen: list[tuple[int, int, int]] = []

    def watch(pid: int) -> None:
        while True:
            time.sleep(0.5)
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except OSError:
                return
            values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            if "VmRSS" not in values:
                return
            seen.append((int(values["VmRSS"].split()[0]), int(values["Threads"]), files))

    with world.place("flat") as place:
        ended = world.trial([*words, "--out", f"{place}/run"], meanwhile=watch, limit=3600)
        later = seen[len(seen) // 10 : -1]
        memory, threads, files = zip(*later, strict=True)
        half = len(memory) // 2
        grown = max(memory[half:]) / max(memory[:half]) - 1
        words_ = (
            f"{max(memory[:half]) / 1e3:.0f} MB then {max(memory[half:]) / 1e3:.0f} MB, {min(threads)}-{max(threads)} "
            f"threads, {min(files)}-{max(files)} files"
        )
        bad = (
            ended.code
            or grown > 0.03
            or max(threads[half:]) > max(threads[:half])
            or max(files[half:]) > max(files[:half]) + 2
        )
        count.add(words_, f"exit {ended.code}: {words_}" if bad else None)


def _clock(world: World, count: Count) -> None:
    for name, command in ALL.items():
        if not world.straight(name).exists():
            continue

        def turn_back() -> None:
            real, began = time.time, time.monotonic()
            time.time = lambda: real() - (86_400 if time.monotonic() - began > 0.2 else 0)

        with world.place(name) as place:
            ended = world.trial(command(world, place), before=turn_back)
            different = world.same(name, place) if ended.code == 0 else ended.last[:160]
            count.add("the same" if different is None else "differs", different and f"{name}: {different}")


def _one_of_two(world: World, tries: int, seed: int, count: Count) -> None:
    """Kill one process of two that torchrun started with one restart; where that fails, give the command again."""
    rng = random.Random(seed)
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        "--monitor-interval",
        "0.2",
    ]
    more = ["--epochs", "30", "--checkpoint-minutes", "0.005"]
    words = [sys.executable, *launcher, "-m", "slmlp", "pretrain", world.images, *SMALL, *more]
    expected: bytes | None = None
    for number in range(max(1, tries) + 1):
        place = world.root / f"two-{number}"
        out = place / "run"
        process = subprocess.Popen(
            [*words, "--out", str(out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if number:
            while process.poll() is None and not list(out.rglob("*.ckpt")):
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 1))
            victim = _a_worker(process.pid, rng)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
        try:
            error = process.communicate(timeout=300)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            error = process.communicate()[1] + "took more than 300 s"
        outcome = "recovered by itself" if process.returncode == 0 else "given again"
        if process.returncode:
            again = subprocess.run([*words, "--out", str(out)], capture_output=True, text=True, check=False)
            outcome = outcome if again.returncode == 0 else f"given again: exit {again.returncode}"
            error += again.stderr
        file = out / "encoder.safetensors"
        content = file.read_bytes() if file.exists() else b""
        if expected is None:
            expected = content
            count.control = "the same" if content else error[-200:]
            continue
        same = content == expected
        count.add(outcome, None if same else f"{outcome}: {error[-300:]!r}")
        shutil.rmtree(place, ignore_errors=True)


def _a_worker(launcher: int, rng: random.Random) -> int | None:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(rng.choice(children)) if children else None
