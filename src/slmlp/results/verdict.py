"""Verdicts: every contender against the baseline, corrected together, as numbers, sentences and verdict.json.

Studies, comparisons of single runs, suites and detections write verdict.json in one shape::

    {"schema": 2,
     "sentences": [...],          what the page opens with
     "lead": count,               of them that stay where there are many; the others are folded
     "note": text or null,        a caution beside them
     "headline": key or null,     of the task that the page opens with
     "tasks": {"TASK METRIC": {   "unseen accuracy", "linear map", "detect box_ap" ...
        "task", "metric", "baseline",
        "data": [names], "missing": [data sets of the suite that are not there],
        "sentences": [...],       in full: over data sets, by data set, then what was left out
        "comparisons": [C, ...],  with the baseline; of a detection also each encoder with its random controls
        "pairs": [C, ...],        corrected by themselves: of a study, each method with an MLP and without
        "gains": [C, ...],        of a study of several such pairs: b's gain minus that of a, the method of the first
        "references": [{"name", "value", "sentence", "comparisons": [C, ...]}],  of a study: what needs no training, its
                                  accuracy in percent, and every contender against it, all corrected together
        "every": [C, ...],        of the headline of three to 12 contenders: every two of them, corrected by themselves
        "means": {contender: {"value", "low", "high", "log_odds", "seeds", "images", "data"}}}}}

    C = {"a", "b", "metric", "data": [names], "difference", "low", "high", "p", "p_holm", "detectable", "seeds",
         "images", "groups", "per_seed": [...], "winner": name or null, "sentence",
         "random_effects": {"low", "high", "p", "detectable"} or null,
         "log_odds": {"difference", "low", "high", "p", "detectable", "random_effects"} or null,
         "sets": [C, ...]}        over data sets, the comparison on each

Differences (b - a), their 95 % intervals ``low`` to ``high`` and ``detectable``, the minimum detectable difference at
80 % power, are in percentage points; means in percent, over several data sets with an interval in the headline only.
Over data sets, the numbers of C itself are of fixed effects, and so are intervals of means. Numbers that do not exist
(images of one group have no interval) are null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slmlp.config.names import display
from slmlp.results import ranking, references
from slmlp.results import sentences as words
from slmlp.results.comparison import BySeed, Comparison, Effects, Mean, compare, corrected, mean_of, pair
from slmlp.results.intervals import Estimate
from slmlp.results.over_datasets import REPLICATES, ByData, comparable, compare_over_datasets, own_log_odds
from slmlp.results.references import Reference
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError, unknown

SCHEMA = 2
JUDGED = ("accuracy", "superclass_accuracy", "within_superclass_accuracy", "map_at_r")


def judged(metric: str) -> bool:
    """Return whether a task's number with predictions of its own is one that contenders are compared by."""
    return metric in JUDGED or metric.startswith(("accuracy_at_", "recall_at_"))


