"""A suite's verdict on images of several labels: mean average precision by data set and on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slmlp.results import drawn, multilabel_verdict
from slmlp.results.domain_words import what_is_missing
from slmlp.results.drawn import Difference
from slmlp.results.intervals import CrossedMean
from slmlp.results.multilabel_domains import MeanDifference, judge_means, means
from slmlp.results.records import Scores


@dataclass(frozen=True)
class SeveralLabels:
    """What a task says of images of several labels."""

    sets: tuple[str, ...]  # that the baseline was asked about
    missing: tuple[str, ...]  # of the suite, that nothing is there of
    single: list[tuple[str, Difference]]  # each data set by itself, with its name; corrected for all of them together
    over: list[MeanDifference]
    means: dict[str, tuple[float, float]]  # method -> mean over data sets, raw and in log-odds

    @classmethod
    def of(
        cls, sets: Mapping[str, Mapping[str, Mapping[int, Scores]]], names: Sequence[str], missing: Sequence[str]
    ) -> SeveralLabels:
        """Judge ``sets``: data set -> method -> seed -> scores. The first of ``names`` is the baseline."""
        held = {
            name: multilabel_verdict.hold({m: runs[m] for m in names if m in runs}, names[0])
            for name, runs in sets.items()
            if names[0] in runs
        }
        single = [(name, d) for name, one in held.items() for d in multilabel_verdict.judge(one, names[0])]
        corrected = drawn.corrected([d for _, d in single])
        return cls(
            tuple(held),
            tuple(missing),
            [(name, d) for (name, _), d in zip(single, corrected, strict=True)],
            judge_means(held, names[0]),
            means(held) if len(held) > 1 else {},
        )

    @property
    def short(self) -> list[str]:
        """The findings as the page begins with them: on average, or where there is one data set, on that."""
        return [d.short for d in self.over] or [f"{name}: {d.sentence}" for name, d in self.single]

    @property
    def sentences(self) -> list[str]:
        """The findings in full, the mean first."""
        single = [f"{name}: {d.sentence}" for name, d in self.single]
        return [*(d.sentence for d in self.over), *single, *self.what_is_missing]

    @property
    def what_is_missing(self) -> list[str]:
        """The sentence on data sets that are not there."""
        return what_is_missing(self.sets, self.missing)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON, in percentage points."""
        return {
            "sentences": self.sentences,
            "better": [d.b for d in self.over if d.winner == d.b],
            "comparisons": [],
            "means": {
                name: {"accuracy": 100 * raw, "log_odds": odds, "sets": len(self.sets)}
                for name, (raw, odds) in self.means.items()
            },
            "over": [_mean_difference(d) for d in self.over],
            "differences": [_difference(name, d) for name, d in self.single],
        }


def _difference(name: str, d: Difference) -> dict[str, Any]:
    return {
        "data": name, "a": d.a, "b": d.b, "difference": 100 * d.mean.value, **_spread(d.mean, 100),
        "p_holm": d.p_holm, "seeds": d.seeds, "groups": d.images, "winner": d.winner,
    }  # fmt: skip


def _spread(mean: CrossedMean, scale: float) -> dict[str, float | None]:
    """Return interval and p-value; images of one group have no interval, and JSON no infinity."""
    low, high = (scale * bound if np.isfinite(bound) else None for bound in mean.interval)
    return {"low": low, "high": high, "p": mean.p}


def _mean_difference(d: MeanDifference) -> dict[str, Any]:
    sides = {"these": d.points.these, "like": d.points.like}
    odds = {"these": d.log_odds.these, "like": d.log_odds.like}
    return {
        "a": d.a, "b": d.b, "sets": list(d.sets), "difference": 100 * d.points.these.value, "p_holm": d.p_holm,
        "winner": d.winner, **{name: _spread(mean, 100) for name, mean in sides.items()},
        "log_odds": {
            "difference": d.log_odds.these.value, **{name: _spread(mean, 1) for name, mean in odds.items()}
        },
    }  # fmt: skip
