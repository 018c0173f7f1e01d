"""A folder's results: which numbers are there already, and adding those that are not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slmlp.results import records
from slmlp.results.records import Result, Score

Place = tuple[str, str]  # task, layer


@dataclass(frozen=True)
class Subject:
    """Whose numbers they are: the fields that every line of one run (or baseline, or kept epoch) shares."""

    run: str
    method: str
    encoder: str
    seed: int
    role: str
    epoch: int | None = None
    base_lr: float | None = None
    labels: str = "class"

    def file(self, task: str, data: str | None = None, detail: str = "", suffix: str = ".csv") -> str:
        """Return the name of the predictions file of a task, below a folder of the data's name where one is given."""
        epoch = "" if self.epoch is None else f"-epoch{self.epoch:04d}"
        parts = [slug(self.run) + epoch, task, *([slug(detail)] if detail else [])]
        return "/".join(["predictions", *([slug(data)] if data else []), "-".join(parts) + suffix])


def slug(name: str) -> str:
    """Return a name as a file may bear it."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "x"


@dataclass(frozen=True)
class ResultsStore:
    """The results file of a folder, and the predictions beside it."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where the lines go."""
        return self.folder / "results.jsonl"

    def known(
        self, subject: Subject, data: str, marks: Mapping[str, Mapping[str, str]], settings: Mapping[str, str]
    ) -> tuple[dict[Place, list[Result]], dict[Place, list[Result]]]:
        """Return the lines of a subject that may be trusted, by task and layer: its own, and those to be copied.

        A line counts with the same hashes ``marks`` of its task (task -> encoder, split or data ...), the same
        ``settings`` (task -> hash), and its predictions still there. Lines of the same weights under another role or
        epoch are those to be copied: the encoder kept after the last epoch is the final one.
        """
        own: dict[Place, list[Result]] = {}
        copies: dict[Place, list[Result]] = {}
        for row in records.read(self.file):
            if (
                (row.run, row.method, row.data) == (subject.run, subject.method, data)
                and row.task in settings
                and all(row.hashes.get(name) == value for name, value in marks[row.task].items())
                and row.extra.get("settings") == settings[row.task]
                and (row.predictions is None or (self.folder / row.predictions).exists())
            ):
                mine = (row.role, row.epoch) == (subject.role, subject.epoch)
                (own if mine else copies).setdefault((row.task, row.layer), []).append(row)
        return own, copies

    def copy(self, subject: Subject, rows: Sequence[Result]) -> None:
        """Add lines that are there under another role or epoch."""
        records.append(self.file, *(replace(row, role=subject.role, epoch=subject.epoch) for row in rows))

    def add(
        self, subject: Subject, task: str, data: str, scores: Sequence[Score], hashes: Mapping[str, str], settings: str,
        layer: str = "output", *, below_data: bool = False,
    ) -> list[Result]:  # fmt: skip
        """Write the predictions of the scores, then their lines, all of a task at once; return the lines.

        Scores without predictions name the file of the one before them, which they follow from.
        """
        rows: list[Result] = []
        file: str | None = None
        several = sum(score.predictions is not None for score in scores) > 1
        for score in scores:
            if score.scores is not None:
                file = subject.file(task, data if below_data else None, layer if layer != "output" else "", ".npz")
                records.write_scores(self.folder / file, score.scores)
            if score.predictions is not None:
                detail = "-".join([*([layer] if layer != "output" else []), *([score.metric] if several else [])])
                file = subject.file(task, data if below_data else None, detail)
                records.write_predictions(self.folder / file, score.predictions)
            extra: dict[str, Any] = {**score.extra, "settings": settings}
            rows.append(
                Result(
                    run=subject.run, method=subject.method, encoder=subject.encoder, seed=subject.seed, task=task,
                    data=data, metric=score.metric, value=score.value, n=score.n, role=subject.role,
                    epoch=subject.epoch, base_lr=subject.base_lr, labels=subject.labels, layer=layer,
                    interval=score.interval, hashes=dict(hashes), predictions=file, extra=extra,
                )
            )  # fmt: skip
        if rows:
            records.append(self.file, *rows)
        return rows
