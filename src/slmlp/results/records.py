"""Results: one JSON line per number, and files of the predictions behind it, so that any two runs can be paired."""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.config.names import behind
from slmlp.runtime import files, json_files, npz
from slmlp.runtime.errors import SlmlpError

WARNINGS = {  # what is counted; {part}: the part that was evaluated
    "duplicates_across_parts": "{part} images that equal a training image byte for byte",
    "repeated_images": "images that equal another one byte for byte, perhaps across folds",
    "test_part_drawn": "images drawn as test part, since the data has none of its own",
    "classes_without_test_images": "classes without a test image",
    "queries_left_out": "images that ask for nothing, since no image of their class is in their gallery, left out",
    "neighbours_at_most": "the most neighbours there are to look at, fewer than were asked for",
    "constant_weights": "weight tensors of the encoder that are one number throughout",
    "equal_features": "images whose features are all the same",
    "unreadable": "files that cannot be read and were left out",
    "left_out": "images and annotations that cannot be used and were left out",
}
LAYER_BEHIND = "projector.output"
SCHEMA = 2  # 2: layer; a line of schema 1 is of the encoder's output


@dataclass(frozen=True)
class Result:
    """One number of one run on one task, with the fields needed to reproduce it and pair it with another."""

    run: str  # folder name of the run; "raw-pixels", "random-init" ... for baselines; "timm:NAME" ... for others'
    method: str  # sl, sl-mlp, ..., or the baseline's or foreign encoder's name
    encoder: str
    seed: int
    task: str  # unseen, source, measures, or a task of the transfer suite
    data: str  # name of the data set
    metric: str  # accuracy, discriminative_ratio_source, ...
    value: float
    n: int  # images behind the value
    role: str = "final"  # final, grid (rate selection), curve (an epoch before the last), baseline
    epoch: int | None = None
    base_lr: float | None = None
    labels: str = "class"
    layer: str = "output"  # where the features were taken: the pooled output, or a layer's name
    interval: tuple[float, float] | None = None  # 95 %, images of this run only
    hashes: dict[str, str] = field(default_factory=dict)  # encoder, data, split, transform, pixels
    predictions: str | None = None  # file name below the results file's folder
    predictions_hash: str | None = None  # SHA-256 of that file
    lines: int = 0  # how many lines its task wrote at once; 0 where that is not known
    extra: dict[str, Any] = field(default_factory=dict)  # documented with the metric: chosen l2, k, floor ...
    warnings: dict[str, int] = field(default_factory=dict)  # what limits its meaning, counted: WARNINGS
    schema: int = SCHEMA

    def key(self) -> tuple[Any, ...]:
        """Return the fields that identify the number; a line with the same key replaces an earlier one."""
        return (self.run, self.method, self.seed, self.task, self.data, self.metric, self.role, self.epoch, self.layer)


def contender_name(row: Result) -> str:
    """Return the name that a line's contender has in verdicts: embeddings behind a projector have one of their own."""
    return behind(row.method) if row.layer == LAYER_BEHIND else row.method


def append(path: Path, *rows: Result) -> None:
    """Add the lines of one task, all of them or none, safely against a kill and a second writer."""
    json_files.append(path, *(dataclasses.asdict(replace(row, lines=len(rows))) for row in rows))


