"""One method against another over several data sets, by ``verdict.compare`` on each and ``over`` for the mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmlp.config.names import display
from slmlp.results.domain_statistics import LOG_ODDS, POINTS, Over, PairedSet, over, pair_set
from slmlp.results.intervals import holm
from slmlp.results.records import Predictions
from slmlp.results.verdict import ALPHA, Comparison, compare
from slmlp.runtime.errors import SlmlpError

Runs = Mapping[str, Mapping[int, Predictions]]  # of one method: data set -> seed -> predictions


@dataclass(frozen=True)
class DomainComparison:
    """Method B against method A over data sets; differences are B - A."""

    method_a: str
    method_b: str
    sets: dict[str, Comparison]  # data set -> comparison; their p_holm is over all data sets of all methods
    points: Over  # mean difference in percentage points
    log_odds: Over  # mean difference of ln(p / (1 - p))
    p_holm: float  # of the mean in points on these data sets, corrected over the methods
    comparisons: int  # methods in that correction
    one_run: str | None  # the method whose only run is paired with each run of the other

    @property
    def winner(self) -> str | None:
        """The method with the higher mean over these data sets, or None where that is not shown."""
        low, high = self.points.these.interval
        if self.p_holm >= ALPHA or low <= 0 <= high:
            return None
        return self.method_b if self.points.value > 0 else self.method_a

    @property
    def holds_beyond(self) -> bool:
        """Whether the finding of ``winner`` is also shown for data sets like these."""
        like = self.points.like
        return self.winner is not None and like is not None and (like.interval[0] > 0 or like.interval[1] < 0)


def compare_over(runs: Mapping[str, Runs], baseline: str, method: str, seed: int, resamples: int) -> DomainComparison:
    """Compare one method with the baseline over the data sets and seeds that both have."""
    one_run = _one_run(runs, baseline, method)
    sets: dict[str, Comparison] = {}
    paired: list[PairedSet] = []
    for name in runs[baseline]:
        pairs = pair_up(runs[baseline][name], runs[method].get(name, {}), any_seed=one_run is not None)
        if not pairs:
            continue
        try:
            sets[name] = compare(baseline, method, [pairs[s] for s in sorted(pairs)])
            paired.append(pair_set(name, pairs))
        except SlmlpError as error:
            raise SlmlpError(f"{name}, {display(method)} against {display(baseline)}: {error}") from error
    if not sets:
        raise SlmlpError(f"no data set and seed has predictions of both {display(baseline)} and {display(method)}")
    of_points, of_log_odds = (over(paired, scale, seed, resamples) for scale in (POINTS, LOG_ODDS))
    told = one_run if any(c.seeds > 1 for c in sets.values()) else None
    return DomainComparison(baseline, method, sets, of_points, of_log_odds, of_points.these.p, 1, told)


def pair_up(
    a: Mapping[int, Predictions], b: Mapping[int, Predictions], *, any_seed: bool
) -> dict[int, tuple[Predictions, Predictions]]:
    """Return seed -> predictions of both; with ``any_seed`` the one run of a side goes with each of the other."""
    if not any_seed:
        return {seed: (a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())}
    if len(a) == 1:
        [only] = a.values()
        return {seed: (only, rows) for seed, rows in b.items()}
    return {seed: (rows, only) for only in b.values() for seed, rows in a.items()}


def _one_run(runs: Mapping[str, Runs], *methods: str) -> str | None:
    """Return the method that has one seed on all its data sets, the first of the two where both have."""
    for method in methods:
        if len({seed for by_seed in runs[method].values() for seed in by_seed}) == 1:
            return method
    return None


def corrected(found: Sequence[DomainComparison]) -> tuple[DomainComparison, ...]:
    """Return the comparisons with Holm's correction over the means, and over all single data sets."""
    means = holm(np.array([c.points.these.p for c in found])).tolist()
    singles = [single for c in found for single in c.sets.values()]
    each = iter(holm(np.array([single.p for single in singles])).tolist())
    corrected = []
    for c, p_holm in zip(found, means, strict=True):
        sets = {
            name: dataclasses.replace(single, p_holm=next(each), comparisons=len(singles))
            for name, single in c.sets.items()
        }
        corrected.append(dataclasses.replace(c, sets=sets, p_holm=p_holm, comparisons=len(found)))
    return tuple(corrected)
