"""Read the folder of a study, suite or detection once; the page looks every number up here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NotRequired, TypedDict

from slmlp.config.names import behind
from slmlp.results import records
from slmlp.results.records import LAYER_BEHIND, Result
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError

SCHEMA = 1
KINDS = {"detection": "detect.json", "suite": "suite.json", "study": "study.json"}
MANY = 6  # sentences of a verdict: with more, only those that lead stay
AT_THE_END = ("final", "baseline")  # roles of numbers taken at the end of training


class About(TypedDict):
    """What must be in the file of every kind; further fields are shown where they are there."""

    schema: NotRequired[int]
    title: str
    machine: dict[str, Any]
    versions: dict[str, str | None]
    settings: dict[str, Any]


class StudyFile(About):
    """What must be in study.json."""

    data: dict[str, Any]
    split: dict[str, Any]
    methods: list[str]
    seeds: int
    task_settings: NotRequired[dict[str, str] | None]


class SuiteEncoder(TypedDict):
    """An encoder in suite.json."""

    run: str
    name: str


class SuiteData(TypedDict):
    """A data set in suite.json."""

    name: str
    hash: str


class SuiteFile(About):
    """What must be in suite.json."""

    encoders: list[SuiteEncoder]
    data: list[SuiteData]
    methods: list[str]
    task_settings: dict[str, str]


class DetectFile(About):
    """What must be in detect.json."""

    data: str
    parts: list[str]
    main: str
    images: int
    rows: list[dict[str, Any]]
    resolved: dict[str, Any]


class VerdictFile(TypedDict):
    """What must be in verdict.json."""

    schema: NotRequired[int]
    sentences: list[str]
    lead: NotRequired[int]
    note: NotRequired[str | None]
    headline: NotRequired[str | None]
    tasks: dict[str, dict[str, Any]]


ABOUT: dict[str, Any] = {"detection": DetectFile, "suite": SuiteFile, "study": StudyFile}


@dataclass(frozen=True)
class Spread:
    """A mean and the range beside it."""

    mean: float
    low: float | None
    high: float | None

    @property
    def percent(self) -> tuple[float, float | None, float | None]:
        """Return all three in percent, where they are shares."""
        low, high = (None if end is None else 100 * end for end in (self.low, self.high))
        return 100 * self.mean, low, high

    @classmethod
    def of(cls, rows: Sequence[Result]) -> Spread | None:
        """Return the mean over seeds with lowest and highest, or the image interval where there is one run."""
        values = [row.value for row in rows]
        if len(values) > 1:
            return cls(fmean(values), min(values), max(values))
        return cls(values[0], *(rows[0].interval or (None, None))) if rows else None


@dataclass(frozen=True)
class Inputs:
    """What the folder holds, as it was written."""

    folder: Path
    kind: str  # a key of KINDS
    about: dict[str, Any]  # the file that KINDS names
    rows: list[Result]
    verdict: dict[str, Any]  # verdict.json; empty where none was written

    @property
    def methods(self) -> list[str]:
        """Return the names of the contenders; the first is the baseline of every difference."""
        return list(self.about["methods"])

    @property
    def baselines(self) -> list[str]:
        """Return the baselines (raw pixels, an untrained encoder ...) that are no method, in order of appearance."""
        return list(dict.fromkeys(r.method for r in self.rows if r.role == "baseline" and r.method not in self.methods))

    @property
    def task(self) -> dict[str, Any]:
        """Return the verdict of the task in the headline; empty where none was written."""
        return dict((self.verdict.get("tasks") or {}).get(self.verdict.get("headline")) or {})

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """Return the comparisons of that task; ``difference`` is b - a in percentage points."""
        return list(self.task.get("comparisons") or [])

    @property
    def opening(self) -> tuple[list[str], list[str]]:
        """Return the verdict's sentences that stay, and those that are folded away where there are many."""
        sentences = list(self.verdict.get("sentences") or [])
        lead = self.verdict.get("lead", 1) if len(sentences) > MANY and self.comparisons else len(sentences)
        return sentences[:lead], sentences[lead:]

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Return the comparisons of that task besides those with the baseline: each method with an MLP and without."""
        return list(self.task.get("pairs") or [])

    def mean(self, task: str, metric: str, method: str) -> dict[str, Any] | None:
        """Return the verdict's mean of a contender, in percent; None where it has none."""
        verdict = (self.verdict.get("tasks") or {}).get(f"{task} {metric}") or {}
        return (verdict.get("means") or {}).get(method)

    def places(self, task: str, method: str) -> list[tuple[str, str]]:
        """Return the contender's name and layer, and those behind its projector where the task was done there too."""
        there = any((r.task, r.method, r.layer) == (task, method, LAYER_BEHIND) for r in self.rows)
        return [(method, "output"), *([(behind(method), LAYER_BEHIND)] if there else [])]

    def find(
        self, task: str, metric: str, method: str | None = None, *, role: str | None = None, data: str | None = None,
        layer: str = "output",
    ) -> list[Result]:  # fmt: skip
        """Return the lines of one number, one per seed; without a role, those of the end of training."""
        roles = AT_THE_END if role is None else (role,)
        return [
            r
            for r in self.rows
            if (r.task, r.metric, r.layer) == (task, metric, layer)
            and r.role in roles
            and method in (None, r.method)
            and data in (None, r.data)
        ]

    def spread(
        self, task: str, metric: str, method: str, *, data: str | None = None, layer: str = "output"
    ) -> Spread | None:
        """Return the mean over seeds with lowest and highest, or the image interval where there is one run."""
        return Spread.of(self.find(task, metric, method, data=data, layer=layer))

    def images(self, task: str, metric: str, role: str | None = None) -> str:
        """Return how many images are behind a metric, as text: "1,234", or "1,200 to 1,234" where lines differ."""
        counts = sorted({r.n for r in self.find(task, metric, role=role)})
        return " to ".join(f"{n:,}" for n in dict.fromkeys([counts[0], counts[-1]])) if counts else "unknown"

    def better(self) -> set[str]:
        """Return the methods that the verdict supports as better than all they were compared with.

        A comparison counts when it has two seeds or more, its interval leaves out zero, and its p value, where one was
        given, stays under 0.05 after Holm's correction. A method that lost any comparison is not in the set.
        """
        won: set[str] = set()
        lost: set[str] = set()
        undecided: set[str] = set()
        for c in self.comparisons:
            if not found(c) or c["seeds"] < 2:
                undecided.add(c["a"])  # the baseline has to beat all; another method only the baseline
                continue
            winner, loser = (c["b"], c["a"]) if c["low"] > 0 else (c["a"], c["b"])
            won.add(winner)
            lost.add(loser)
        return won - lost - undecided


