"""The folder of a transfer suite, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmlp.report.inputs import Spread
from slmlp.results import records
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

SCHEMA = 1


@dataclass(frozen=True)
class SuiteInputs:
    """What a suite left behind, as it was written."""

    folder: Path
    about: dict[str, Any]  # suite.json
    verdict: dict[str, Any]  # verdict.json
    rows: list[records.Result]

    @property
    def methods(self) -> list[str]:
        """Return the encoders' names, those of untrained ones last; the first is the baseline of every difference."""
        return list(self.about["methods"])

    @property
    def untrained(self) -> list[str]:
        """Return the names of the untrained encoders."""
        return list(self.about["untrained"])

    @property
    def sets(self) -> list[str]:
        """Return the names of the data sets, in order."""
        return [facts["name"] for facts in self.about["data"]]

    @property
    def tasks(self) -> list[str]:
        """Return the tasks, in order."""
        return list(self.about["tasks"])

    def find(self, task: str, metric: str, method: str, data: str, layer: str = "output") -> list[records.Result]:
        """Return the lines of one number, one a seed."""
        wanted = (task, metric, method, data, layer)
        return [r for r in self.rows if (r.task, r.metric, r.method, r.data, r.layer) == wanted]

    def spread(self, task: str, metric: str, method: str, data: str, layer: str = "output") -> Spread | None:
        """Return the mean over seeds with lowest and highest, or the image interval where there is one run."""
        return Spread.of(self.find(task, metric, method, data, layer))

    def metrics(self, task: str) -> list[str]:
        """Return the metrics of a task, in the order they were written."""
        return list(dict.fromkeys(r.metric for r in self.rows if r.task == task))

    def layers(self, task: str, data: str, method: str) -> list[str]:
        """Return the layers of a task, first to last."""
        return list(dict.fromkeys(r.layer for r in self.rows if (r.task, r.data, r.method) == (task, data, method)))


def read(folder: Path) -> SuiteInputs:
    """Read what a suite left in ``folder``; lines of encoders, data or settings it no longer has are left out."""
    path = folder / "suite.json"
    if not path.exists():
        raise SlmlpError(f"{folder} holds no suite.json: give the folder that `slmlp suite` wrote")
    about = files.read_json(path)
    if about.get("schema", 0) > SCHEMA:
        raise SlmlpError(f"{path} was written by a newer slmlp (schema {about['schema']}, this one reads {SCHEMA})")
    verdict = folder / "verdict.json"
    return SuiteInputs(folder, about, files.read_json(verdict) if verdict.exists() else {}, current(folder, about))


def current(folder: Path, about: dict[str, Any]) -> list[records.Result]:
    """Return the result lines that belong to a suite as it was last run."""
    subjects = {(contender["run"], contender["name"]) for contender in about["encoders"]}
    sets = {facts["name"]: facts["hash"] for facts in about["data"]}
    return [
        row
        for row in records.read(folder / "results.jsonl")
        if (row.run, row.method) in subjects
        and row.hashes.get("data") == sets.get(row.data)
        and row.extra.get("settings") == about["task_settings"].get(row.task)
    ]
