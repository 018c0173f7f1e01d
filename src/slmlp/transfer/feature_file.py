"""A file of features in place of an encoder: whatever made them, the same tasks and the same lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from pathlib import Path

import numpy as np

from slmlp import config, files
from slmlp.data.parts import stratified_holdout
from slmlp.domains import TEST_SHARE
from slmlp.errors import SlmlpError
from slmlp.features import Features, read_arrays
from slmlp.ledger import Ledger, Subject
from slmlp.probes.multilabel import MultiLabel
from slmlp.progress import say
from slmlp.results import Result, read
from slmlp.tasks import Score
from slmlp.tasks.linear import multilabel
from slmlp.transfer.room import answer, settings_hash

TASKS = ("linear", "knn", "centroid", "fewshot", "labels")


def evaluate_file(path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings) -> list[Result]:
    """Do the tasks on an .npz file of x (N, D) and y (N,), and return the lines, which are added to ``folder``.

    ``parts`` (N,) of "train" and "test" in the file are used; without them 30 % of each class are drawn as test part.
    """
    for task in tasks:
        if task not in TASKS:
            raise SlmlpError(f"--task {task} needs images, and {path} is a file of features; choose {', '.join(TASKS)}")
    if read_arrays(path)["y"].ndim == 2:
        return _several_labels(path, tasks, folder, cfg)
    features = Features.load(path)
    parts = features.parts
    if parts is None:
        held = stratified_holdout(np.array(features.classes)[features.y], features.units, TEST_SHARE, 0, "test part")
        say(f"{path.name} names no parts: {held.sum():,} of {len(held):,} images drawn as test part, by class")
        parts = np.where(held, "test", "train")
    sets = [features.select(parts == part) for part in ("train", "test")]
    _check_parts(path, sets)
    lines = (f"{i}\t{features.classes[y]}\t{part}" for i, y, part in zip(features.ids, features.y, parts, strict=True))
    return _added(path, tasks, folder, cfg, files.hash_names(lines), lambda task: answer(task, sets, cfg))


def _several_labels(path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings) -> list[Result]:
    """Do the same on images of any number of labels each: ``y`` is a matrix (N, C) of 0 and 1."""
    other = [task for task in tasks if task != "linear"]
    if other:
        raise SlmlpError(f"--task {other[0]}: images of {path} have several labels each (y is a matrix); choose linear")
    features, parts = MultiLabel.load(path), read_arrays(path).get("parts")
    if parts is None:
        raise SlmlpError(f'{path}: images of several labels need parts (N,) of "train" and "test" in the file')
    train, test = (features.select(np.asarray(parts).astype(np.str_) == part) for part in ("train", "test"))
    _check_parts(path, [train, test])
    lines = (f"{i}\t{row.tolist()}\t{part}" for i, row, part in zip(features.ids, features.y, parts, strict=True))
    return _added(path, tasks, folder, cfg, files.hash_names(lines), lambda _: multilabel(train, test, cfg.probe))


def _added(
    path: Path, tasks: Sequence[str], folder: Path, cfg: config.TaskSettings, data: str,
    solve: Callable[[str], list[Score]],
) -> list[Result]:  # fmt: skip
    """Do the tasks that have no lines yet; return the lines of all."""
    subject = Subject(path.stem, path.stem, "features", 0, "final")
    hashes = {"encoder": files.sha256(path.read_bytes()), "data": data, "transform": "features"}
    settings = {task: settings_hash(task, cfg) for task in tasks}
    ledger = Ledger(folder)
    known, _ = ledger.known(subject, path.stem, dict.fromkeys(tasks, hashes), settings)
    for task in tasks:
        if (task, "output") not in known:
            say(f"{path.name}: {task}")
            ledger.add(subject, task, path.stem, solve(task), hashes, settings[task], below_data=True)
    return [
        row
        for row in read(ledger.file)
        if row.task in tasks and row.run == path.stem and row.hashes["encoder"] == hashes["encoder"]
    ]


def _check_parts(path: Path, sets: Sequence[Sized]) -> None:
    for part, one in zip(("train", "test"), sets, strict=True):
        if not len(one):
            raise SlmlpError(f'{path}: parts must hold both "train" and "test", found no image of "{part}"')
