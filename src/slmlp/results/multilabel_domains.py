"""Mean average precision over several data sets: the mean difference of two encoders, in points and in log-odds.

Letters: J data sets, S_j seeds of data set j. The two populations are those of ``domain_statistics``: *these data sets*
under other seeds and other images, and *data sets like these*. Seeds belong to encoders: a lucky one is lucky on every
data set, so its deviations are averaged over data sets before they are squared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slmlp.config.names import display
from slmlp.results.domain_statistics import log_odds
from slmlp.results.drawn import ALPHA, Drawn, spread
from slmlp.results.intervals import CrossedMean, added, holm
from slmlp.results.multilabel_verdict import WORDS, Held
from slmlp.results.verdict import points


@dataclass(frozen=True)
class Over:
    """A mean over data sets, each counting alike, of the difference B - A."""

    these: CrossedMean  # other seeds and images of these data sets
    like: CrossedMean  # data sets like these


@dataclass(frozen=True)
class MeanDifference:
    """Method ``b`` minus method ``a`` over the data sets that both were asked about, at least two."""

    a: str
    b: str
    sets: tuple[str, ...]
    points: Over  # 0 to 1
    log_odds: Over
    p_holm: float

    @property
    def winner(self) -> str | None:
        """The better one on these data sets after Holm's correction over the methods, or None."""
        if self.p_holm >= ALPHA:
            return None
        return self.b if self.points.these.value > 0 else self.a

    @property
    def short(self) -> str:
        """The finding in one breath."""
        a, b, these = display(self.a), display(self.b), self.points.these
        low, high = these.interval
        value = f"{points(100 * these.value, plus=True)} points of {WORDS} (95 % CI {points(100 * low)} to "
        value += f"{points(100 * high)})"
        where = f"over {len(self.sets)} data sets"
        if self.winner is None:
            return f"no difference found between {b} and {a} {where}: {value}"
        return f"{b} {'beats' if self.winner == self.b else 'loses to'} {a} {where}: {value}"

    @property
    def sentence(self) -> str:
        """The finding in full."""
        a, b, these = display(self.a), display(self.b), self.points.these
        low, high = these.interval
        value = f"{points(100 * these.value, plus=True)} points of {WORDS} on average"
        odds_low, odds_high = self.log_odds.these.interval
        basis = (
            f"95 % CI {points(100 * low)} to {points(100 * high)} for these data sets, "
            f"{points(100 * self.points.like.interval[0])} to {points(100 * self.points.like.interval[1])} for data "
            f"sets like these; log-odds {self.log_odds.these.value:+.2f}, {odds_low:.2f} to {odds_high:.2f}"
        )
        where = f"over {len(self.sets)} data sets ({', '.join(self.sets)})"
        if self.winner is None:
            return f"{where} no difference found between {b} and {a}: {value} ({basis})"
        return f"{where} {b} {'beats' if self.winner == self.b else 'loses to'} {a}: {value} ({basis})"


def judge_means(held: Mapping[str, Held], baseline: str) -> list[MeanDifference]:
    """Compare every method with the baseline over the data sets (name -> draws) that both have; two at least."""
    methods = dict.fromkeys(method for one in held.values() for method in one.runs if method != baseline)
    found = []
    for method in methods:
        sets = {name: one for name, one in held.items() if {baseline, method} <= one.runs.keys()}
        sets = {name: one for name, one in sets.items() if one.pair(baseline, method)}
        if len(sets) > 1:
            raw, odds = (_over(sets, baseline, method, in_odds=in_odds) for in_odds in (False, True))
            found.append(MeanDifference(baseline, method, tuple(sets), raw, odds, raw.these.p))
    adjusted = holm(np.array([one.p_holm for one in found])).tolist() if found else []
    return [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def means(held: Mapping[str, Held]) -> dict[str, tuple[float, float]]:
    """Return each method's mean over data sets and seeds, raw (0 to 1) and in log-odds, where it has all data sets."""
    found = {}
    for method in dict.fromkeys(m for one in held.values() for m in one.runs):
        if all(method in one.runs for one in held.values()):
            sides = (
                [np.mean([_scaled(run, one.groups, odds).value for run in one.runs[method].values()])
                 for one in held.values()]
                for odds in (False, True)
            )  # fmt: skip
            raw, odds = (float(np.mean(side)) for side in sides)
            found[method] = (raw, odds)
    return found


def _over(sets: Mapping[str, Held], a: str, b: str, *, in_odds: bool) -> Over:
    """Return the mean difference and its spread.

    These data sets: the variance of images of each, over J^2, and over seeds the sum of squares of the mean over data
    sets of the seed's deviation / sqrt(S_j (S_j - 1)). Data sets like these: s^2 of the J differences / J, which holds
    the images' noise, and the seeds again, so that it errs on the wide side. Degrees by Welch and Satterthwaite.
    """
    gaps: list[dict[int, Drawn]] = []
    images: list[tuple[float, float]] = []
    for one in sets.values():
        gap = {}
        for seed, pair in one.pair(a, b).items():
            first, second = (_scaled(run, one.groups, in_odds) for run in pair)
            gap[seed] = Drawn(second.value - first.value, second.draws - first.draws)
        gaps.append(gap)
        over_seeds = Drawn(
            float(np.mean([run.value for run in gap.values()])), np.mean([run.draws for run in gap.values()], axis=0)
        )
        alone = spread([over_seeds], one.groups)
        images.append((alone.variance / len(sets) ** 2, alone.degrees))
    by_set = np.array([np.mean([run.value for run in gap.values()]) for gap in gaps])
    seeds = _of_seeds(gaps, by_set)
    scatter = (float(by_set.var(ddof=1)) / len(by_set), len(by_set) - 1.0)
    value = float(by_set.mean())
    return Over(CrossedMean(value, *added([*images, *seeds])), CrossedMean(value, *added([scatter, *seeds])))


def _of_seeds(
    gaps: Sequence[Mapping[int, Drawn]], by_set: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> list[tuple[float, float]]:
    """Return variance and degrees of freedom of what other seeds would change; nothing where no set has two."""
    several = [len(gap) for gap in gaps if len(gap) > 1]
    if not several:
        return []
    total = 0.0
    for seed in {seed for gap in gaps for seed in gap}:
        deviations = [
            (gap[seed].value - mean) / np.sqrt(len(gap) * (len(gap) - 1))
            for gap, mean in zip(gaps, by_set, strict=True)
            if len(gap) > 1 and seed in gap
        ]
        total += float(sum(deviations) / len(gaps)) ** 2
    return [(total, min(several) - 1.0)]


def _scaled(run: Drawn, groups: int, in_odds: bool) -> Drawn:
    """Return the run as it is, or in log-odds kept half a group away from 0 and from 1."""
    if not in_odds:
        return run
    count = np.array([float(groups)])
    return Drawn(float(log_odds(np.array([run.value]), count)[0]), log_odds(run.draws, count))