def found(comparison: Mapping[str, Any]) -> bool:
    """Return whether a comparison found a difference: its interval leaves out zero, its corrected p is under 0.05."""
    low, high, p = (comparison.get(key) for key in ("low", "high", "p_holm"))
    return low is not None and high is not None and not low <= 0 <= high and (p is None or p < 0.05)


def read(folder: Path) -> Inputs:
    """Read what a command left in ``folder``; only the file that ``KINDS`` names must be there."""
    kind = next((kind for kind, name in KINDS.items() if (folder / name).exists()), None)
    if kind is None:
        raise SlmlpError(
            f"{folder} holds no study.json, suite.json or detect.json: give the folder that `slmlp study`, `slmlp "
            "demo`, `slmlp compare`, `slmlp suite` or `slmlp detect` wrote"
        )
    path = folder / KINDS[kind]
    about = json_files.read(path, dict[str, Any], f"run the {kind} again to have it written")
    schema = about.get("schema", 0)
    if isinstance(schema, int) and schema > SCHEMA:
        raise SlmlpError(f"{path} was written by a newer slmlp (schema {schema}, this one reads {SCHEMA})")
    about = json_files.convert(about, ABOUT[kind], str(path), f"run the {kind} again to have it written")
    verdict = folder / "verdict.json"
    rows = suite_rows(folder, about) if kind == "suite" else _own(records.read(folder / "results.jsonl"), about)
    return Inputs(folder, kind, about, rows, dict(json_files.read(verdict, VerdictFile)) if verdict.exists() else {})


def _own(rows: list[Result], about: dict[str, Any]) -> list[Result]:
    """Return the lines of the settings that a study was last run with, where it says which."""
    settings = about.get("task_settings") or {}
    return [row for row in rows if settings.get(row.task) in (None, row.extra.get("settings"))]


def suite_rows(folder: Path, about: dict[str, Any]) -> list[Result]:
    """Return the lines of the encoders, data and settings that a suite was last run with."""
    contenders = {(contender["run"], contender["name"]) for contender in about["encoders"]}
    hashes = {facts["name"]: facts["hash"] for facts in about["data"]}
    return [
        row
        for row in records.read(folder / "results.jsonl")
        if (row.run, row.method) in contenders
        and row.hashes.get("data") == hashes.get(row.data)
        and row.extra.get("settings") == about["task_settings"].get(row.task)
    ]
