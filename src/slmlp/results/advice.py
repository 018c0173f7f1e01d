"""When a projector pays: a rule fitted on pairs of encoders that were trained without one and with one.

The rule reads one number of an encoder that was trained *without* a projector, its **specialisation**: the
discriminative ratio on the images that it was trained on over that on images of other classes. A loss that pulls the
classes of training apart, and those alone, raises it; what a projector then saves is the unseen accuracy that this
costs. The gain of the projector is fitted as a line over the logarithm of the specialisation by least squares, every
setting counting alike.

``advice.json`` holds the pairs, made from committed result lines by ``scripts/build_advice.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from scipy import stats

from slmlp.config.methods import SL, MethodConfig
from slmlp.config.training import WITHOUT_COLOUR
from slmlp.runtime import json_files

Against = Literal["unseen", "source"]
PAYS = 1.0  # points of unseen accuracy from which a difference is worth a word
KINDS = {
    "cosine": "a cosine softmax or ArcFace",
    "smoothing": "softmax with label smoothing",
    "softmax": "plain softmax under weak augmentation",
    "strong": "softmax under strong augmentation",
    "pairs": "a loss that compares images or views (SupCon, MoCo, BYOL and kin)",
}


@dataclass(frozen=True)
class Pair:
    """One setting: what was trained, the gain of the projector, and the measures of the encoder without it."""

    setting: str  # equal settings, of other seeds or losses too, share it: they are left out together
    file: str  # of the result lines
    method: str
    kind: str  # of its loss, a key of KINDS
    seeds: int
    gain: float  # unseen accuracy with the projector minus without, points, mean over seeds
    source_gain: float  # the same of source test images
    unseen: float  # specialisation against unseen classes
    source: float  # specialisation against source test images, which needs no other classes


@dataclass(frozen=True)
class Rule:
    """Gain = ``intercept`` + ``slope`` * ln(specialisation), points."""

    against: Against
    intercept: float
    slope: float
    deviation: float  # of the settings around the line, points
    settings: int
    _centre: float
    _spread: float  # sum of squares of the logarithms

    def gain(self, specialisation: float) -> float:
        """Return the gain to expect."""
        return self.intercept + self.slope * math.log(specialisation)

    def interval(self, specialisation: float) -> tuple[float, float]:
        """Return where the gain of a new setting lies in 95 % of cases, by the line's prediction interval."""
        away = (math.log(specialisation) - self._centre) ** 2 / self._spread
        half = float(stats.t.ppf(0.975, self.settings - 2)) * self.deviation * math.sqrt(1 + 1 / self.settings + away)
        return self.gain(specialisation) - half, self.gain(specialisation) + half


@dataclass(frozen=True)
class Trial:
    """The rule on settings that it was not fitted on, each setting left out in turn."""

    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def hits(self) -> int:
        """How many of the pairs were called right: the projector pays, costs, or makes no difference."""
        return sum(call(a) == call(b) for a, b in zip(self.predicted, self.measured, strict=True))

    @property
    def error(self) -> float:
        """The mean distance of the gain expected from the gain measured, points."""
        return float(np.mean(np.abs(np.subtract(self.predicted, self.measured))))


def kind_of(settings: MethodConfig, augment: str) -> str:
    """Return the kind of loss that a method's settings make: a key of ``KINDS``."""
    if not isinstance(settings, SL):
        return "pairs"
    if settings.cosine:
        return "cosine"
    if augment not in WITHOUT_COLOUR:
        return "strong"
    return "smoothing" if settings.label_smoothing else "softmax"


def call(gain: float) -> Literal["pays", "costs", "no difference"]:
    """Return what a gain, in points, amounts to."""
    return "pays" if gain >= PAYS else "costs" if gain <= -PAYS else "no difference"


@cache
def pairs() -> tuple[Pair, ...]:
    """Return the pairs that slmlp comes with."""
    file = resources.files("slmlp.results") / "advice.json"
    with resources.as_file(file) as path:
        return tuple(Pair(**one) for one in json_files.read(path, list[dict[str, Any]]))


def fit(known: Sequence[Pair], against: Against = "unseen") -> Rule:
    """Return the rule of some pairs, each setting counting alike; at least three settings."""
    x = np.log([getattr(one, against) for one in known])
    y = np.array([one.gain for one in known])
    counts = {one.setting: sum(other.setting == one.setting for other in known) for one in known}
    weights = np.array([1 / counts[one.setting] for one in known])
    total = weights.sum()
    centre, middle = float(weights @ x / total), float(weights @ y / total)
    spread = float(weights @ (x - centre) ** 2)
    slope = float(weights @ ((x - centre) * (y - middle)) / spread)
    around = weights @ (y - middle - slope * (x - centre)) ** 2
    deviation = math.sqrt(float(around) / (total - 2))
    return Rule(against, middle - slope * centre, slope, deviation, len(counts), centre, spread)


def trial(known: Sequence[Pair], against: Against = "unseen") -> Trial:
    """Try the rule on every setting, fitted on the others."""
    predicted = [fit([other for other in known if other.setting != one.setting], against).gain(getattr(one, against))
                 for one in known]  # fmt: skip
    return Trial(tuple(predicted), tuple(one.gain for one in known))


def of_kind(known: Sequence[Pair], kind: str) -> list[Pair]:
    """Return the pairs of a kind of loss: what is known before anything is trained."""
    return [one for one in known if one.kind == kind]


def trial_of_kinds(known: Sequence[Pair]) -> Trial:
    """Try the mean gain of the same kind in other settings; pairs whose kind no other setting has are left out."""
    predicted, measured = [], []
    for one in known:
        others = [other.gain for other in of_kind(known, one.kind) if other.setting != one.setting]
        if others:
            predicted.append(float(np.mean(others)))
            measured.append(one.gain)
    return Trial(tuple(predicted), tuple(measured))
