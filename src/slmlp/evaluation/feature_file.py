"""A file of features in place of an encoder: whatever made them, the same tasks and the same lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.data.published import TEST_SHARE
from slmlp.data.splits.parts import stratified_holdout
from slmlp.evaluation.room import answer, settings_hash
from slmlp.evaluation.tasks.linear import multilabel
from slmlp.probes.feature_files import chunks, read_arrays, rows_of
from slmlp.probes.features import Features
from slmlp.probes.multilabel import MultiLabel
from slmlp.results.records import Result, Score, read
from slmlp.results.store import ResultsStore, Subject
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

TASKS = ("linear", "knn", "centroid", "fewshot", "labels")
IN_BLOCKS = ("linear", "knn", "centroid")  # tasks that read features block by block, from the disk too
SetOfImages = TypeVar("SetOfImages", Features, MultiLabel)


def evaluate_file(path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings) -> list[Result]:
    """Do the tasks on an .npz file of x (N, D) and y (N,), and return the lines, which are added to ``folder``.

    ``parts`` (N,) of "train" and "test" in the file are used; without them 30 % of each class are drawn as test part.
    Features that take more than ``cfg.probe.memory_limit_gb`` stay on the disk.
    """
    for task in tasks:
        if task not in TASKS:
            raise SlmlpError(f"--task {task} needs images, and {path} is a file of features; choose {', '.join(TASKS)}")
    limit = cfg.probe.memory_limit_gb
    arrays = read_arrays(path, limit)
    large = isinstance(arrays["x"], np.memmap)
    if large:
        _refuse_what_needs_memory(path, arrays["x"], tasks, limit)
    if arrays["y"].ndim == 2:
        return _several_labels(path, tasks, folder, cfg)
    features = Features.load(path, limit)
    parts = features.parts
    if parts is None:
        held = stratified_holdout(np.array(features.classes)[features.y], features.groups, TEST_SHARE, 0, "test part")
        say(f"{path.name} names no parts: {held.sum():,} of {len(held):,} images drawn as test part, by class")
        parts = np.where(held, "test", "train")
    sets = _two_parts(path, features, parts, folder)
    lines = (f"{i}\t{features.classes[y]}\t{part}" for i, y, part in zip(features.ids, features.y, parts, strict=True))
    return _added(path, tasks, folder, cfg, files.hash_names(lines), lambda task: answer(task, sets, cfg))


def _several_labels(path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings) -> list[Result]:
    """Do the same on images of any number of labels each: ``y`` is a matrix (N, C) of 0 and 1."""
    other = [task for task in tasks if task != "linear"]
    if other:
        raise SlmlpError(f"--task {other[0]}: images of {path} have several labels each (y is a matrix); choose linear")
    limit = cfg.probe.memory_limit_gb
    features, parts = MultiLabel.load(path, limit), read_arrays(path, limit).get("parts")
    if parts is None:
        raise SlmlpError(f'{path}: images of several labels need parts (N,) of "train" and "test" in the file')
    train, test = _two_parts(path, features, np.asarray(parts).astype(np.str_), folder)
    lines = (f"{i}\t{row.tolist()}\t{part}" for i, row, part in zip(features.ids, features.y, parts, strict=True))
    return _added(path, tasks, folder, cfg, files.hash_names(lines), lambda _: multilabel(train, test, cfg.probe))


def _refuse_what_needs_memory(path: Path, x: npt.NDArray[Any], tasks: Sequence[str], limit: float) -> None:
    size = 4e-9 * x.size
    for task in tasks:
        if task not in IN_BLOCKS:
            raise SlmlpError(
                f"--task {task} holds all features in memory: {path} takes {size:.3g} GB, and "
                f"--probe.memory-limit-gb is {limit:g}; raise it, or choose {', '.join(IN_BLOCKS)}"
            )
    say(f"{path.name}: {size:.3g} GB of features stay on the disk (--probe.memory-limit-gb {limit:g})")


def _two_parts(path: Path, images: SetOfImages, parts: npt.NDArray[np.str_], folder: Path) -> list[SetOfImages]:
    """Return training and test images; features that lie on the disk stay there."""
    found = []
    for part in ("train", "test"):
        keep = parts == part
        if not keep.any():
            raise SlmlpError(f'{path}: parts must hold both "train" and "test", found no image of "{part}"')
        rest = replace(images, x=np.zeros((len(keep), 0), dtype=np.float32)).select(keep)
        found.append(replace(rest, x=rows_of(images.x, keep, folder)))
    return found


def _added(
    path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings, data: str,
    solve: Callable[[str], list[Score]],
) -> list[Result]:  # fmt: skip
    """Do the tasks that have no lines yet; return the lines of all."""
    subject = Subject(path.stem, path.stem, "features", 0, "final")
    hashes = {"encoder": files.sha256(chunks(path)), "data": data, "transform": "features"}
    settings = {task: settings_hash(task, cfg) for task in tasks}
    store = ResultsStore(folder)
    known, _ = store.known(subject, path.stem, dict.fromkeys(tasks, hashes), settings)
    for task in tasks:
        if (task, "output") not in known:
            say(f"{path.name}: {task}")
            store.add(subject, task, path.stem, solve(task), hashes, settings[task], below_data=True)
    return [
        row
        for row in read(store.file)
        if row.task in tasks and row.run == path.stem and row.hashes["encoder"] == hashes["encoder"]
    ]
