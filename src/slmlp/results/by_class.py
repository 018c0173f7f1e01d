"""Two contenders class by class: which classes gain and which lose."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slmlp.results.comparison import BySeed, Comparison, compare, corrected, pair
from slmlp.results.records import Predictions


@dataclass(frozen=True)
class ClassChange:
    """One class under contenders a and b."""

    name: str
    images: int
    a: float  # share of its images that a names rightly, mean over seeds
    b: float
    comparison: Comparison | None  # corrected for all classes; None where its images are one group


def by_class(a: str, b: str, runs_a: BySeed, runs_b: BySeed) -> list[ClassChange]:
    """Return every class, that which gains most from ``b`` first; over the seeds that both have.

    All runs are of the same images in the same order.
    """
    pairs = {seed: (_predictions(runs_a[seed]), _predictions(runs_b[seed])) for seed in runs_a.keys() & runs_b.keys()}
    first = next(iter(pairs.values()))[0]
    found, compared = [], []
    names, codes = np.unique(first.labels, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    for name, rows in zip(names.tolist(), members, strict=True):
        of = {seed: (_only(one, rows), _only(other, rows)) for seed, (one, other) in pairs.items()}
        of_a, of_b = (float(np.mean([runs[side].correct.mean() for runs in of.values()])) for side in (0, 1))
        one = next(iter(of.values()))[0]
        several = len(np.unique(one.groups)) > 1
        comparison = compare(a, b, "accuracy", pair("data", of)) if several else None
        found.append(ClassChange(name, len(one.ids), of_a, of_b, comparison))
        compared += [comparison] if comparison else []
    numbers = iter(corrected(compared) if compared else ())
    changes = [dataclasses.replace(c, comparison=next(numbers)) if c.comparison else c for c in found]
    return sorted(changes, key=lambda c: c.a - c.b)


def change_by_image(runs_a: BySeed, runs_b: BySeed) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    """Return the images' ids and how much more often ``b`` names each rightly than ``a``, -1 to 1, mean over seeds."""
    seeds = sorted(runs_a.keys() & runs_b.keys())
    first = _predictions(runs_a[seeds[0]])
    changes = [_predictions(runs_b[seed]).correct - _predictions(runs_a[seed]).correct for seed in seeds]
    return first.ids, np.mean(changes, axis=0)


def _predictions(run: object) -> Predictions:
    assert isinstance(run, Predictions)
    return run


def _only(rows: Predictions, keep: npt.NDArray[np.int64]) -> Predictions:
    """Return the images of one class; more than right or wrong is not asked of them."""
    return Predictions(rows.ids[keep], rows.groups[keep], rows.labels[keep], rows.predictions[keep], rows.folds[keep])
