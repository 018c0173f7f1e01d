"""Mean average precision of images with several labels: its interval, and encoders against one another.

It is no mean over images, so images are drawn anew and it is taken anew (``drawn``). Units are drawn whole, and every
encoder sees the same draws, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slmlp.drawn import Difference, Drawn, compare, spread
from slmlp.errors import SlmlpError
from slmlp.names import display
from slmlp.probes.scores import average_precision_on_draws
from slmlp.results import Scores
from slmlp.seeds import numpy_generator

RESAMPLES = 1000
WORDS = "mAP"


def draw(rows: Scores, resamples: int = RESAMPLES) -> tuple[Drawn, int]:
    """Return mean average precision with its values on draws of units, and the number of units.

    A class of which a draw holds no image is left out of that draw.
    """
    _, codes = np.unique(rows.units, return_inverse=True)
    units = int(codes.max()) + 1
    counts = numpy_generator(0, "map-units", units).multinomial(units, np.full(units, 1 / units), size=resamples)
    weights = np.concatenate([np.ones((1, len(codes))), counts[:, codes].astype(np.float64)])
    areas = [
        average_precision_on_draws(rows.scores[:, k], rows.on[:, k], weights)
        for k in np.flatnonzero(rows.on.any(axis=0))
    ]
    there = np.isfinite(areas)  # (C', R + 1)
    with np.errstate(invalid="ignore"):
        means = np.where(there, areas, 0.0).sum(axis=0) / there.sum(axis=0)
    return Drawn(float(means[0]), means[1:]), units


def interval(rows: Scores) -> tuple[float, float] | None:
    """Return the 95 % interval of mean average precision over units, cut to 0 and 1; None with one unit."""
    found, units = draw(rows)
    low, high = spread([found], units).interval
    return (max(0.0, low), min(1.0, high)) if np.isfinite(high) else None


def judge(runs: Mapping[str, Mapping[int, Scores]], baseline: str) -> list[Difference]:
    """Compare every method of ``runs`` (method -> seed -> scores of the same images) with the baseline.

    Runs are paired by seed. A method with one run is paired with each run of the other.

    Raises:
        SlmlpError: the runs were not asked about the same images and labels.
    """
    first = next(iter(runs[baseline].values()))
    for method, by_seed in runs.items():
        for seed, rows in by_seed.items():
            asked = ((rows.ids, first.ids), (rows.units, first.units), (rows.on, first.on))
            if rows.classes != first.classes or not all(np.array_equal(a, b) for a, b in asked):
                raise SlmlpError(
                    f"runs cannot be paired: {display(method)}, seed {seed}, was asked about other images or labels "
                    f"than {display(baseline)}"
                )
    units = len(np.unique(first.units))
    counted = "images" if units == len(first.ids) else "units"
    held = {method: {seed: draw(rows)[0] for seed, rows in by_seed.items()} for method, by_seed in runs.items()}
    found = []
    for method in held:
        if method != baseline:
            a, b = held[baseline], held[method]
            a = dict.fromkeys(b, *a.values()) if len(a) == 1 else a
            b = dict.fromkeys(a, *b.values()) if len(b) == 1 else b
            found += compare({baseline: a, method: b}, [(baseline, method)], "map", units, WORDS, counted)
    return found
