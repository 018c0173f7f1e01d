"""The folder of a study, read once; every number of the page is looked up here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from slmlp.results import records
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

SCHEMA = 1
REQUIRED = ("title", "machine", "versions", "data", "split", "settings", "methods", "seeds")


@dataclass(frozen=True)
class Spread:
    """A mean with the range beside it; what the range is depends on where the numbers come from."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, rows: Sequence[records.Result]) -> Spread | None:
        """Return the mean over seeds with lowest and highest, or the image interval where there is one run."""
        values = [row.value for row in rows]
        if len(values) > 1:
            return cls(fmean(values), min(values), max(values))
        return cls(values[0], *(rows[0].interval or (None, None))) if rows else None


@dataclass(frozen=True)
class Inputs:
    """What a study left behind, as it was written."""

    folder: Path
    study: dict[str, Any]
    rows: list[records.Result]
    verdict: dict[str, Any]  # empty where none was written
    tsne: dict[str, Any] | None

    @property
    def methods(self) -> list[str]:
        """Return the compared methods; the first is the baseline of every difference."""
        return list(self.study["methods"])

    @property
    def data(self) -> dict[str, Any]:
        """Return the facts of the data as counts, also where the loader's own, longer summary was written."""
        facts = dict(self.study["data"])
        classes = facts["classes"]
        if isinstance(classes, dict):  # name -> images of each part
            sizes = [sum(n for n in of.values() if isinstance(n, int)) for of in classes.values()]
            facts.setdefault("per_class", {"min": min(sizes), "median": median(sizes), "max": max(sizes)})
        if "duplicates_across_parts" in facts:
            facts.setdefault("duplicates", facts["duplicates_across_parts"])
        if isinstance(facts.get("ignored"), dict):  # reason -> files
            facts["ignored"] = sum(facts["ignored"].values())
        for key in ("classes", "superclasses", "unreadable", "duplicates"):
            if isinstance(facts.get(key), dict | list):
                facts[key] = len(facts[key])
        return facts

    @property
    def baselines(self) -> list[str]:
        """Return what the methods are held against (raw pixels, an untrained encoder ...), in order of appearance."""
        return list(dict.fromkeys(r.method for r in self.rows if r.role == "baseline" and r.method not in self.methods))

    @property
    def task(self) -> dict[str, Any]:
        """Return the verdict on the held-out classes; empty where none was written."""
        return dict((self.verdict.get("tasks") or {}).get(self.verdict.get("headline")) or {})

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """Return the verdict's comparisons; ``difference`` is b - a in percentage points."""
        return list(self.task.get("comparisons") or [])

    def better(self) -> set[str]:
        """Return the methods that the verdict supports as better than all they were compared with.

        A comparison counts when it has two seeds or more, its interval leaves out zero, and its p value, where one was
        given, stays under 0.05 after Holm's correction. A method that lost any comparison is not in the set.
        """
        won: set[str] = set()
        lost: set[str] = set()
        undecided: set[str] = set()
        for c in self.comparisons:
            low, high, p = c.get("low"), c.get("high"), c.get("p_holm")
            if low is None or high is None or low <= 0 <= high or (p is not None and p >= 0.05) or c["seeds"] < 2:
                undecided.add(c["a"])  # the baseline has to beat all; another method only the baseline
                continue
            first, second = (c["b"], c["a"]) if low > 0 else (c["a"], c["b"])
            won.add(first)
            lost.add(second)
        return won - lost - undecided

    def find(self, task: str, metric: str, method: str | None = None, role: str | None = None) -> list[records.Result]:
        """Return the lines of one metric; without a role, those of the end of training (``final`` or ``baseline``)."""
        roles = ("final", "baseline") if role is None else (role,)
        return [
            r
            for r in self.rows
            if r.task == task and r.metric == metric and r.role in roles and (method is None or r.method == method)
        ]

    def spread(self, task: str, metric: str, method: str) -> Spread | None:
        """Return the mean over seeds with lowest and highest, or the image interval where there is one run."""
        return Spread.of(self.find(task, metric, method))

    def seeds(self, method: str) -> int:
        """Return with how many seeds a method was trained and evaluated; a spec may ask for fewer than the study."""
        return len({r.seed for r in self.find("unseen", "accuracy", method)})

    def epochs_of(self, task: str, metric: str, method: str) -> dict[int, list[tuple[int, float]]]:
        """Return seed -> (epoch, value) in order, start and end of training included; only seeds with a curve.

        All methods of a seed start from one encoder; the baseline of seed 0 is the measured one, so it is epoch 0.
        """
        last = (self.study["settings"].get("training") or {}).get("epochs")
        last = (self.study.get("epochs") or {}).get(method, last)  # a contender may have its own
        lines: dict[int, dict[int, float]] = {}
        for r in self.find(task, metric, method, "curve"):
            if r.epoch is not None:
                lines.setdefault(r.seed, {})[r.epoch] = r.value
        for r in self.find(task, metric, method, "final"):
            epoch = r.epoch if r.epoch is not None else last
            if r.seed in lines and epoch is not None:
                lines[r.seed][epoch] = r.value
        start = "starting-encoder" if "starting-encoder" in self.baselines else "random-init"
        for r in self.find(task, metric, start, "baseline"):
            if r.seed in lines:
                lines[r.seed][0] = r.value
        return {seed: sorted(points.items()) for seed, points in sorted(lines.items())}

    def images(self, task: str, metric: str, role: str | None = None) -> str:
        """Return how many images are behind a metric, as text: "1,234", or "1,200 to 1,234" where lines differ."""
        counts = sorted({r.n for r in self.find(task, metric, role=role)})
        return " to ".join(f"{n:,}" for n in dict.fromkeys([counts[0], counts[-1]])) if counts else "unknown"


def read(folder: Path) -> Inputs:
    """Read what a study left in ``folder``; only ``study.json`` must be there, the rest may be missing."""
    path = folder / "study.json"
    if not path.exists():
        raise SlmlpError(f"{folder} holds no study.json: give the folder that `slmlp study` or `slmlp demo` wrote")
    study = files.read_json(path)
    if not isinstance(study, dict):
        raise SlmlpError(f"{path} must hold an object, found {type(study).__name__}")
    if study.get("schema", 0) > SCHEMA:
        raise SlmlpError(f"{path} was written by a newer slmlp (schema {study['schema']}, this one reads {SCHEMA})")
    missing = [key for key in REQUIRED if key not in study]
    if missing:
        raise SlmlpError(f"{path} lacks {', '.join(missing)}; run the study again to have it written")
    verdict, tsne = folder / "verdict.json", folder / "tsne.json"
    return Inputs(
        folder,
        study,
        records.read(folder / "results.jsonl"),
        files.read_json(verdict) if verdict.exists() else {},
        files.read_json(tsne) if tsne.exists() else None,
    )
