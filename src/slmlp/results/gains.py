"""Whether an MLP projector gains one method more than another: the difference of two differences, an interaction.

"Found for one, not found for the other" does not say that the two gains differ (Gelman & Stern 2006, The American
Statistician 60): the gains themselves are compared, on the same seeds and images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from slmlp.results.comparison import BySeed, Comparison, corrected, correctness
from slmlp.results.intervals import Array, crossed_mean
from slmlp.results.records import Predictions


def compare_gains(
    runs: Mapping[str, BySeed], pairs: Sequence[tuple[str, str]], data: str = "data"
) -> tuple[Comparison, ...]:
    """Compare the gain of every pair (without, with) with that of the first.

    Args:
        runs: contender -> seed -> predictions of the same images.
        pairs: contenders; left out are pairs that share their first with another pair, whose gains are two of one
            method, and pairs of which no seed is common to all four.
        data: the data's name.

    Returns:
        ``a`` and ``b`` are the contenders without, the difference is b's gain minus a's in percentage points; Holm's
        correction is for all of them together.
    """
    found = []
    several = Counter(without for without, _ in pairs)
    pairs = [one for one in pairs if several[one[0]] == 1]
    if len(pairs) < 2:
        return ()
    first, *others = pairs
    for other in others:
        four = [*first, *other]
        seeds = sorted(set.intersection(*(set(runs[name]) for name in four)))
        if not seeds:
            continue
        (before, groups), (after, _) = (_changes(runs, *one, seeds) for one in (first, other))
        more = after - before  # (S, R, N)
        estimate = crossed_mean(more, groups).times(100)
        per_seed = 100 * more.mean(axis=(1, 2))
        found.append(
            Comparison(
                first[0], other[0], "accuracy", (data,), estimate, len(seeds), more.shape[-1], len(set(groups)),
                tuple(per_seed.tolist()), more.shape[1], estimate.p,
            )
        )  # fmt: skip
    return corrected(found) if found else ()


def _changes(
    runs: Mapping[str, BySeed], without: str, with_it: str, seeds: Sequence[int]
) -> tuple[Array, npt.NDArray[np.str_]]:
    """Return the change of every image's correctness (S, R, N), -1 to 1, and the groups (N,)."""
    both = [(runs[without][seed], runs[with_it][seed]) for seed in seeds]
    right, groups = correctness([(a, b) for a, b in both if isinstance(a, Predictions) and isinstance(b, Predictions)])
    return right[..., 1] - right[..., 0], groups
