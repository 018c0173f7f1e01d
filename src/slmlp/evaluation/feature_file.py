"""A file of features in place of an encoder, for the same tasks and result lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.data.published import TEST_SHARE
from slmlp.data.splits.parts import stratified_holdout
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import Sets, Source
from slmlp.probes.feature_files import chunks, read_arrays, rows_of
from slmlp.probes.features import Features
from slmlp.probes.multilabel import MultiLabel
from slmlp.probes.nearest import ROWS
from slmlp.results.records import Result
from slmlp.results.store import Subject
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

FROM_FILES = tuple(name for name, task in config.TASKS.items() if not task.needs_images)
SetOfImages = TypeVar("SetOfImages", Features, MultiLabel)


@dataclass(frozen=True)
class FileSource(Source):
    """The training and the test part of a file of features."""

    name: str
    parts: Sets
    file_hash: str
    data_hash: str
    found: dict[str, int] = field(default_factory=dict)  # see ``Result.warnings``

    def features(self, task: config.Task, layer: str) -> Sets:
        return self.parts

    def warnings(self, task: config.Task) -> dict[str, int]:
        return self.found

    def hashes(self, task: config.Task) -> dict[str, str]:
        return {"encoder": self.file_hash, "data": self.data_hash, "transform": "features"}


def evaluate_file(path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings) -> list[Result]:
    """Do the tasks on an .npz file of x (N, D) and y (N,) or (N, C), and return the lines, which ``folder`` keeps.

    ``parts`` (N,) of "train" and "test" in the file are used; without them 30 % of each class are drawn as test part.
    An ``x`` beside the file that takes more than ``cfg.probe.memory_limit_gb`` stays on the disk.
    """
    for task in tasks:
        if config.task_entry(task).needs_images:
            raise SlmlpError(
                f"--task {task} needs images, and {path} is a file of features; choose {', '.join(FROM_FILES)}"
            )
    limit = cfg.probe.memory_limit_gb
    arrays = read_arrays(path, limit)
    if isinstance(arrays["x"], np.memmap):
        _check_memory(path, arrays["x"], tasks, limit)
    if arrays["y"].ndim == 2:
        other = [task for task in tasks if not config.task_entry(task).several_labels]
        if other:
            raise SlmlpError(
                f"--task {other[0]}: images of {path} have several labels each (y is a matrix); choose linear"
            )
        source = _several_labels(path, arrays.get("parts"), folder, limit)
    else:
        source = _one_label(path, folder, limit)
    subject = Subject(path.stem, path.stem, "features", 0, "final")
    engine = Engine(folder, cfg)
    engine.run(subject, source, tasks)
    return engine.lines(engine.keys(subject, source, tasks))


def _one_label(path: Path, folder: Path, limit: float) -> FileSource:
    """Return the source of a file of one label per image."""
    features = Features.load(path, limit)
    parts, drawn = features.parts, 0
    if parts is None or set(parts.tolist()) == {"train"}:  # as slmlp features writes them of data without a test part
        test = stratified_holdout(np.array(features.classes)[features.y], features.groups, TEST_SHARE, 0, "test part")
        say(f"{path.name} names no test part: {test.sum():,} of {len(test):,} images drawn as test part, by class")
        parts, drawn = np.where(test, "test", "train"), int(test.sum())
    labels = [features.classes[y] for y in features.y]
    return _source(path, features, parts, labels, folder, drawn)


def _several_labels(path: Path, parts: npt.NDArray[Any] | None, folder: Path, limit: float) -> FileSource:
    """Return the source of a file whose ``y`` is a matrix (N, C) of 0 and 1."""
    features = MultiLabel.load(path, limit)
    if parts is None or parts.shape != (len(features),) or not set(parts.tolist()) <= {"train", "test"}:
        raise SlmlpError(f'{path}: images of several labels need parts (N,) of "train" and "test" alone in the file')
    return _source(path, features, parts.astype(np.str_), features.y.tolist(), folder)


def _source(
    path: Path, images: SetOfImages, parts: npt.NDArray[np.str_], labels: Sequence[Any], folder: Path, drawn: int = 0
) -> FileSource:
    """Return the source of training and test features; memory-mapped features stay on the disk."""
    sets = []
    for part in ("train", "test"):
        keep = parts == part
        if not keep.any():
            raise SlmlpError(f'{path}: parts must hold both "train" and "test", found no image of "{part}"')
        rest = replace(images, x=np.zeros((len(keep), 0), dtype=np.float32)).select(keep)
        sets.append(replace(rest, x=rows_of(images.x, keep, folder)))
    lines = (f"{name}\t{label}\t{part}" for name, label, part in zip(images.ids, labels, parts, strict=True))
    repeated = _repeated(sets[0].x, sets[1].x)
    say(
        f"{path.name}: {len(sets[0]):,} train, {len(sets[1]):,} test"
        + f" ({repeated:,} of them equal to a training image's features)" * (repeated > 0)
    )
    found = {"test_part_drawn": drawn, "duplicates_across_parts": repeated}
    return FileSource(
        path.stem, sets, files.sha256(chunks(path)), files.hash_names(lines), {key: n for key, n in found.items() if n}
    )


def _repeated(train: npt.NDArray[Any], test: npt.NDArray[Any]) -> int:
    """Return how many rows of the test part equal a row of the training part bit for bit."""
    seen = set(_row_hashes(train))
    return sum(one in seen for one in _row_hashes(test))


def _row_hashes(x: npt.NDArray[Any]) -> Iterator[bytes]:
    for start in range(0, len(x), ROWS):
        for row in np.ascontiguousarray(x[start : start + ROWS]):
            yield hashlib.blake2b(row.data, digest_size=16).digest()


def _check_memory(path: Path, x: npt.NDArray[Any], tasks: Sequence[str], limit: float) -> None:
    """Check that all tasks can read features block by block from the disk."""
    size, by_block = 4e-9 * x.size, [name for name, task in config.TASKS.items() if task.by_block]
    for task in tasks:
        if not config.task_entry(task).by_block:
            raise SlmlpError(
                f"--task {task} holds all features in memory: {path} takes {size:.3g} GB, and "
                f"--probe.memory-limit-gb is {limit:g}; raise it, or choose {', '.join(by_block)}"
            )
    say(f"{path.name}: {size:.3g} GB of features stay on the disk (--probe.memory-limit-gb {limit:g})")
