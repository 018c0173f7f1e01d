"""Metrics of predictions: calibration error, and average precision for images of several labels."""

from __future__ import annotations

from collections.abc import Mapping

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


def bootstrap_map(rows: Scores, replicates: int = REPLICATES) -> Bootstrap:
    """Return mean average precision and its values on bootstrap replicates of the groups.

    Groups are resampled whole, in the same way for all encoders, so that differences of encoders are paired. A class
    of which a replicate holds no image is left out of that replicate.
    """
    _, codes = np.unique(rows.groups, return_inverse=True)
    groups = int(codes.max()) + 1
    counts = numpy_generator(0, "map-units", groups).multinomial(groups, np.full(groups, 1 / groups), size=replicates)
    weights = np.concatenate([np.ones((1, len(codes))), counts[:, codes].astype(np.float64)])
    areas = [
        weighted_average_precision(rows.scores[:, k], rows.on[:, k], weights)
        for k in np.flatnonzero(rows.on.any(axis=0))
    ]
    finite = np.isfinite(areas)  # (C', R + 1)
    with np.errstate(invalid="ignore"):
        means = np.where(finite, areas, 0.0).sum(axis=0) / finite.sum(axis=0)
    return Bootstrap(float(means[0]), means[1:], groups, len(codes))


def bootstrap_runs(
    runs: Mapping[str, Mapping[str, Mapping[int, Scores]]], baseline: str
) -> dict[str, dict[str, dict[int, Bootstrap]]]:
    """Bootstrap the mean average precision of every run: contender -> data set -> seed -> scores.

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
            bootstraps[contender][data] = {seed: bootstrap_map(rows) for seed, rows in by_seed.items()}
    return bootstraps


def map_interval(rows: Scores) -> tuple[float, float] | None:
    """Return the 95 % interval of mean average precision over groups, cut to 0 and 1; None with one group."""
    mean = bootstrap_mean([bootstrap_map(rows)])
    return mean.share_interval if np.isfinite(mean.variance) else None
