"""Count what was tried and how it ended, and print the counts as a table."""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@functools.cache
def commit() -> str:
    """Return the commit that is tried, with ``+`` where files were changed; empty where git does not know."""
    root = Path(__file__).resolve().parents[2]
    words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


FULL = 100  # tries from which a count is the whole one: every write, five times the damage where it is cheap


@dataclass
class Count:
    """Tries of one kind of harm to one thing."""

    part: str  # "kill", "damage" ...
    what: str  # what is harmed, and how
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)  # one line each: how to see it again
    control: str = "–"  # the same without harm
    seconds: float = 0.0
    commit: str = field(default_factory=lambda: commit())  # of the code that was tried

    def add(self, outcome: str, fault: str | None = None) -> None:
        """Count one try; ``fault`` says what went wrong, None where nothing did."""
        self.outcomes[outcome] += 1
        if fault is not None:
            self.faults.append(fault)

    @property
    def tries(self) -> int:
        """How many were made."""
        return self.outcomes.total()


def held(file: Path | None) -> dict[tuple[str, str], Count]:
    """Return the counts that a file keeps, by harm and what it was done to; the newest of each."""
    if file is None or not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {
        (row["part"], row["what"]): Count(**{"commit": "", **row, "outcomes": Counter(row["outcomes"])}) for row in rows
    }


def keep(file: Path, count: Count) -> None:
    """Add a count to a file."""
    with file.open("a") as opened:
        opened.write(json.dumps({**vars(count), "outcomes": dict(count.outcomes)}) + "\n")


@dataclass(frozen=True)
class Held:
    """Counts that are not made, by harm and what it would be done to: kept ones, and kinds of harm not asked for."""

    kept: Container[tuple[str, str]]
    harms: Container[str] | None = None  # None: every kind

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Return whether the count is left out."""
        return key in self.kept or (self.harms is not None and key[0] not in self.harms)


Acts = dict[tuple[str, str], Callable[[Count], None]]


class Clock:
    """Seconds that a count took."""

    def __init__(self, count: Count) -> None:
        self.count, self.began = count, time.monotonic()

    def __enter__(self) -> Count:
        """Return the count."""
        return self.count

    def __exit__(self, *_: object) -> None:
        """Note the seconds."""
        self.count.seconds += time.monotonic() - self.began


def counted(acts: Acts, done: Held) -> Iterator[Count]:
    """Yield the count of each act, by harm and what it is done to, that is not kept already."""
    for key, act in acts.items():
        if key not in done:
            count = Count(*key)
            with Clock(count):
                act(count)
            yield count


def table(counts: Sequence[Count]) -> str:
    """Return the counts in Markdown."""
    lines = [
        "| harm | to | tries | without a fault | how they ended | the same without harm |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for c in sorted(counts, key=lambda c: (c.part, c.what)):
        ended = ", ".join(f"{n:,} {words}" for words, n in c.outcomes.most_common())
        lines.append(f"| {c.part} | {c.what} | {c.tries:,} | {c.tries - len(c.faults):,} | {ended} | {c.control} |")
    total, bad = sum(c.tries for c in counts), sum(len(c.faults) for c in counts)
    lines.append(f"| all | | {total:,} | {total - bad:,} | | |")
    return "\n".join(lines)
