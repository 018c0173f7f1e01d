"""Mean average precision of images with several labels: its interval, and encoders against one another.

It is no mean over images, so images are drawn anew and it is taken anew (``drawn``). Groups are drawn whole, and every
encoder sees the same draws, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slmlp.config.names import display
from slmlp.results.drawn import Difference, Drawn, compare, spread
from slmlp.results.metrics import average_precision_on_draws
from slmlp.results.records import Scores
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator

RESAMPLES = 1000
WORDS = "mAP"


def draw(rows: Scores, resamples: int = RESAMPLES) -> tuple[Drawn, int]:
    """Return mean average precision with its values on draws of groups, and the number of groups.

    A class of which a draw holds no image is left out of that draw.
    """
    _, codes = np.unique(rows.groups, return_inverse=True)
    groups = int(codes.max()) + 1
    counts = numpy_generator(0, "map-units", groups).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    weights = np.concatenate([np.ones((1, len(codes))), counts[:, codes].astype(np.float64)])
    areas = [
        average_precision_on_draws(rows.scores[:, k], rows.on[:, k], weights)
        for k in np.flatnonzero(rows.on.any(axis=0))
    ]
    there = np.isfinite(areas)  # (C', R + 1)
    with np.errstate(invalid="ignore"):
        means = np.where(there, areas, 0.0).sum(axis=0) / there.sum(axis=0)
    return Drawn(float(means[0]), means[1:]), groups


def interval(rows: Scores) -> tuple[float, float] | None:
    """Return the 95 % interval of mean average precision over groups, cut to 0 and 1; None with one group."""
    found, groups = draw(rows)
    low, high = spread([found], groups).interval
    return (max(0.0, low), min(1.0, high)) if np.isfinite(high) else None


@dataclass(frozen=True)
class Held:
    """The draws of every run on one data set; all runs were asked about the same images."""

    runs: dict[str, dict[int, Drawn]]  # method -> seed -> mean average precision
    groups: int  # that are drawn
    counted: str  # what they are: images, or groups of them

    def pair(self, a: str, b: str) -> dict[int, tuple[Drawn, Drawn]]:
        """Return seed -> the draws of both; a method with one run is paired with each run of the other."""
        first, second = self.runs[a], self.runs[b]
        first = dict.fromkeys(second, *first.values()) if len(first) == 1 else first
        second = dict.fromkeys(first, *second.values()) if len(second) == 1 else second
        return {seed: (first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}


def hold(runs: Mapping[str, Mapping[int, Scores]], baseline: str) -> Held:
    """Draw the groups of every run of ``runs``: method -> seed -> scores of the same images.

    Raises:
        SlmlpError: the runs were not asked about the same images and labels.
    """
    first = next(iter(runs[baseline].values()))
    for method, by_seed in runs.items():
        for seed, rows in by_seed.items():
            asked = ((rows.ids, first.ids), (rows.groups, first.groups), (rows.on, first.on))
            if rows.classes != first.classes or not all(np.array_equal(a, b) for a, b in asked):
                raise SlmlpError(
                    f"runs cannot be paired: {display(method)}, seed {seed}, was asked about other images or labels "
                    f"than {display(baseline)}"
                )
    groups = len(np.unique(first.groups))
    held = {method: {seed: draw(rows)[0] for seed, rows in by_seed.items()} for method, by_seed in runs.items()}
    return Held(held, groups, "images" if groups == len(first.ids) else "groups")


def judge(held: Held, baseline: str) -> list[Difference]:
    """Compare every method with the baseline, paired by seed; Holm's correction is left to who has them all."""
    found = []
    for method in held.runs:
        if method != baseline:
            pairs = held.pair(baseline, method)
            sides = {name: {seed: both[i] for seed, both in pairs.items()} for i, name in enumerate((baseline, method))}
            found += compare(sides, [(baseline, method)], "map", held.groups, WORDS, held.counted)
    return found
