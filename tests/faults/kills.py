"""Kill commands, fill their disk, take their folder, signal them; then give the same command again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from counting import FULL, Acts, Count, Held, counted
from world import COMMANDS, Ended, World, anew, at_event, every_event, file_limit, no_byte_more, start, wait

STARTS = 2.0  # seconds in which a command loads its libraries
EVALUATED = 6  # numbers of accuracy that the evaluation prints: two of each task


def counts(world: World, tries: int, seed: int, done: Held) -> Iterator[Count]:
    """Yield the counts of every command: killed at each write, at random moments, ended by signals, on a full disk."""
    for name in COMMANDS:
        events, seconds = _straight(world, name)
        every = list(range(1, events + 1))
        some = every if events <= tries else sorted(random.Random(seed + 4).sample(every, tries))
        numbers = every if tries >= FULL or events <= tries else sorted(random.Random(seed).sample(every, tries))
        trials = Trials(world, name, tries, seconds, seed)
        kinds: Acts = {
            ("kill -9 at a write", f"{name} ({len(numbers)} of its {events} writes)"): partial(
                trials.at_writes, numbers
            ),
            ("kill -9 at a moment", name): trials.at_moments,
            ("SIGTERM or Ctrl-C", name): trials.signals,
            ("SIGTERM or Ctrl-C while it starts", name): trials.starting,
            ("four times SIGTERM or Ctrl-C", name): partial(trials.signals, times=4),
            ("SIGTERM at a write", f"{name} ({len(some)} of its {events} writes)"): partial(
                trials.signal_at_writes, some
            ),
            ("disk full from a write on", f"{name} ({len(numbers)} of its {events} writes)"): partial(
                trials.full_from, numbers
            ),
            ("a read-only folder, as another user", name): trials.read_only,
            ("disk full in a write", name): trials.full_disk,
            ("its folder removed", name): trials.folder_removed,
            ("two at once", name): trials.two_writers,
        }
        yield from counted(kinds, done)


def _straight(world: World, name: str) -> tuple[int, float]:
    """Return how often a command changes a file, and how long it takes."""
    with world.place(name) as place:
        file = world.root / f"events-{os.getpid()}"
        file.write_bytes(b"")

        def count() -> None:
            note = os.open(file, os.O_APPEND | os.O_WRONLY)
            every_event(place, lambda: os.write(note, b"x"))

        ended = world.trial(COMMANDS[name](world, place), before=count)
        assert ended.code == 0, ended.text
        return file.stat().st_size, ended.seconds


@dataclass(frozen=True)
class Trials:
    """Harm to one command, and what the same command makes of what is left."""

    world: World
    name: str
    tries: int
    seconds: float  # that the command takes
    seed: int

    def at_writes(self, numbers: Sequence[int], count: Count) -> None:
        """Kill it at its n-th change of a file."""
        for number in numbers:
            with self.world.place(self.name) as place:
                self._run(place, before=at_event(place, number, lambda: os.kill(os.getpid(), signal.SIGKILL)))
                outcome, fault = self._again(place)
                count.add(outcome, fault and f"write {number}: {fault}")
        self._control(count)

    def at_moments(self, count: Count) -> None:
        """Kill it at random moments."""
        rng = random.Random(self.seed)
        for _ in range(self.tries):
            moment = rng.uniform(0, self.seconds)
            with self.world.place(self.name) as place:
                self._run(place, meanwhile=lambda pid, at=moment: _after(pid, at, signal.SIGKILL))
                outcome, fault = self._again(place)
                count.add(outcome, fault and f"after {moment:.3f} s: {fault}")
        self._control(count)

    def signals(self, count: Count, times: int = 1) -> None:
        """Send SIGTERM or SIGINT at random moments, some within 0.02 s: exit 130, then the end of a straight run."""
        rng = random.Random(self.seed + times)
        for i in range(max(2, self.tries // 5)):
            moment, number = rng.uniform(0, self.seconds), (signal.SIGTERM, signal.SIGINT)[i % 2]
            with self.world.place(self.name) as place:
                ended = self._run(place, meanwhile=lambda pid, at=moment, n=number: _after(pid, at, *(n,) * times))
                outcome, fault = self._again(place)
                fault = _ugly(ended, (0, 130)) or fault
                count.add(
                    f"exit {ended.code}, then {outcome}", fault and f"{number.name} after {moment:.3f} s: {fault}"
                )

    def starting(self, count: Count) -> None:
        """Send SIGTERM or SIGINT in its first two seconds, while it loads its libraries: at most one line, no more."""
        rng = random.Random(self.seed + 5)
        for i in range(self.tries):
            moment, number = rng.uniform(0, STARTS), (signal.SIGTERM, signal.SIGINT)[i % 2]
            with self.world.place(self.name) as place:
                process, began = anew(COMMANDS[self.name](self.world, place))
                _after(process.pid, moment, number)
                text = process.communicate()[0]
                ended = Ended(process.returncode, text, time.monotonic() - began)
                outcome, fault = self._again(place)
                if ended.code in (1, -number) and "slmlp/__main__" not in text:  # Python itself was starting
                    how = "ended by the signal"
                else:
                    fault = _ugly(ended, (0, 130)) or fault
                    how = f"exit {ended.code}"
                count.add(f"{how}, then {outcome}", fault and f"{number.name} after {moment:.3f} s: {fault}")

    def signal_at_writes(self, numbers: Sequence[int], count: Count) -> None:
        """Send SIGTERM at its n-th change of a file: one line and exit 130, then the end of a straight run."""
        for number in numbers:
            with self.world.place(self.name) as place:
                ended = self._run(place, before=at_event(place, number, lambda: os.kill(os.getpid(), signal.SIGTERM)))
                outcome, fault = self._again(place)
                fault = _ugly(ended, (0, 130)) or fault
                count.add(f"exit {ended.code}, then {outcome}", fault and f"write {number}: {fault}")

    def full_from(self, numbers: Sequence[int], count: Count) -> None:
        """Let no byte be written from its n-th change of a file on: one line and exit 2, then, with room, the end."""
        for number in numbers:
            with self.world.place(self.name) as place:
                ended = self._run(place, before=at_event(place, number, no_byte_more))
                outcome, fault = self._again(place)
                fault = _ugly(ended, (0, 2)) or fault
                count.add(f"exit {ended.code}, then {outcome}", fault and f"full from write {number}: {fault}")

    def read_only(self, count: Count) -> None:
        """Give it a folder that its user may not write: empty, and with a finished result of somebody else's in it."""
        for full in (False, True):
            with self.world.place(self.name) as place:
                if full:
                    shutil.copytree(self.world.straight(self.name), place, dirs_exist_ok=True)
                before = _everything(place)
                place.chmod(0o555)
                ended = self._run(place, before=self.world.become_another)
                lines = [line for line in ended.text.splitlines() if line.startswith("slmlp: ")]
                fault = _ugly(ended, (0, 2) if full else (2,))
                if ended.code == 2 and (len(lines) != 1 or str(place) not in lines[0]):
                    fault = f"{len(lines)} lines of error, expected one that names the folder: {ended.last[:200]}"
                if _everything(place) != before:
                    fault = "it wrote there"
                what = "somebody's finished result" if full else "an empty folder"
                count.add(f"exit {ended.code} in {what}", fault and f"{what}: {fault}")

    def full_disk(self, count: Count) -> None:
        """Let no file grow beyond a random size: one line and exit 2, then, with room, the end of a straight run."""
        rng = random.Random(self.seed + 2)
        for size in [int(10 ** rng.uniform(1, 6.5)) for _ in range(max(3, self.tries // 3))]:
            with self.world.place(self.name) as place:
                ended = self._run(place, before=file_limit(size))
                outcome, fault = self._again(place)
                fault = _ugly(ended, (0, 2)) or fault
                count.add(f"exit {ended.code}, then {outcome}", fault and f"files of at most {size} bytes: {fault}")

    def folder_removed(self, count: Count) -> None:
        """Remove what it has written so far: one line and exit 2, or a whole end."""
        rng = random.Random(self.seed + 3)
        for _ in range(max(2, self.tries // 10)):
            moment = rng.uniform(0.1, 0.9) * self.seconds
            with self.world.place(self.name) as place:

                def take(pid: int, place: Path = place, moment: float = moment) -> None:
                    time.sleep(moment)
                    for inside in list(place.iterdir()):
                        shutil.rmtree(inside, ignore_errors=True)

                ended = self._run(place, meanwhile=take)
                wrong = _ugly(ended, (0, 2))
                printed = ended.text.count("accuracy\t")  # a column of the lines that a file or a pipe gets
                if ended.code == 0 and self.name == "evaluate" and printed != EVALUATED:
                    wrong = f"{printed} of {EVALUATED} accuracies are printed, and exit 0"
                if ended.code == 0 and self.name in ("features", "export"):
                    wrong = self.world.same(self.name, place)
                count.add(f"exit {ended.code}", wrong and f"after {moment:.3f} s: {wrong}")

    def two_writers(self, count: Count) -> None:
        """Start it twice at once: both are whole, or one is told that the other works."""
        for _ in range(max(1, self.tries // 20)):
            with self.world.place(self.name) as place:
                words = COMMANDS[self.name](self.world, place)
                ended = [wait(*one) for one in [start(words, lambda: None) for _ in range(2)]]
                codes = sorted(one.code for one in ended)
                told = next((one.last for one in ended if one.code == 2), "")
                fault = next((wrong for one in ended if (wrong := _ugly(one, (0, 2)))), None)
                if codes == [2, 2]:
                    fault = f"neither ends: {told[:160]}"
                elif told and not any(word in told for word in ("in use", "another command", "exists already")):
                    fault = f"the other is told {told[:160]}"
                fault = fault or self.world.same(self.name, place)
                count.add(f"exits {codes[0]} and {codes[1]}", fault and f"{self.name}: {fault}")

    def _run(self, place: Path, **how: Callable[..., None]) -> Ended:
        return self.world.trial(COMMANDS[self.name](self.world, place), **how)

    def _again(self, place: Path) -> tuple[str, str | None]:
        """Give the command again after harm; return how that ended, and the fault."""
        again = self._run(place)
        if again.code == 2 and "exists already" in again.last and self.name in ("features", "export"):
            return "whole before", self.world.same(self.name, place)
        if again.code:
            return f"exit {again.code}", f"{self.name}: the same command ends with {again.code}: {again.last[:200]}"
        different = self.world.same(self.name, place)
        return "bit for bit", different and f"{self.name}: {different}"

    def _control(self, count: Count) -> None:
        with self.world.place(self.name) as place:
            ended, (_, fault) = self._run(place), self._again(place)
            count.control = "the same" if ended.code == 0 and fault is None else f"differs: {fault or ended.last}"


def _after(pid: int, seconds: float, *numbers: signal.Signals) -> None:
    time.sleep(seconds)
    for number in numbers:
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        time.sleep(0.005)


def _everything(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in place.rglob("*")}


def _ugly(ended: Ended, codes: tuple[int, ...]) -> str | None:
    """Return what is wrong with how a command ended, or None."""
    if "Traceback (most recent call last)" in ended.text:
        return f"a traceback: {ended.last[:200]}"
    if "slmlp: the system: " in ended.text:
        return f"no file is named: {ended.last[:200]}"
    return None if ended.code in codes else f"exit {ended.code}: {ended.last[:200]}"
