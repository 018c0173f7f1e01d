"""Several methods over several data sets -> comparisons, means over data sets -> words.

The numbers are ``verdict.compare``'s for each data set and ``domain_statistics.over``'s for their mean; which of them
may be called differences is decided after Holm's correction, in two families: the means, one a method, and all single
data sets of all methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmlp.config.names import display
from slmlp.results.domain_comparison import DomainComparison, Runs, compare_over, corrected
from slmlp.results.domain_statistics import LOG_ODDS, RESAMPLES
from slmlp.results.domain_words import left_out, on_average, on_each, what_is_missing
from slmlp.results.verdict import mean_interval
from slmlp.runtime.errors import SlmlpError, unknown


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
    found = [compare_over(runs, baseline, method, seed, resamples) for method in runs if method != baseline]
    comparisons = corrected(found)
    names = tuple(dict.fromkeys(name for of_method in runs.values() for name in of_method))
    sentences = []
    for c in comparisons:
        if len(c.sets) > 1:
            sentences.append(on_average(c))
        sentences.append(on_each(c))
    for c in comparisons:
        sentences += left_out(runs, c)
    sentences += what_is_missing(names, missing)
    return DomainVerdict(baseline, names, tuple(missing), comparisons, _means(runs), tuple(sentences))


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
