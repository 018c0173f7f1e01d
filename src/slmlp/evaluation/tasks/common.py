"""Checks of features, and the scores of predictions, that several tasks use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.encoders.layers import OUTPUT
from slmlp.evaluation.inputs import Inputs
from slmlp.probes.features import Features
from slmlp.probes.nearest import ROWS, Groups, smallest_gallery
from slmlp.results.intervals import share_interval
from slmlp.results.records import Predictions, Score
from slmlp.runtime.errors import SlmlpError, few


def check_features(task: str, images: Features, what: str) -> None:
    """Raise SlmlpError for features of no image, and for features that are not finite."""
    if len(images) == 0:
        raise SlmlpError(f"{task}: there are no {what} images")
    for start in range(0, len(images), ROWS):
        bad = ~np.isfinite(images.x[start : start + ROWS]).all(axis=1)
        if bad.any():
            first = str(images.ids[start + int(bad.argmax())])
            raise SlmlpError(
                f"{task}: features of the {what} images are NaN or infinite (first: image {first!r}): the encoder has "
                "diverged, or was given other preprocessing than it needs"
            )


def check_parts(task: str, train: Features, test: Features) -> None:
    """Raise SlmlpError for parts of other classes or width, and for a class that only the test part has."""
    check_same(task, train, test, "training", "test")
    missing = np.setdiff1d(test.y, train.y)
    if len(missing):
        raise SlmlpError(
            f"{task}: {len(missing)} of {len(np.unique(test.y))} classes of the test images have no training image: "
            f"{few([train.classes[i] for i in missing])}; add some, or remove them from the test part"
        )
    if len(np.unique(train.y)) < 2:
        raise SlmlpError(f"{task}: the training images are all of class {train.classes[int(train.y[0])]!r}")


def check_same(task: str, a: Features, b: Features, what_a: str, what_b: str) -> None:
    """Raise SlmlpError for two sets of images of other classes or width, and for features that are not finite."""
    check_features(task, a, what_a)
    if b is not a:
        check_features(task, b, what_b)
    if a.x.shape[1] != b.x.shape[1]:
        raise SlmlpError(
            f"{task}: {what_a} features have {a.x.shape[1]} dimensions and {what_b} features {b.x.shape[1]}; "
            "extract both with the same encoder and layer"
        )
    if a.classes != b.classes:
        raise SlmlpError(
            f"{task}: the parts do not name the same classes: {what_a} has {few(a.classes)}, "
            f"{what_b} has {few(b.classes)}"
        )


def check_gallery(task: str, flag: str, k: int, gallery: Groups, queries: Groups, *, own_group: bool) -> None:
    """Raise SlmlpError where a query has fewer than k images to search, from the groups; see ``probes.nearest``."""
    least = smallest_gallery(gallery, queries, own_group=own_group)
    if k > least:
        images = f"there are {least} training images" if own_group else f"an image has {least} others to search"
        raise SlmlpError(f"{task}: {flag} is {k}, and {images}: lower it")


def joined(sets: Sequence[Features]) -> Features:
    """Return the features of several sets of images as one, in the order of the ids."""
    x, y = np.concatenate([part.x for part in sets]), np.concatenate([part.y for part in sets])
    ids, groups = np.concatenate([part.ids for part in sets]), np.concatenate([part.groups for part in sets])
    return Features(x, y, sets[0].classes, ids, groups).select(np.argsort(ids, kind="stable"))


def predictions(
    images: Features, predicted: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64] | None = None
) -> Predictions:
    """Return prediction rows from predicted class indices (N,)."""
    names = np.array(images.classes, dtype=np.str_)
    folds = np.zeros(len(images), dtype=np.int64)
    return Predictions(images.ids, images.groups, names[images.y], names[predicted], folds, confidence)


def accuracy_scores(rows: Predictions, extra: dict[str, Any]) -> list[Score]:
    """Return accuracy with its predictions and interval, and the mean over classes, which follows from the same."""
    return [
        accuracy_score("accuracy", rows, extra),
        Score("mean_class_accuracy", mean_class_accuracy(rows), len(rows.ids), extra=extra),
    ]


def at_output(inputs: Inputs, task: str) -> list[Score]:
    """Return the scores that ``task`` gave at the output where a layer's features are the same; none where they differ.

    So they are at the output itself, and mostly at the last stage of a convnet.
    """
    if inputs.layer != OUTPUT:
        pairs = zip(inputs.features, inputs.at(OUTPUT).features, strict=True)
        if not all(np.array_equal(here.x, there.x) for here, there in pairs):
            return []
    return accuracy_scores(inputs.predictions(task), {"as_at": OUTPUT})


def accuracy_score(metric: str, rows: Predictions, extra: dict[str, Any]) -> Score:
    """Return the share of rows that are right under the name ``metric``; the interval is over groups."""
    correct = rows.correct
    return Score(metric, float(correct.mean()), len(correct), share_interval(correct, rows.groups), rows, extra)


def mean_class_accuracy(rows: Predictions) -> float:
    """Return the mean over classes that occur of the share of the class's rows that are right."""
    _, codes = np.unique(rows.labels, return_inverse=True)
    return float((np.bincount(codes, weights=rows.correct) / np.bincount(codes)).mean())
