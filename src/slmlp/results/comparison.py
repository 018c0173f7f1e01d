"""The comparison of two contenders, paired by seed and image, on one data set.

Two kinds of runs are compared: ``Predictions``, of which the mean over images is the accuracy, and ``Bootstrap``, a
number such as average precision that is no mean over images, with its values on bootstrap replicates of them. Either
way the interval covers other seeds and other images, and other draws of the training images where a task made several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slmlp.results.intervals import Array, Bootstrap, Estimate, bootstrap_mean, crossed_mean, holm
from slmlp.results.records import Predictions
from slmlp.runtime.errors import SlmlpError

ALPHA = 0.05  # two-sided, for all comparisons of a family together
LOWER_IS_BETTER = ("fpr95_",)  # beginnings of such metrics

Run = Predictions | Bootstrap
BySeed = Mapping[int, Run]
Pairs = Mapping[int, tuple[Run, Run]]  # seed -> runs of a and b


@dataclass(frozen=True)
class Effects:
    """A mean difference over data sets, each counting alike."""

    fixed: Estimate  # other seeds and other images of these data sets
    random: Estimate | None  # other data sets too; None with one data set


@dataclass(frozen=True)
class Comparison:
    """Contender ``b`` against contender ``a``: the difference b - a in percentage points."""

    a: str
    b: str
    metric: str  # accuracy, map, box_ap ...
    data: tuple[str, ...]  # data sets that both have
    estimate: Estimate  # of the difference; over data sets, by fixed effects
    seeds: int  # over data sets, the fewest
    images: int  # over data sets, of all together
    groups: int
    per_seed: tuple[float, ...]  # difference of each seed; empty over data sets
    draws: int = 1  # of the training images, the same for both contenders
    p_holm: float = 1.0  # corrected for the family of comparisons; equal to p in a family of one
    family: int = 1  # comparisons in that correction
    random_effects: Estimate | None = None  # of the difference, over data sets; None with one
    log_odds: Effects | None = None  # mean difference of ln(p / (1 - p)), over data sets
    sets: tuple[Comparison, ...] = ()  # over data sets, the comparison on each
    one_run: str | None = None  # the contender whose only run is paired with each run of the other

    @property
    def difference(self) -> float:
        """B - a in percentage points."""
        return self.estimate.value

    @property
    def winner(self) -> str | None:
        """The better contender after Holm's correction, or None; an interval that holds zero has no winner."""
        low, high = self.estimate.interval
        if self.p_holm >= ALPHA or low <= 0 <= high:
            return None
        rose = self.difference > 0
        return self.b if rose != self.metric.startswith(LOWER_IS_BETTER) else self.a

    @property
    def holds_for_random_effects(self) -> bool:
        """Whether the winner also wins by random effects over data sets."""
        if self.winner is None or self.random_effects is None:
            return False
        low, high = self.random_effects.interval
        return low > 0 or high < 0

    @property
    def changed_by_correction(self) -> bool:
        """Whether the comparison alone would have been called a difference."""
        return self.estimate.p < ALPHA <= self.p_holm


@dataclass(frozen=True)
class Mean:
    """A contender's own value on one data set, over its seeds and the images."""

    estimate: Estimate  # 0 to 1; of one seed, for other images only
    seeds: int
    images: int
    groups: int


@dataclass(frozen=True)
class PairedAccuracy:
    """The accuracies of contenders a and b on one data set; the last axis of arrays is (a, b).

    Letters: S seeds, R draws of the training images, G groups, N images.
    """

    data: str
    seeds: tuple[int, ...]
    value: Array  # (2,)
    by_seed: Array  # (S, 2)
    by_draw: Array  # (R, 2)
    by_image: Array  # (N, 2): share of seeds and draws that have the image right
    by_group: Array  # (G, 3): images of the group, and how many of them a and b have right, mean over seeds and draws
    names: npt.NDArray[np.str_]  # (N,) group of each image
    difference: Estimate  # b - a, of the accuracies 0 to 1

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.by_group)

    @property
    def draws(self) -> int:
        """Number of draws of the training images."""
        return len(self.by_draw)


@dataclass(frozen=True)
class PairedBootstrap:
    """A number of contenders a and b on one data set with its bootstrap replicates, by seed."""

    data: str
    seeds: tuple[int, ...]
    runs: tuple[tuple[Bootstrap, Bootstrap], ...]  # of each seed
    draws: int = 1

    @property
    def images(self) -> int:
        """Number of images."""
        return self.runs[0][0].images

    @property
    def groups(self) -> int:
        """Number of groups that are resampled."""
        return self.runs[0][0].groups

    @property
    def differences(self) -> list[Bootstrap]:
        """B - a of each seed, with replicates."""
        return [replace(b, value=b.value - a.value, replicates=b.replicates - a.replicates) for a, b in self.runs]

    @property
    def by_seed(self) -> Array:
        """Values (S, 2)."""
        return np.array([[a.value, b.value] for a, b in self.runs])

    @property
    def difference(self) -> Estimate:
        """B - a, 0 to 1."""
        return bootstrap_mean(self.differences)


Paired = PairedAccuracy | PairedBootstrap


