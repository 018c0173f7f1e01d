"""Several methods over several data sets -> comparisons, means over data sets -> words.

The numbers are ``verdict.compare``'s for each data set and ``domain_statistics.over``'s for their mean; which of them
may be called differences is decided after Holm's correction, in two families: the means, one a method, and all single
data sets of all methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmlp.domain_statistics import LOG_ODDS, POINTS, RESAMPLES, Over, PairedSet, over, pair_set
from slmlp.domain_words import left_out, on_average, on_each, what_is_missing
from slmlp.errors import SlmlpError, unknown
from slmlp.names import display
from slmlp.results import Predictions
from slmlp.statistics import holm
from slmlp.verdict import ALPHA, Comparison, compare, mean_interval

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


@dataclass(frozen=True)
class MethodMean:
    """A method's own mean over the data sets that every method has, each counting alike."""

    method: str
    accuracy: float  # 0 to 1
    log_odds: float  # mean of ln(p / (1 - p))
    data_sets: tuple[str, ...]


@dataclass(frozen=True)
class DomainVerdict:
    """Every method against the baseline over data sets, and the findings in words."""

    baseline: str
    data_sets: tuple[str, ...]
    missing: tuple[str, ...]  # data sets of the suite of which nothing is there
    comparisons: tuple[DomainComparison, ...]
    means: tuple[MethodMean, ...]
    sentences: tuple[str, ...]  # for each method: on average, then by data set; then what was left out or is missing


def judge_domains(
    runs: Mapping[str, Runs],
    baseline: str,
    missing: Sequence[str] = (),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> DomainVerdict:
    """Compare every method of ``runs`` (method -> data set -> seed -> predictions) with the baseline.

    Runs are paired by seed. A method with one run, as a foreign encoder or an untrained one, is paired with each run
    of the other, and its own chance stays out of the intervals, which a sentence says. ``missing`` names the data sets
    of the suite that were not there. ``seed`` and ``resamples`` are of the resampling.
    """
    if baseline not in runs:
        raise unknown("baseline", baseline, runs)
    if len(runs) < 2:
        raise SlmlpError(f"a verdict needs a second method beside {display(baseline)}")
    found = [_compare(runs, baseline, method, seed, resamples) for method in runs if method != baseline]
    comparisons = _corrected(found)
    names = tuple(dict.fromkeys(name for of_method in runs.values() for name in of_method))
    sentences = []
    for c in comparisons:
        if len(c.sets) > 1:
            sentences.append(on_average(c, c.winner, c.holds_beyond))
        sentences.append(on_each(c))
    for c in comparisons:
        sentences += left_out(runs, c)
    sentences += what_is_missing(names, missing)
    return DomainVerdict(baseline, names, tuple(missing), comparisons, _means(runs), tuple(sentences))


def _compare(runs: Mapping[str, Runs], baseline: str, method: str, seed: int, resamples: int) -> DomainComparison:
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


def _corrected(found: Sequence[DomainComparison]) -> tuple[DomainComparison, ...]:
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


def _means(runs: Mapping[str, Runs]) -> tuple[MethodMean, ...]:
    """Return every method's mean over the data sets that all of them have; none where there is no such data set."""
    of_first = next(iter(runs.values()))
    shared = tuple(name for name in of_first if all(runs[method].get(name) for method in runs))
    means = []
    for method, of_method in runs.items():
        found = [mean_interval(list(of_method[name].values())) for name in shared]
        if found:
            accuracy, images = np.array([one.value for one in found]), np.array([float(one.images) for one in found])
            odds = LOG_ODDS.of(accuracy, images)
            means.append(MethodMean(method, float(accuracy.mean()), float(odds.mean()), shared))
    return tuple(means)