@dataclass(frozen=True)
class OwnMean:
    """A contender's own mean over the data sets that all contenders have, each counting alike."""

    value: float  # 0 to 1
    interval: tuple[float, float] | None  # 0 to 1; None for images of one group, and over data sets beside the headline
    log_odds: float  # mean of ln(p / (1 - p))
    seeds: int  # the fewest of a data set
    images: int  # of all data sets
    data: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The comparisons of one metric of one task, and the findings in words."""

    task: str
    metric: str
    baseline: str
    data: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    means: dict[str, OwnMean]
    sentences: tuple[str, ...]
    pairs: tuple[Comparison, ...] = ()  # compared besides, and corrected by themselves
    missing: tuple[str, ...] = ()  # data sets of the suite of which nothing is there
    gains: tuple[Comparison, ...] = ()  # what one pair gains more than the first, see ``gains``
    references: tuple[Reference, ...] = ()  # what needs no training: pixels, chance ...
    every: tuple[Comparison, ...] = ()  # every two contenders, corrected by themselves

    @property
    def key(self) -> str:
        """The task's place in verdict.json."""
        return f"{self.task} {self.metric}"

    @property
    def short(self) -> list[str]:
        """The findings over data sets as a page opens with them."""
        return [words.short(c) for c in self.comparisons]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as the module describes it."""
        return {
            "task": self.task,
            "metric": self.metric,
            "baseline": self.baseline,
            "data": list(self.data),
            "missing": list(self.missing),
            "sentences": list(self.sentences),
            "comparisons": [_comparison(c) for c in self.comparisons],
            "pairs": [_comparison(c) for c in self.pairs],
            "gains": [_comparison(c) | {"sentence": words.gained(c)} for c in self.gains],
            "references": [
                {
                    "name": one.name,
                    "value": 100 * one.value,
                    "sentence": references.sentence(one),
                    "comparisons": [_comparison(c) for c in one.comparisons],
                }
                for one in self.references
            ],
            "every": [_comparison(c) for c in self.every],
            "means": {name: _mean(mean) for name, mean in self.means.items()},
        }


def write(
    folder: Path, verdicts: Sequence[Verdict], opening: Sequence[str], note: str | None = None, *, lead: int = 1
) -> None:
    """Write verdict.json; the first verdict is the headline, the first ``lead`` sentences stay where there are many."""
    content = {
        "schema": SCHEMA,
        "sentences": list(opening),
        "lead": lead,
        "note": note,
        "headline": verdicts[0].key if verdicts else None,
        "tasks": {verdict.key: verdict.to_json() for verdict in verdicts},
    }
    json_files.write(folder / "verdict.json", content, seal=True)


def judge(
    runs: Mapping[str, BySeed], baseline: str, *, task: str = "unseen", metric: str = "accuracy", data: str = "data",
    compared: Sequence[tuple[str, str]] | None = None, pairs: Sequence[tuple[str, str]] = (), every: bool = False,
) -> Verdict:  # fmt: skip
    """Compare contenders on one data set, paired by the seeds that both have.

    Args:
        runs: contender -> seed -> run.
        baseline: the contender that every other is compared with.
        task: name of the task.
        metric: name of the number.
        data: name of the data set.
        compared: the comparisons (a, b) in place of those with the baseline.
        pairs: further comparisons (a, b), corrected by themselves.
        every: whether every two contenders are compared besides.

    Raises:
        SlmlpError: unknown baseline, no second contender, or runs that cannot be paired.
    """
    _check(runs, baseline)
    comparisons = compare_all(runs, _with(baseline, runs) if compared is None else compared, metric, data)
    sentences = [words.sentence(c) for c in comparisons]
    if len(comparisons) > 1 and compared is None:
        sentences.insert(0, words.together(baseline, comparisons))
    sets = {name: {data: by_seed} for name, by_seed in runs.items()}
    sentences += words.left_out(sets, comparisons, name_data=False)
    besides = compare_all(runs, pairs, metric, data)

    def of_two(a: str, b: str) -> Comparison | None:
        return compare_all(runs, [(a, b)], metric, data)[0] if runs[a].keys() & runs[b].keys() else None

    all_ = ranking.every_two(runs, comparisons, of_two) if every else ()
    return Verdict(task, metric, baseline, (data,), comparisons, _means(sets), tuple(sentences), besides, every=all_)


def alone(runs: Mapping[str, BySeed], *, task: str, metric: str, data: str) -> Verdict:
    """Return the means of contenders that nothing is compared with."""
    sets = {name: {data: by_seed} for name, by_seed in runs.items()}
    return Verdict(task, metric, next(iter(runs)), (data,), (), _means(sets), ())


def compare_all(
    runs: Mapping[str, BySeed], pairs: Sequence[tuple[str, str]], metric: str = "accuracy", data: str = "data"
) -> tuple[Comparison, ...]:
    """Compare each pair (a, b) over the seeds both have; Holm's correction is for all of the pairs together."""
    comparisons = []
    for a, b in pairs:
        seeds = runs[a].keys() & runs[b].keys()
        if not seeds:
            raise SlmlpError(f"no seed has predictions of both {display(a)} and {display(b)}")
        comparisons.append(compare(a, b, metric, pair(data, {seed: (runs[a][seed], runs[b][seed]) for seed in seeds})))
    return corrected(comparisons)


