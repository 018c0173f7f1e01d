"""The probe for images of several labels: one logistic regression per class, one l2 for all, chosen by mAP.

Letters: N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp import config
from slmlp.probes.feature_files import read_complete
from slmlp.probes.features import Features
from slmlp.probes.fitted import LinearFit
from slmlp.probes.images import Array, Integers, Rows, check_finite
from slmlp.probes.linear import Places, check_inner_split, check_width, fit_chosen
from slmlp.probes.path import Choice, Judgement, follow
from slmlp.probes.solver import Design
from slmlp.results.metrics import average_precision
from slmlp.runtime.errors import SlmlpError

SCORES = 4 << 20  # scores of images on classes that are held at once; more classes are taken in turns


@dataclass(frozen=True)
class MultiLabel:
    """Features of N images of any number of labels each."""

    x: Array  # (N, D); may be memory-mapped
    y: Integers  # (N, C) of 0 and 1
    classes: tuple[str, ...]
    ids: npt.NDArray[np.str_]  # (N,)
    groups: npt.NDArray[np.str_]  # (N,)

    def __len__(self) -> int:
        return len(self.y)

    def select(self, keep: npt.NDArray[np.bool_]) -> MultiLabel:
        """Return the images under a mask (N,)."""
        return replace(self, x=self.x[keep], y=self.y[keep], ids=self.ids[keep], groups=self.groups[keep])

    @classmethod
    def split(cls, parts: Sequence[Features], separator: str) -> list[MultiLabel]:
        """Return features whose class names hold several labels, split at ``separator``; the same classes for all."""
        sets = [[{label for label in name.split(separator) if label} for name in part.classes] for part in parts]
        classes = tuple(sorted(set().union(*(labels for names in sets for labels in names))))
        matrices = []
        for part, names in zip(parts, sets, strict=True):
            table = np.array([[label in labels for label in classes] for labels in names], dtype=np.bool_)
            matrices.append(cls(part.x, table[part.y], classes, part.ids, part.groups))
        return matrices

    @classmethod
    def load(cls, path: Path, memory_limit_gb: float | None = None) -> MultiLabel:
        """Read a features file whose ``y`` is a matrix (N, C) of 0 and 1; classes, ids and groups are filled in.

        With a limit, an ``x`` that is larger stays on the disk; see ``feature_files.read_arrays``.
        """
        arrays = read_complete(path, memory_limit_gb, y_axes=2)
        y = arrays["y"]
        if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
            raise SlmlpError(f"{path}: y must be a matrix of 0 and 1, one column per class; it holds other values")
        names = arrays.get("classes", np.arange(y.shape[1]))
        if len(names) != y.shape[1]:
            raise SlmlpError(f"{path}: {len(names)} classes are named and y has {y.shape[1]} columns")
        return cls(arrays["x"], y.astype(np.bool_), tuple(map(str, names)), arrays["ids"], arrays["groups"])


@dataclass(frozen=True)
class MultiLabelResult:
    """The result of the probe on test images."""

    areas: npt.NDArray[np.float64]  # (C,) average precision; NaN for a class without a test image
    points: npt.NDArray[np.float64]  # (C,) its 11-point form
    scores: npt.NDArray[np.float32]  # (N, C) logits of the test images
    probe: LinearFit
    choice: Choice


def evaluate(train: MultiLabel, test: MultiLabel, cfg: config.Probe) -> MultiLabelResult:
    """Choose the l2 inside ``train``, refit on all of it, and read ``test`` once."""
    if train.classes != test.classes:
        raise SlmlpError(f"training and test features name different classes: {train.classes} and {test.classes}")
    check_width(train.x, test.x)
    trained, tested = (np.asarray(part.y, dtype=np.bool_).any(axis=0) for part in (train, test))
    if (tested & ~trained).any():
        names = ", ".join(train.classes[i] for i in np.flatnonzero(tested & ~trained)[:5])
        raise SlmlpError(f"{(tested & ~trained).sum()} classes of the test images have no training image: {names}")
    if not tested.any():
        raise SlmlpError("no test image has a label: average precision needs images of a class to find")
    check_finite(Rows(test.x))
    choice = choose_l2(train, cfg)
    probe = fit_chosen(train.x, train.y, len(train.classes), choice, cfg)
    scores = np.empty((len(test), len(test.classes)), dtype=np.float32)
    for group in _groups(*scores.shape):
        parts = [logits.numpy() for _, logits in probe.logits(test.x, classes=group)]
        scores[:, group] = np.concatenate(parts)
    areas, points = np.array(_precisions(scores, np.asarray(test.y, dtype=np.bool_))).T
    return MultiLabelResult(areas, points, scores, probe, choice)


def choose_l2(train: MultiLabel, cfg: config.Probe) -> Choice:
    """Choose among ``cfg.l2`` by mAP on an inner split that keeps groups whole; see ``path.follow``.

    The split is stratified by the rarest label of each image, so that rare classes are on both sides. The mean is over
    classes with images on both sides.
    """
    from slmlp.data.splits.parts import stratified_holdout

    if len(cfg.l2) == 1:
        return Choice(cfg.l2[0], at_edge=False, scores={}, unfinished=0)
    on = np.asarray(train.y, dtype=np.bool_)
    for index in np.flatnonzero(on.any(axis=0)):
        if len(np.unique(train.groups[on[:, index]])) < 2:
            raise SlmlpError(
                f"class {train.classes[index]!r} has images of 1 group (images that belong together), fewer than the 2 "
                "that the inner split of the probe needs: add images of other groups or remove the class"
            )
    validation = stratified_holdout(strata(on, train.groups), train.groups, cfg.inner_fraction, cfg.seed, "multilabel")
    check_inner_split(validation, train.groups, cfg)
    check_finite(Rows(train.x, np.flatnonzero(validation)))
    rows, beside = np.flatnonzero(~validation), int(validation.sum())
    design = Design(train.x, train.y, len(train.classes), rows=rows, memory_limit_gb=cfg.memory_limit_gb, beside=beside)
    return follow(design, cfg, _judge(design, on, np.flatnonzero(validation)))


def strata(on: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return the rarest label (N,) of each image of a 0/1 matrix (N, C); C for those that have none.

    Strata of a single group cannot be split: they join those that have none, and these the largest.
    """
    classes = on.shape[1]
    sizes = on.sum(axis=0)
    rarest = np.where(on, sizes, len(on) + 1).argmin(axis=1)
    codes: npt.NDArray[np.int64] = np.where(on.any(axis=1), rarest, classes).astype(np.int64)
    for stratum in [*range(classes), classes]:
        members = codes == stratum
        if members.any() and len(np.unique(groups[members])) < 2:
            others = codes[~members]
            codes[members] = classes if stratum < classes else np.bincount(others).argmax() if len(others) else 0
    return codes


