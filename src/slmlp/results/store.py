"""A folder's results: which numbers are missing, and adding them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slmlp.results import records
from slmlp.results.records import Result, Score
from slmlp.runtime import files


@dataclass(frozen=True)
class Subject:
    """The fields that all lines of one run, baseline or kept epoch share."""

    run: str
    method: str
    encoder: str
    seed: int
    role: str
    epoch: int | None = None
    base_lr: float | None = None
    labels: str = "class"

    def file(self, task: str, data: str, detail: str = "", suffix: str = ".csv") -> str:
        """Return the name of the predictions file of a task on a data set, below the results folder."""
        epoch = "" if self.epoch is None else f"-epoch{self.epoch:04d}"
        parts = [slug(self.run) + epoch, task, *([slug(detail)] if detail else [])]
        return f"predictions/{slug(data)}/{'-'.join(parts)}{suffix}"


def slug(name: str) -> str:
    """Return a name with the characters that file names may have."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "x"


@dataclass(frozen=True)
class Key:
    """The identity of numbers: subject, task, data set, layer, and hashes of what they are computed from."""

    subject: Subject
    task: str
    data: str
    hashes: Mapping[str, str]  # encoder, data, transform, pixels, split ...; lines with others are not these numbers
    settings: str  # hash of the settings that decide them
    layer: str = "output"

    @property
    def place(self) -> tuple[str, ...]:
        """The fields of a key that a line must share, whatever its role and epoch."""
        return (self.subject.run, self.subject.method, self.data, self.task, self.layer)


@dataclass(frozen=True)
class ResultsStore:
    """The results file of a folder, and the predictions beside it."""

    folder: Path

    @property
    def file(self) -> Path:
        """The results file."""
        return self.folder / "results.jsonl"

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Return the keys without a line of the same subject, hashes and settings whose predictions are still there."""
        keys = list(keys)
        return [key for key, lines in zip(keys, self.lines_by_key(keys), strict=True) if not lines]

    def lines_by_key(self, keys: Sequence[Key]) -> list[list[Result]]:
        """Return the lines of each key; of a key that is missing, none."""
        return [_own(key, lines) for key, lines in zip(keys, self._lines(keys), strict=True)]

    def copy(self, key: Key) -> bool:
        """Add the lines of the same weights under another role or epoch as those of the key; False where none are."""
        (lines,) = self._lines([key])
        kinds = dict.fromkeys((row.role, row.epoch) for row in lines)
        whole = next((found for kind in kinds if (found := _whole(lines, *kind))), [])
        rows = [replace(row, role=key.subject.role, epoch=key.subject.epoch) for row in whole]
        if rows:
            records.append(self.file, *rows)
        return bool(rows)

    def _lines(self, keys: Sequence[Key]) -> list[list[Result]]:
        """Return for each key the usable lines of any role and epoch."""
        places: dict[tuple[str, ...], list[Result]] = {}
        for row in records.read(self.file):
            places.setdefault((row.run, row.method, row.data, row.task, row.layer), []).append(row)
        return [
            [
                row
                for row in places.get(key.place, [])
                if _of(row, key.hashes)
                and row.extra.get("settings") == key.settings
                and records.intact(self.folder, row)
            ]
            for key in keys
        ]

    def add(self, key: Key, scores: Sequence[Score], warnings: Mapping[str, int]) -> None:
        """Write the predictions of the scores, then the lines, all at once, each with the ``warnings`` and its own.

        Scores without predictions name the file of the score before them, from which they follow.
        """
        subject, layer = key.subject, [key.layer] if key.layer != "output" else []
        several = sum(score.predictions is not None or score.scores is not None for score in scores) > 1
        rows: list[Result] = []
        file: str | None = None
        for score in scores:
            detail = "-".join([*layer, *([score.metric] if several else [])])
            if score.scores is not None:
                file = subject.file(key.task, key.data, detail, ".npz")
                records.write_scores(self.folder / file, score.scores)
            if score.predictions is not None:
                file = subject.file(key.task, key.data, detail)
                records.write_predictions(self.folder / file, score.predictions)
            extra: dict[str, Any] = {**score.extra, "settings": key.settings}
            rows.append(
                Result(
                    run=subject.run, method=subject.method, encoder=subject.encoder, seed=subject.seed, task=key.task,
                    data=key.data, metric=score.metric, value=score.value, n=score.n, role=subject.role,
                    epoch=subject.epoch, base_lr=subject.base_lr, labels=subject.labels, layer=key.layer,
                    interval=score.interval, hashes=dict(key.hashes), predictions=file,
                    predictions_hash=records.file_hash(self.folder / file) if file else None, extra=extra,
                    warnings={**warnings, **score.warnings},
                )
            )  # fmt: skip
        if rows:
            records.append(self.file, *rows)


def _of(row: Result, hashes: Mapping[str, str]) -> bool:
    """Return whether a line is of these hashes; pixels are compared where both were decoded alike."""
    rest = {name: value for name, value in hashes.items() if name != "pixels"}
    changed = files.contradicts(hashes.get("pixels"), row.hashes.get("pixels"))
    return rest.items() <= row.hashes.items() and not changed


def _own(key: Key, lines: Sequence[Result]) -> list[Result]:
    """Return the lines that have the role and epoch of a key; none where a kill left some of them out."""
    return _whole(lines, key.subject.role, key.subject.epoch)


def _whole(lines: Sequence[Result], role: str, epoch: int | None) -> list[Result]:
    """Return the lines of a role and epoch where all that were written together are there, else none."""
    own = [row for row in lines if (row.role, row.epoch) == (role, epoch)]
    return own if own and len(own) >= max(row.lines for row in own) else []
