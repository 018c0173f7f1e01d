"""The answer of a task: a number, and the predictions behind it, so that any two can be paired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slmlp.results import Predictions
from slmlp.statistics import share_interval

if TYPE_CHECKING:
    from slmlp.features import Features


@dataclass(frozen=True)
class Score:
    """One number of a task."""

    metric: str  # accuracy, mean_class_accuracy, ece, accuracy_at_16_shots, ...
    value: float  # shares are 0 to 1
    n: int  # images (few-shot: queries) behind it
    interval: tuple[float, float] | None = None  # 95 % over units of this encoder's images only
    predictions: Predictions | None = None  # of this number alone; None where it follows from another score's
    extra: dict[str, Any] = field(default_factory=dict)  # chosen strength, gradient norm, episodes ...


def of_predictions(
    images: Features, predicted: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64], extra: dict[str, Any]
) -> list[Score]:
    """Return accuracy and mean class accuracy of class indices ``predicted`` (N,), with the predictions behind them."""
    names = np.array(images.classes, dtype=np.str_)
    folds = np.zeros(len(images), dtype=np.int64)
    rows = Predictions(images.ids, images.units, names[images.y], names[predicted], folds, confidence)
    sizes, right = np.bincount(images.y), np.bincount(images.y, weights=rows.correct)
    mean = float((right[sizes > 0] / sizes[sizes > 0]).mean())
    interval = share_interval(rows.correct, images.units)
    return [
        Score("accuracy", float(rows.correct.mean()), len(images), interval, rows, extra),
        Score("mean_class_accuracy", mean, len(images), extra=extra),
    ]
