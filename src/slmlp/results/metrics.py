"""What predictions are worth: calibration, and precision over recall for images of several labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CELLS = 4_000_000  # numbers of a block of draws by images that are held at once
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


def average_precision_on_draws(
    scores: npt.NDArray[np.floating], on: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return the average precision (R,) of one class with each image there as often as ``weights`` (R, N) says.

    Weights of 1 give ``average_precision``; a draw without an image of the class is NaN.

    >>> scores, on = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    >>> average_precision_on_draws(scores, on, np.array([[1.0, 1, 1, 1], [0, 1, 0, 1]])).round(4).tolist()
    [0.8333, nan]
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(scores[order][1:] != scores[order][:-1]), len(order) - 1)
    found = np.empty(len(weights))
    step = max(1, CELLS // len(order))
    for start in range(0, len(weights), step):
        there = weights[start : start + step, order]
        seen = np.cumsum(there, axis=1)[:, ends]
        hits = np.cumsum(there * on[order], axis=1)[:, ends]
        area = (np.diff(hits, axis=1, prepend=0.0) * hits / np.maximum(seen, 1.0)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            found[start : start + step] = area / hits[:, -1]
    return found