def judge_over_datasets(
    runs: Mapping[str, ByData], baseline: str, missing: Sequence[str] = (), *, task: str = "linear",
    metric: str = "accuracy", seed: int = 0, replicates: int = REPLICATES, every: bool = False,
) -> Verdict:  # fmt: skip
    """Compare every contender of ``runs`` (contender -> data set -> seed -> run) with the baseline over data sets.

    Runs are paired by seed. A contender with one run, as a foreign or an untrained encoder, is paired with each run of
    the other, and what another run of it would change stays out of the intervals, which a sentence says. Holm's
    correction is made in two families: the means, one per contender, and all single data sets of all contenders.

    Args:
        runs: contender -> data set -> seed -> run.
        baseline: the contender that every other is compared with.
        missing: data sets of the suite that are not there.
        task: name of the task.
        metric: name of the number.
        seed: of the resampling.
        replicates: of the resampling.
        every: whether every two contenders are compared besides, and means over data sets have intervals.

    Raises:
        SlmlpError: unknown baseline, no second contender, or runs that cannot be paired.
    """
    _check(runs, baseline)
    means = corrected([compare_over_datasets(runs, a, b, metric, seed, replicates) for a, b in _with(baseline, runs)])
    singles = iter(corrected([single for c in means for single in c.sets]))
    comparisons = tuple(replace(c, sets=tuple(next(singles) for _ in c.sets)) for c in means)
    data = tuple(dict.fromkeys(name for by_data in runs.values() for name in by_data))
    sentences = []
    for c in comparisons:
        sentences += [words.sentence(c), words.by_data_set(c)] if len(c.sets) > 1 else [words.sentence(c)]
    sentences += words.left_out(runs, comparisons, name_data=True)
    sentences += words.missing_data_sets(data, missing)

    def of_two(a: str, b: str) -> Comparison | None:
        return compare_over_datasets(runs, a, b, metric, seed, replicates) if comparable(runs, a, b) else None

    own = _means(runs, (seed, replicates) if every else None)
    all_ = ranking.every_two(runs, comparisons, of_two) if every else ()
    return Verdict(task, metric, baseline, data, comparisons, own, tuple(sentences), missing=tuple(missing), every=all_)


def _check(runs: Mapping[str, Any], baseline: str) -> None:
    if baseline not in runs:
        raise unknown("baseline", baseline, runs)
    if len(runs) < 2:
        raise SlmlpError(f"a verdict needs a second method beside {display(baseline)}: name one in --methods")


def _with(baseline: str, names: Iterable[str]) -> list[tuple[str, str]]:
    return [(baseline, name) for name in names if name != baseline]


def _means(runs: Mapping[str, ByData], resampling: tuple[int, int] | None = None) -> dict[str, OwnMean]:
    """Return every contender's mean over the data sets that all have; nothing where there is no such data set.

    With ``resampling``, its seed and replicates, means over several data sets have intervals too.
    """
    data = tuple(name for name in next(iter(runs.values())) if all(runs[contender].get(name) for contender in runs))
    if not data:
        return {}
    means = {}
    for contender, by_data in runs.items():
        own: list[Mean] = [mean_of(list(by_data[name].values())) for name in data]
        log_odds = [own_log_odds(list(by_data[name].values())) for name in data]
        estimate = own[0].estimate if len(data) == 1 else None
        if len(data) > 1 and resampling is not None:
            estimate = ranking.mean_over_datasets(by_data, data, *resampling)
        interval = estimate.share_interval if estimate and estimate.variance < float("inf") else None
        means[contender] = OwnMean(
            float(np.mean([mean.estimate.value for mean in own])), interval,
            float(np.mean(log_odds)), min(mean.seeds for mean in own), sum(mean.images for mean in own), data,
        )  # fmt: skip
    return means


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "a": c.a,
        "b": c.b,
        "metric": c.metric,
        "data": list(c.data),
        "difference": c.difference,
        **_interval(c.estimate),
        "p_holm": c.p_holm,
        "seeds": c.seeds,
        "images": c.images,
        "groups": c.groups,
        "per_seed": list(c.per_seed),
        "winner": c.winner,
        "sentence": words.sentence(c),
        "random_effects": c.random_effects and _interval(c.random_effects),
        "log_odds": c.log_odds and _effects(c.log_odds),
        "sets": [_comparison(one) for one in c.sets],
    }


def _effects(effects: Effects) -> dict[str, Any]:
    return {
        "difference": effects.fixed.value,
        **_interval(effects.fixed),
        "random_effects": effects.random and _interval(effects.random),
    }


def _interval(estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval
    numbers = {"low": low, "high": high, "p": estimate.p, "detectable": estimate.detectable}
    return {name: value if np.isfinite(value) else None for name, value in numbers.items()}


def _mean(mean: OwnMean) -> dict[str, Any]:
    low, high = (100 * end for end in mean.interval) if mean.interval else (None, None)
    return {
        "value": 100 * mean.value, "low": low, "high": high, "log_odds": mean.log_odds, "seeds": mean.seeds,
        "images": mean.images, "data": list(mean.data),
    }  # fmt: skip