def read(path: Path) -> list[Result]:
    """Return every number of a results file, the newest line of each key, in the order of these lines."""
    if not path.exists():
        return []
    state = path.stat()
    return list(_rows(path, state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _rows(path: Path, *state: int) -> tuple[Result, ...]:
    """Read a file in this state; cached, since a study reads its thousands of lines again for every run."""
    rows: dict[tuple[Any, ...], Result] = {}
    for row in json_files.read_lines(path, Result, SCHEMA):
        rows.pop(row.key(), None)  # what was written together stays together
        rows[row.key()] = row
    return tuple(rows.values())


def intact(folder: Path, row: Result) -> bool:
    """Return whether the predictions behind a line, where there are any, are those that were written with it."""
    if row.predictions is None:
        return True
    path = folder / row.predictions
    return path.is_file() and row.predictions_hash in (None, file_hash(path))


def checked(folder: Path, row: Result) -> Path:
    """Return the file of predictions behind a line; SlmlpError where it is not the one that was written with it."""
    assert row.predictions is not None
    path = folder / row.predictions
    if not path.is_file():
        raise SlmlpError(f"{path} is missing: restore it, or the same command makes it again")
    if row.predictions_hash not in (None, file_hash(path)):
        raise SlmlpError(
            f"{path} was changed or damaged since it was written (its sha256 does not agree): restore it, or remove "
            "it, and the same command makes it again"
        )
    return path


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; remembered while its size and time stay the same."""
    state = path.stat()
    return _file_hash(path, state.st_ino, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _file_hash(path: Path, *state: int) -> str:
    return files.sha256(files.chunks(path))


@dataclass(frozen=True)
class Predictions:
    """Predictions of every image; arrays of length N in the order of the ids."""

    ids: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    predictions: npt.NDArray[np.str_]
    folds: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64] | None = None  # probability of the prediction, where the probe gives one
    values: npt.NDArray[np.float64] | None = None  # the image's own number, where that is more than right or wrong

    @property
    def correct(self) -> npt.NDArray[np.float64]:
        """What each image counts for in the mean: its value, else 1.0 where the prediction is the label."""
        if self.values is not None:
            return self.values
        hits: npt.NDArray[np.float64] = (self.labels == self.predictions).astype(np.float64)
        return hits


COLUMNS = ("id", "group", "label", "prediction", "fold")
MORE = ((), ("confidence",), ("value",))  # columns that may follow


def write_predictions(path: Path, rows: Predictions) -> None:
    """Write a CSV of image id, group, label, prediction, fold, and confidence or value where known, atomically.

    Values are written so that they are read again bit for bit.
    """
    header = [*COLUMNS]
    columns: list[Any] = [rows.ids, rows.groups, rows.labels, rows.predictions, rows.folds.tolist()]
    if rows.confidence is not None:
        header.append("confidence")
        columns.append([f"{value:.6g}" for value in rows.confidence.tolist()])
    if rows.values is not None:
        header.append("value")
        columns.append(rows.values.tolist())
    with files.atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def read_predictions(path: Path) -> Predictions:
    """Read what ``write_predictions`` wrote.

    Raises:
        SlmlpError: the file cannot be read, has other columns, or lines of another number of fields.
    """
    try:
        with path.open(newline="") as file:
            columns = _columns(file)
        ids, groups, labels, predictions = (np.array(columns[name], dtype=np.str_) for name in COLUMNS[:4])
        folds = np.array(columns["fold"], dtype=np.int64)
        confidence, values = (
            np.array(columns[name], dtype=np.float64) if name in columns else None for name in ("confidence", "value")
        )
    except OSError as error:
        raise SlmlpError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise SlmlpError(
            f"{path} is no predictions file, or a damaged one ({error}): remove it, and the same command makes it again"
        ) from error
    return Predictions(ids, groups, labels, predictions, folds, confidence, values)


def _columns(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of a predictions file by their names in its header."""
    reader = csv.reader(lines)
    header = next(reader, [])
    if header not in ([*COLUMNS, *more] for more in MORE):
        raise ValueError(f"its columns are {', '.join(header)}")
    fields: list[str] = []  # of all lines, one after the other: a list for each of a million lines takes twice as long
    for row in reader:
        if len(row) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(row)} of {len(header)} fields")
        fields += row
    return {name: fields[i :: len(header)] for i, name in enumerate(header)}


@dataclass(frozen=True)
class Scores:
    """Scores of every image and class, of several labels an image or of novelty; rows in the order of the ids."""

    ids: npt.NDArray[np.str_]  # (N,)
    groups: npt.NDArray[np.str_]  # (N,)
    classes: tuple[str, ...]
    on: npt.NDArray[np.bool_]  # (N, C) the labels
    scores: npt.NDArray[np.float32]  # (N, C) the higher, the surer


def write_scores(path: Path, rows: Scores) -> None:
    """Write .npz of ``ids``, ``groups``, ``classes``, ``on`` and ``scores``, atomically."""
    names = np.array(rows.classes, dtype=np.str_)
    arrays = {"ids": rows.ids, "groups": rows.groups, "classes": names, "on": rows.on, "scores": rows.scores}
    npz.write(path, arrays, compress=True)


def read_scores(path: Path) -> Scores:
    """Read what ``write_scores`` wrote."""
    try:
        arrays = npz.read(path)
        classes = tuple(map(str, arrays["classes"]))
        return Scores(arrays["ids"], arrays["groups"], classes, arrays["on"], arrays["scores"])
    except (npz.DamagedError, KeyError) as error:
        raise SlmlpError(f"{path} cannot be read ({error}): remove it, and the same command makes it again") from error


@dataclass(frozen=True)
class Score:
    """One number of a task."""

    metric: str  # accuracy, mean_class_accuracy, ece, accuracy_at_16_shots, ...
    value: float  # shares are 0 to 1
    n: int  # images (few-shot: queries) behind it
    interval: tuple[float, float] | None = None  # 95 % over groups of this encoder's images only
    predictions: Predictions | None = None  # of this number alone; None where it follows from another score's
    extra: dict[str, Any] = field(default_factory=dict)  # chosen l2, gradient norm, episodes ...
    scores: Scores | None = None  # in place of predictions, where the number is no mean over images
    warnings: dict[str, int] = field(default_factory=dict)  # what limits its meaning beside the images: WARNINGS
