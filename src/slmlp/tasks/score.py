"""The answer of a task: a number, and the predictions behind it, so that any two can be paired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slmlp.results import Predictions, Scores


@dataclass(frozen=True)
class Score:
    """One number of a task."""

    metric: str  # accuracy, mean_class_accuracy, ece, accuracy_at_16_shots, ...
    value: float  # shares are 0 to 1
    n: int  # images (few-shot: queries) behind it
    interval: tuple[float, float] | None = None  # 95 % over units of this encoder's images only
    predictions: Predictions | None = None  # of this number alone; None where it follows from another score's
    extra: dict[str, Any] = field(default_factory=dict)  # chosen strength, gradient norm, episodes ...
    scores: Scores | None = None  # in place of predictions, where images have several labels
