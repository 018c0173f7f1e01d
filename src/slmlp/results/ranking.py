"""All contenders beside one another: every two of them compared, so that a reader may choose what to compare with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from slmlp.results.comparison import Comparison, Run, corrected, pair
from slmlp.results.intervals import Bootstrap, Estimate
from slmlp.results.over_datasets import POINTS, REPLICATES, ByData, mean_difference
from slmlp.results.records import Predictions

MOST = 12  # contenders: 66 pairs, of which a page still has room for twelve drawings


def every_two(
    names: Iterable[str], known: Sequence[Comparison], compare: Callable[[str, str], Comparison | None]
) -> tuple[Comparison, ...]:
    """Return the comparison of every two of three to ``MOST`` contenders, Holm's correction for all of them together.

    Args:
        names: the contenders.
        known: comparisons that are made already.
        compare: makes the comparison of a and b, or returns None where they share nothing.
    """
    contenders = list(names)
    if not 3 <= len(contenders) <= MOST:
        return ()
    made = {(c.a, c.b): c for c in known}
    found = [made.get(two) or compare(*two) for two in itertools.combinations(contenders, 2)]
    return corrected([dataclasses.replace(c, sets=()) for c in found if c is not None])


def mean_over_datasets(
    by_data: ByData, data: Sequence[str], seed: int = 0, replicates: int = REPLICATES
) -> Estimate:  # fmt: skip
    """Return a contender's mean over data sets, 0 to 1, for other seeds and images of them (fixed effects).

    It is its difference to a run that has nothing right, so that its interval is made as those of differences are.
    """
    paired = [pair(name, {s: (_nothing(run), run) for s, run in by_data[name].items()}) for name in data]
    return mean_difference(paired, POINTS, seed, replicates).fixed.times(0.01)


def _nothing(run: Run) -> Run:
    if isinstance(run, Bootstrap):
        return dataclasses.replace(run, value=0.0, replicates=np.zeros_like(run.replicates))
    assert isinstance(run, Predictions)
    return dataclasses.replace(run, values=np.zeros(len(run.ids)))
