"""Two methods over several data sets: the mean difference, in points and in log-odds, and its intervals.

Letters: J data sets, S seeds, R draws of the training images, G groups, B resamples. Seeds belong to encoders, and one
encoder is tested on all data sets: a lucky seed is lucky on all of them. Seeds are therefore resampled once for all
data sets, groups (and draws) inside each, and data sets on top.

Two populations, two intervals. *These data sets*: other seeds, draws and images of the same sets. *Data sets like
these*: other data sets too, of which these J are taken for a random sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from slmlp.results.intervals import LEVEL, CrossedMean, added, clustered_mean
from slmlp.results.records import Predictions
from slmlp.results.verdict import paired
from slmlp.runtime.seeds import numpy_generator

RESAMPLES = 2000

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedSet:
    """Methods A and B on one data set; the last axis of the arrays is (A, B)."""

    name: str
    seeds: tuple[int, ...]
    accuracy: Array  # (2,)
    by_seed: Array  # (S, 2) accuracy of each seed
    by_draw: Array  # (R, 2) accuracy of each draw of the training images
    images: int
    groups: Array  # (G, 3): images of the group, and how many of them A and B have right, mean over seeds and draws
    right: Array  # (N, 2): the same of each image
    names: npt.NDArray[np.str_]  # (N,) group of each image


@dataclass(frozen=True)
class Spread:
    """A mean over data sets of a difference B - A, for one population."""

    interval: tuple[float, float]  # 95 %
    standard_error: float
    degrees: float  # of freedom
    p: float
    detectable: float  # smallest difference found with 80 % power at a two-sided 5 %


@dataclass(frozen=True)
class Over:
    """A mean over data sets, each counting alike, of the difference B - A on one scale."""

    value: float
    these: Spread  # other seeds and other images of these data sets
    like: Spread | None  # data sets like these; None with one data set, which says nothing about others


@dataclass(frozen=True)
class Scale:
    """A function of accuracy in which differences are taken."""

    of: Callable[[Array, Array], Array]  # accuracies, numbers of images -> values
    slope: Callable[[Array, Array], Array]  # its derivative


def log_odds(accuracy: Array, images: Array) -> Array:
    """Return ln(p / (1 - p)), with p kept half an image away from 0 and from 1.

    >>> log_odds(np.array([0.5, 0.9, 1.0]), np.array([100, 100, 100])).round(3).tolist()  # 1.0: ln(99.5 / 0.5)
    [0.0, 2.197, 5.293]
    """
    p = _inside(accuracy, images)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float64)


def _inside(accuracy: Array, images: Array) -> Array:
    return np.clip(accuracy, 0.5 / images, 1 - 0.5 / images)


def _log_odds_slope(accuracy: Array, images: Array) -> Array:
    p = _inside(accuracy, images)
    return np.asarray(1 / (p * (1 - p)), dtype=np.float64)


POINTS = Scale(of=lambda p, _: 100 * p, slope=lambda p, _: np.full_like(p, 100.0))
LOG_ODDS = Scale(of=log_odds, slope=_log_odds_slope)


def pair_set(name: str, pairs: Mapping[int, tuple[Predictions, Predictions]]) -> PairedSet:
    """Return what resampling needs of one data set: seed -> predictions of A and B, all of the same images."""
    right_a, right_b, groups = paired([pairs[seed] for seed in sorted(pairs)])
    return paired_set(name, tuple(sorted(pairs)), right_a, right_b, groups)


def paired_set(
    name: str, seeds: tuple[int, ...], right_a: Array, right_b: Array, groups: npt.NDArray[np.str_]
) -> PairedSet:
    """Return the same from who was right, (S, R, N) each."""
    both = np.stack([right_a, right_b], axis=-1)  # (S, R, N, 2)
    images = both.mean(axis=(0, 1))  # (N, 2)
    _, codes = np.unique(groups, return_inverse=True)
    # Sums are of whole numbers before they are divided, so that equal groups give equal rows.
    sums = np.stack([np.bincount(codes, weights=side) for side in both.sum(axis=(0, 1)).T], axis=1)
    table = np.column_stack([np.bincount(codes), sums / (both.shape[0] * both.shape[1])])
    return PairedSet(
        name,
        seeds,
        images.mean(axis=0),
        both.mean(axis=(1, 2)),
        both.mean(axis=(0, 2)),
        len(groups),
        table,
        images,
        groups,
    )


def over(sets: Sequence[PairedSet], scale: Scale, seed: int = 0, resamples: int = RESAMPLES) -> Over:
    """Return the mean difference over data sets on a scale, with both intervals; the same for the same ``seed``."""
    accuracy = np.stack([s.accuracy for s in sets])  # (J, 2)
    images = np.array([[s.images] for s in sets], dtype=np.float64)  # (J, 1)
    differences = _difference(scale.of(accuracy, images))  # (J,)
    value = float(differences.mean())
    slopes = scale.slope(accuracy, images)  # (J, 2)
    these, noise = _variance(sets, slopes)
    moved = accuracy + _seed_offsets(sets, seed, resamples)  # (B, J, 2)
    for j, one in enumerate(sets):
        moved[:, j] += _inner_offsets(one, seed, resamples)
    offsets = _difference(scale.of(moved, images)).mean(axis=1) - value  # (B,)
    found = _spread(value, offsets, *these)
    if len(sets) == 1:
        return Over(value, found, None)
    # The scatter of data sets holds the noise of seeds and images inside them, which is resampled already.
    scatter = float(differences.var(ddof=1))
    own = max(0.0, scatter - noise)
    deviations = (differences - value) * np.sqrt(own / scatter if scatter > 0 else 0.0)
    offsets = offsets + _smoothed(deviations[:, None], numpy_generator(seed, "domains", "sets"), resamples)[:, 0]
    variance = these[0] + own / len(sets)
    doubt = (these[0] ** 2 / these[1]) + (scatter / len(sets)) ** 2 / (len(sets) - 1)  # of that variance
    least = min(these[1], len(sets) - 1)  # where noise outweighs scatter by luck, the formula may fall below
    like = _spread(value, offsets, variance, max(least, variance**2 / doubt) if doubt > 0 else least)
    return Over(value, found, like)


def _difference(values: Array) -> Array:
    difference: Array = values[..., 1] - values[..., 0]
    return difference


def _variance(sets: Sequence[PairedSet], slopes: Array) -> tuple[tuple[float, float], float]:
    """Return variance and degrees of freedom for these data sets, in closed form, and the noise inside their scatter.

    On the straight line through the accuracies: with d_j = slopes times accuracies, the seeds give sum over seeds of
    (mean over sets of the seed's deviation / sqrt(S_j (S_j - 1)))^2; groups and draws are independent between sets.
    The noise is what variance between the d_j these alone would show.
    """
    every = _all_seeds(sets)
    by_seed = np.zeros((len(every), len(sets)))
    inner: list[tuple[float, float]] = []  # of each set and source, already divided by J^2
    for j, one in enumerate(sets):
        if len(one.seeds) > 1:
            deviations = _line(one.by_seed - one.accuracy, slopes[j])
            rows = [every.index(s) for s in one.seeds]
            by_seed[rows, j] = deviations / np.sqrt(len(one.seeds) * (len(one.seeds) - 1))
        of_images = clustered_mean(_line(one.right, slopes[j]), one.names)
        inner.append((of_images.variance / len(sets) ** 2, of_images.groups - 1))
        draws = len(one.by_draw)
        if draws > 1:
            inner.append((float(_line(one.by_draw, slopes[j]).var(ddof=1)) / draws / len(sets) ** 2, draws - 1))
    parts = list(inner)
    seeds = int((np.abs(by_seed).sum(axis=1) > 0).sum())
    if seeds > 1:
        parts.append((float((by_seed.mean(axis=1) ** 2).sum()), seeds - 1))
    noise = sum(variance for variance, _ in inner) * len(sets)
    if len(sets) > 1:
        noise += float(by_seed.var(axis=1, ddof=1).sum())  # what seeds do to one set and not to another
    return added(parts), noise


def _line(values: Array, slopes: Array) -> Array:
    """Return B's slope times B minus the same of A; no product of matrices, which would not make 0 of equal values."""
    line: Array = values[..., 1] * slopes[1] - values[..., 0] * slopes[0]
    return line


def _all_seeds(sets: Sequence[PairedSet]) -> list[int]:
    return sorted({seed for one in sets for seed in one.seeds})


def _seed_offsets(sets: Sequence[PairedSet], seed: int, resamples: int) -> Array:
    """Return what resampled seeds add to the accuracies (B, J, 2); one draw of seeds serves all data sets."""
    every = _all_seeds(sets)
    n = len(every)
    if n == 1:
        return np.zeros((resamples, len(sets), 2))
    deviations = np.zeros((n, len(sets), 2))
    for j, one in enumerate(sets):
        own = len(one.seeds)
        if own > 1:  # a set that lacks some of the seeds: scaled to s^2 / S_j, the variance of its own mean
            scale = np.sqrt(n * (n - 1) / (own * (own - 1)))
            deviations[[every.index(s) for s in one.seeds], j] = (one.by_seed - one.accuracy) * scale
    flat = _smoothed(deviations.reshape(n, -1), numpy_generator(seed, "domains", "seeds"), resamples)
    return flat.reshape(resamples, len(sets), 2)


def _inner_offsets(one: PairedSet, seed: int, resamples: int) -> Array:
    """Return what resampled groups and draws of one data set add to its accuracies (B, 2)."""
    random = numpy_generator(seed, "domains", "units", one.name)
    # Groups with the same row are exchangeable: how often each row comes is multinomial, and there are few rows.
    rows, counts = np.unique(one.groups, axis=0, return_counts=True)
    groups = int(counts.sum())
    drawn = random.multinomial(groups, counts / groups, size=resamples) @ rows  # (B, 3): images, right of A, of B
    offsets: Array = (drawn[:, 1:] / drawn[:, :1] - one.accuracy) * np.sqrt(groups / (groups - 1))
    if len(one.by_draw) > 1:
        offsets = offsets + _smoothed(one.by_draw - one.accuracy, random, resamples)
    return offsets


def _smoothed(deviations: Array, random: np.random.Generator, resamples: int) -> Array:
    """Return means (B, m) of n deviations (n, m) resampled with replacement and smoothed.

    Resampling alone has variance (n - 1) / n * s^2 / n, and for n of 2 or 3 takes but a few values. Each resampled one
    gets normal noise of variance s^2 / n (Hesterberg 2015, smoothed bootstrap), which makes it s^2 / n exactly.
    """
    n = len(deviations)
    counts = random.multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = counts / n + random.normal(size=(resamples, n)) / (n * np.sqrt(n - 1))
    moved: Array = weights @ (deviations - deviations.mean(axis=0))
    return moved


def _spread(value: float, offsets: Array, variance: float, degrees: float) -> Spread:
    """Return the percentile interval, widened from the normal's quantile to Student's t, with the p-value of the t."""
    mean = CrossedMean(value, variance, degrees)
    tail = 0.5 + LEVEL / 2
    widen = float(special.stdtrit(degrees, tail) / special.ndtri(tail))
    low, high = (value + widen * q for q in np.quantile(offsets, [1 - tail, tail]).tolist())
    return Spread((low, high), mean.standard_error, float(degrees), mean.p, mean.detectable)
