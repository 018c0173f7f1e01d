"""Metrics of predictions: calibration error; by bootstrap average precision, AUROC and FPR95."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from slmlp.config.names import display
from slmlp.results.intervals import Bootstrap, bootstrap_mean
from slmlp.results.records import Scores
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator

CELLS = 4_000_000  # numbers of a block of bootstrap replicates by images in memory at once
REPLICATES = 1000
BINS = 15  # of the calibration error, of equal width (Guo et al. 2017, section 5)


def calibration_error(confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.floating]) -> float:
    """Return the expected calibration error, 0 to 1, of predictions (N,) with these probabilities.

    The mean over images of the distance between their bin's mean confidence and its accuracy; bin m of M holds
    confidences in ((m - 1) / M, m / M].

    >>> round(calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1.0, 1.0, 1.0, 0.0])), 6)  # 0.9 - 0.75
    0.15
    """
    places = np.clip(np.ceil(np.asarray(confidence, dtype=np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    apart = np.bincount(places, weights=confidence - correct, minlength=BINS)
    return float(np.abs(apart).sum() / len(places))


def average_precision(scores: npt.NDArray[np.floating], on: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the average precision of one class over images (N,), and its 11-point form; NaN where none has it.

    The first is the sum of precision times the step in recall over thresholds, as scikit-learn's; the second the mean
    over recalls 0, 0.1, ..., 1 of the best precision at that recall or above (VOC2007; Everingham et al. 2010,
    section 4.2). Images of equal score are taken
    together, so that their order does not matter.

    >>> average_precision(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]))
    (0.8333333333333333, 0.8484848484848484)
    """
    positives = int(on.sum())
    if positives == 0:
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(scores[order][1:] != scores[order][:-1]), len(order) - 1)
    hits = np.cumsum(on[order])[ends]
    precision, recall = hits / (ends + 1), hits / positives
    area = float((np.diff(recall, prepend=0.0) * precision).sum())
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or above
    # hits * 10 >= level * positives, in whole numbers: 3 of 10 is a recall of 0.3 whatever rounding says
    places = np.searchsorted(hits * 10, np.arange(11) * positives)
    return area, float(best[places].mean())