def _judge(design: Design, on: npt.NDArray[np.bool_], validation: Places) -> Callable[[Tensor], Judgement]:
    """Return the judge of matrices: the average precision of each class on the rows ``validation`` of the array."""
    images = design.others(validation)
    present = design.present.numpy()
    truth = on[np.ix_(validation, present)]  # (n, C')
    if not truth.any():
        raise SlmlpError(
            "no class has images on both sides of the probe's inner split: add images, raise --probe.inner-fraction, "
            "or give one value of --probe.l2"
        )

    def judge(theta: Tensor) -> Judgement:
        areas, total = [], 0.0
        for group in _groups(*truth.shape):
            scores = np.concatenate([logits.double().numpy() for _, logits in images.logits(theta[group])])
            labels = truth[:, group]
            total += float(np.logaddexp(0.0, np.where(labels, -scores, scores)).sum())
            areas += [area for area, _ in _precisions(scores, labels) if not np.isnan(area)]
        return Judgement(torch.tensor(areas, dtype=torch.float64), total / truth.size)

    return judge


def _groups(images: int, classes: int) -> Iterator[slice]:
    """Yield slices of the classes, so many that the scores of all images on them may be held."""
    step = max(1, SCORES // max(images, 1))
    for start in range(0, classes, step):
        yield slice(start, min(start + step, classes))


def _precisions(scores: Array, on: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return average precision and its 11-point form of each column of scores (N, c)."""
    return [average_precision(scores[:, k], on[:, k]) for k in range(scores.shape[1])]