def pair(data: str, pairs: Pairs) -> Paired:
    """Pair the runs of two contenders on a data set by seed and image.

    Raises:
        SlmlpError: predictions of other images, labels or groups, or of one group only.
    """
    seeds = tuple(sorted(pairs))
    runs = [pairs[seed] for seed in seeds]
    predictions = [(a, b) for a, b in runs if isinstance(a, Predictions) and isinstance(b, Predictions)]
    if not predictions:
        return PairedBootstrap(
            data, seeds, tuple((a, b) for a, b in runs if isinstance(a, Bootstrap) and isinstance(b, Bootstrap))
        )
    right, groups = correctness(predictions)
    return pair_accuracies(data, seeds, right, groups)


def pair_accuracies(data: str, seeds: tuple[int, ...], right: Array, groups: npt.NDArray[np.str_]) -> PairedAccuracy:
    """Return the same from ``right`` (S, R, N, 2), 1 where a or b has the image right, and the groups (N,)."""
    by_image = right.mean(axis=(0, 1))
    _, codes = np.unique(groups, return_inverse=True)
    # Sums are of whole numbers before they are divided, so that equal groups give equal rows.
    sums = np.stack([np.bincount(codes, weights=side) for side in right.sum(axis=(0, 1)).T], axis=1)
    return PairedAccuracy(
        data,
        seeds,
        by_image.mean(axis=0),
        right.mean(axis=(1, 2)),
        right.mean(axis=(0, 2)),
        by_image,
        np.column_stack([np.bincount(codes), sums / (right.shape[0] * right.shape[1])]),
        groups,
        crossed_mean(right[..., 1] - right[..., 0], groups),
    )


def compare(a: str, b: str, metric: str, paired: Paired) -> Comparison:
    """Compare two contenders on one data set."""
    estimate = paired.difference.times(100)
    per_seed = 100 * (paired.by_seed[:, 1] - paired.by_seed[:, 0])
    return Comparison(
        a, b, metric, (paired.data,), estimate, len(paired.seeds), paired.images, paired.groups,
        tuple(per_seed.tolist()), paired.draws, estimate.p,
    )  # fmt: skip


def mean_of(runs: Sequence[Run]) -> Mean:
    """Return the mean of one contender over its runs (one per seed, the same images)."""
    if not runs:
        raise SlmlpError("no predictions to average")
    bootstraps = [run for run in runs if isinstance(run, Bootstrap)]
    if bootstraps:
        return Mean(bootstrap_mean(bootstraps), len(runs), bootstraps[0].images, bootstraps[0].groups)
    right, groups = correctness([(run, run) for run in runs if isinstance(run, Predictions)])
    return Mean(crossed_mean(right[..., 0], groups), len(runs), len(groups), len(np.unique(groups)))


def corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return the comparisons with Holm's correction for all of them together."""
    adjusted = holm(np.array([c.estimate.p for c in comparisons])).tolist()
    return tuple(replace(c, p_holm=p, family=len(comparisons)) for c, p in zip(comparisons, adjusted, strict=True))


def correctness(pairs: Sequence[tuple[Predictions, Predictions]]) -> tuple[Array, npt.NDArray[np.str_]]:
    """Return the correctness (S, R, N, 2) of two contenders, 0 or 1, and the groups (N,).

    Raises:
        SlmlpError: predictions of other images, labels or groups, or of one group only.
    """
    images = _same_images([rows for pair in pairs for rows in pair])
    draws = _draws(images)
    right = np.stack(
        [np.stack([pair[side].correct for pair in pairs]).reshape(len(pairs), draws, -1) for side in (0, 1)], axis=-1
    )
    return right, images.groups[: len(images.groups) // draws]


def _draws(rows: Predictions) -> int:
    """Return how many draws of the training images predicted the same images, one draw after the other; 1 if not so.

    Folds of a cross-validation hold different images, and so do few-shot episodes.
    """
    draws = len(np.unique(rows.folds))
    if draws == 1 or len(rows.ids) % draws:
        return 1
    ids, folds = rows.ids.reshape(draws, -1), rows.folds.reshape(draws, -1)
    repeated = bool((ids == ids[0]).all() and (folds == folds[:, :1]).all())
    return draws if repeated else 1


def _same_images(runs: Sequence[Predictions]) -> Predictions:
    """Return the first of the runs.

    Raises:
        SlmlpError: the runs are not of the same images, or these are of one group.
    """
    first = runs[0]
    for rows in runs[1:]:
        if len(rows.ids) != len(first.ids):
            raise SlmlpError(f"runs cannot be paired: one predicts {len(first.ids)} images, another {len(rows.ids)}")
        _check_same("image", first.ids, rows.ids, first.ids)
        _check_same("label", first.labels, rows.labels, first.ids)
        _check_same("group", first.groups, rows.groups, first.ids)
    if len(np.unique(first.groups)) < 2:
        raise SlmlpError(
            f"{len(first.ids)} images of one group say nothing about other images: no interval is possible"
        )
    return first


def _check_same(kind: str, a: npt.NDArray[np.str_], b: npt.NDArray[np.str_], ids: npt.NDArray[np.str_]) -> None:
    differ = a != b
    if differ.any():
        k = int(differ.argmax())
        raise SlmlpError(
            f"runs cannot be paired: the {kind} differs in {int(differ.sum())} of {len(a)} rows, first in row {k} "
            f"(image {str(ids[k])!r}): {str(a[k])!r} and {str(b[k])!r}; evaluate both on the same data, split and seed"
        )