def weighted_average_precision(
    scores: npt.NDArray[np.floating], on: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return the average precision (R,) of one class with each image counted ``weights`` (R, N) times.

    Weights of 1 give ``average_precision``; a row without an image of the class is NaN.

    >>> scores, on = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    >>> weighted_average_precision(scores, on, np.array([[1.0, 1, 1, 1], [0, 1, 0, 1]])).round(4).tolist()
    [0.8333, nan]
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(scores[order][1:] != scores[order][:-1]), len(order) - 1)
    result = np.empty(len(weights))
    step = max(1, CELLS // len(order))
    for start in range(0, len(weights), step):
        counts = weights[start : start + step, order]
        images = np.cumsum(counts, axis=1)[:, ends]
        hits = np.cumsum(counts * on[order], axis=1)[:, ends]
        area = (np.diff(hits, axis=1, prepend=0.0) * hits / np.maximum(images, 1.0)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            result[start : start + step] = area / hits[:, -1]
    return result


def novelty_rates(
    scores: npt.NDArray[np.floating], on: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return AUROC (R,) and FPR95 (R,) of scores (N,) of images, some new (``on``), counted ``weights`` (R, N) times.

    AUROC: the chance that a new image has a higher score than a known one, ties counting half. FPR95: the share of new
    images at or below the least score that 95 % of the known ones are at or below. A row without either kind is NaN.

    >>> scores, on = np.array([0.1, 0.2, 0.2, 0.9]), np.array([False, False, True, True])
    >>> [rate.tolist() for rate in novelty_rates(scores, on, np.ones((1, 4)))]  # (1 + 1 + 1 + 1/2) / 4
    [[0.875], [0.5]]
    """
    order = np.argsort(scores, kind="stable")
    ends = np.append(np.flatnonzero(scores[order][1:] != scores[order][:-1]), len(order) - 1)
    counts = weights[:, order]
    new = np.cumsum(counts * on[order], axis=1)[:, ends]  # (R, E) at or below each score that occurs
    known = np.cumsum(counts * ~on[order], axis=1)[:, ends]
    below = np.concatenate([np.zeros((len(known), 1)), known[:, :-1]], axis=1)
    pairs = (np.diff(new, axis=1, prepend=0.0) * (below + known) / 2).sum(axis=1)
    accepted = (20 * known >= 19 * known[:, -1:]).argmax(axis=1)  # in whole numbers: 19 of 20 are 95 %
    both = new[:, -1] * known[:, -1]  # pairs of a new and a known image
    with np.errstate(invalid="ignore"):
        return pairs / both, new[np.arange(len(new)), accepted] * known[:, -1] / both


def bootstrapped(metric: str) -> bool:
    """Return whether a number is no mean over images, so that its interval is a bootstrap's, from ``Scores``."""
    return metric == "map" or metric.startswith(("auroc_", "fpr95_"))


def bootstrap(rows: Scores, metric: str, replicates: int = REPLICATES) -> Bootstrap:
    """Return a number for which ``bootstrapped`` holds, and its values on bootstrap replicates of the groups."""
    if metric == "map":
        return bootstrap_map(rows, replicates)
    which = 0 if metric.startswith("auroc_") else 1
    blocks = _weights(rows.groups, replicates)
    values = np.concatenate([novelty_rates(rows.scores[:, 0], rows.on[:, 0], weights)[which] for weights in blocks])
    return Bootstrap(float(values[0]), values[1:], len(np.unique(rows.groups)), len(rows.ids))


def _weights(groups: npt.NDArray[np.str_], replicates: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each image counts (R, N): first once each, then in blocks of replicates of whole groups.

    The same for all encoders, so that their differences are paired.
    """
    _, codes = np.unique(groups, return_inverse=True)
    number = int(codes.max()) + 1
    yield np.ones((1, len(codes)))
    random = numpy_generator(0, "map-units", number)
    step = max(1, CELLS // len(codes))
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        yield random.multinomial(number, np.full(number, 1 / number), size=size)[:, codes].astype(np.float64)


def bootstrap_map(rows: Scores, replicates: int = REPLICATES) -> Bootstrap:
    """Return mean average precision and its values on bootstrap replicates of the groups.

    Groups are resampled whole, in the same way for all encoders, so that differences of encoders are paired. A class
    of which a replicate holds no image is left out of that replicate.
    """
    weights = np.concatenate(list(_weights(rows.groups, replicates)))
    areas = [
        weighted_average_precision(rows.scores[:, k], rows.on[:, k], weights)
        for k in np.flatnonzero(rows.on.any(axis=0))
    ]
    finite = np.isfinite(areas)  # (C', R + 1)
    with np.errstate(invalid="ignore"):
        means = np.where(finite, areas, 0.0).sum(axis=0) / finite.sum(axis=0)
    return Bootstrap(float(means[0]), means[1:], len(np.unique(rows.groups)), len(rows.ids))


def bootstrap_runs(
    runs: Mapping[str, Mapping[str, Mapping[int, Scores]]], baseline: str, metric: str = "map"
) -> dict[str, dict[str, dict[int, Bootstrap]]]:
    """Bootstrap a number of every run: contender -> data set -> seed -> scores.

    Raises:
        SlmlpError: a run is not of the same images and labels as the baseline's on its data set.
    """
    bootstraps: dict[str, dict[str, dict[int, Bootstrap]]] = {}
    for contender, by_data in runs.items():
        bootstraps[contender] = {}
        for data, by_seed in by_data.items():
            first = next(iter(runs[baseline].get(data, by_seed).values()))
            for seed, rows in by_seed.items():
                arrays = ((rows.ids, first.ids), (rows.groups, first.groups), (rows.on, first.on))
                if rows.classes != first.classes or not all(np.array_equal(a, b) for a, b in arrays):
                    raise SlmlpError(
                        f"runs cannot be paired: {display(contender)}, seed {seed}, has scores of other images or "
                        f"labels of {data} than {display(baseline)}"
                    )
            bootstraps[contender][data] = {seed: bootstrap(rows, metric) for seed, rows in by_seed.items()}
    return bootstraps


def bootstrap_interval(rows: Scores, metric: str) -> tuple[float, float] | None:
    """Return the 95 % interval of such a number over groups, cut to 0 and 1; None with one group."""
    mean = bootstrap_mean([bootstrap(rows, metric)])
    return mean.share_interval if np.isfinite(mean.variance) else None
