"""Flip a bit or cut the end of every file that numbers come from, and see what its reader makes of that."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from counting import FULL, Clock, Count, Held
from world import ALL, World, snapshot

WRITTEN = {"results.jsonl", "verdict.json"}  # what the command writes is never left damaged
HARMLESS = {"report.html", ".slmlp", "README.md"}  # read by nobody, or written anew


@dataclass(frozen=True)
class Subject:
    """A folder of files, and the command that makes numbers from them."""

    name: str
    folder: str  # below the world's root
    words: Callable[[World, Path], list[str]]
    result: str  # folder of the results of that command below the trial's
    cheap: bool = False  # a trial takes about a second: from 100 tries on five times as many are made


def subjects(world: World) -> Sequence[Subject]:
    """Return what is damaged."""
    again = {name: (lambda w, place, n=name: ALL[n](w, place)) for name in ALL}

    def of_run(w: World, place: Path) -> list[str]:
        command, _, *rest = ALL["evaluate"](w, place)
        return [command, f"{place}/run", *rest]

    def of_file(w: World, place: Path) -> list[str]:
        file = f"{place}/straight-features/f.npz"
        return ["evaluate", file, "--task", "centroid", "--out", f"{place}/evaluation"]

    return [
        Subject("a finished run, evaluated", "straight-pretrain/run", of_run, "evaluation", cheap=True),
        Subject("a run killed half-way, given again", "half/run", again["pretrain"], "run"),
        Subject("a study, given again", "straight-study/study", again["study"], "study"),
        Subject(
            "an evaluation, given again", "straight-evaluate/evaluation", again["evaluate"], "evaluation", cheap=True
        ),
        Subject("a suite, given again", "straight-suite/suite", again["suite"], "suite"),
        Subject("a detection, given again", "straight-detect/detect", again["detect"], "detect"),
        Subject("a file of features, evaluated", "straight-features", of_file, "evaluation", cheap=True),
    ]


def counts(world: World, tries: int, seed: int, done: Held) -> Iterator[Count]:
    """Yield, for each subject, the counts of flipped bits and of cuts."""
    for subject in subjects(world):
        if not (world.root / subject.folder).exists():
            continue
        damaged = _files(world, subject)
        what = f"{subject.name} ({len(damaged)} files)"
        harms = [harm for harm in ("a flipped bit", "a cut") if (harm, what) not in done]
        expected, control = _control(world, subject) if harms else ({}, "")
        for harm in harms:
            count = Count(harm, what, control=control)
            rng = random.Random(f"{seed} {subject.name} {harm}")
            with Clock(count):
                for file in damaged:
                    for _ in range(max(1, tries // (2 if subject.cheap and tries >= FULL else 10))):
                        _try(world, subject, file, harm, rng, expected, count)
            yield count


def _files(world: World, subject: Subject) -> list[Path]:
    root = world.root / subject.folder
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path.relative_to(root) for path in files if path.name not in HARMLESS and "tensorboard" not in path.parts]


def _control(world: World, subject: Subject) -> tuple[dict[str, bytes], str]:
    """Return the results of the command on undamaged files, and whether giving it twice gives the same."""
    found = []
    for _ in range(2):
        with world.place("damage") as place:
            _copy(world, subject, place)
            ended = world.trial(subject.words(world, place))
            assert ended.code == 0, f"{subject.name}: {ended.text}"
            found.append(_numbers(place / subject.result))
    return found[0], "the same" if found[0] == found[1] else "differs"


def _try(
    world: World, subject: Subject, file: Path, harm: str, rng: random.Random, expected: dict[str, bytes], count: Count
) -> None:
    with world.place("damage") as place:
        target = _copy(world, subject, place) / file
        content = bytearray(target.read_bytes())
        at = rng.randrange(len(content))
        if harm == "a cut":
            del content[at:]
        else:
            content[at] ^= 1 << rng.randrange(8)
        target.write_bytes(content)
        ended = world.trial(subject.words(world, place))
        where = f"{subject.name}: {file} at {at} of {len(content)}"
        if "Traceback (most recent call last)" in ended.text or ended.code not in (0, 2):
            count.add("a traceback", f"{where}: exit {ended.code}, {ended.last[:200]}")
        elif ended.code == 2:
            named = file.name in ended.text or file.stem in ended.text
            count.add("named, exit 2", None if named else f"{where}: the file is not named: {ended.last[:200]}")
        elif _same(_numbers(place / subject.result), expected, target):
            count.add("the same numbers")
        else:
            count.add("other numbers", f"{where}: other numbers, and exit 0")


def _same(found: dict[str, bytes], expected: dict[str, bytes], target: Path) -> bool:
    """Return whether the numbers are those of undamaged files; the damaged file itself may stand there, unread."""
    left = {name for name in expected if found.get(name) != expected[name]} | (found.keys() - expected.keys())
    return all(target.as_posix().endswith(f"/{name}") and target.name not in WRITTEN for name in left)


def _copy(world: World, subject: Subject, place: Path) -> Path:
    target = place / Path(subject.folder).name
    shutil.copytree(world.root / subject.folder, target)
    return target


def _numbers(folder: Path) -> dict[str, bytes]:
    """Return the results and the predictions behind them, and of a run its weights."""
    keep = ("results.jsonl", "verdict.json", "encoder.safetensors", "detector.safetensors", "split.json")
    files = snapshot(folder)
    return {name: files[name] for name in files if Path(name).name in keep or "predictions" in name}
