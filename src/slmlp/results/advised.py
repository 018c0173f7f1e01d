"""What the rule of ``results.advice`` makes of encoders, in numbers and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from slmlp.config.names import display
from slmlp.results import advice, layers
from slmlp.results.advice import Against
from slmlp.results.records import Result
from slmlp.results.sentences import points

RATIO = "discriminative_ratio_"
SIDES: dict[Against, str] = {"unseen": "unseen classes", "source": "other images of the same classes"}
CALLS = {
    "pays": "a projector pays: this loss specialises the encoder",
    "no difference": "no difference to expect from a projector",
    "costs": "leave the projector out, or train longer: fitting is not far enough for it to pay",
    "unknown": "the rule reads encoders that were trained without a projector: train one, or run a study",
}


@dataclass(frozen=True)
class Advice:
    """What to expect of a projector; points are of unseen accuracy."""

    subject: str  # images, run or contender
    call: str  # a key of CALLS
    gain: float | None  # to expect; None where the rule does not apply
    low: float | None  # of new settings, 95 % lie between; None before training
    high: float | None
    specialisation: float | None  # None before training
    against: Against | None
    sentences: tuple[str, ...]
    kept: float | None = None  # share of its best layer's unseen accuracy that the encoder has at its output
    measured: float | None = None  # the gain in this very study

    def as_json(self) -> dict[str, Any]:
        """Return the fields as they are written."""
        return dataclasses.asdict(self) | {"sentences": list(self.sentences)}


def of_contenders(
    without: Mapping[str, str | None], rows: Sequence[Result], means: Mapping[str, float]
) -> list[Advice]:
    """Return what the rule makes of a study's contenders without a projector.

    Args:
        without: contender -> the one that differs by a projector alone, where the study has it.
        rows: the study's result lines.
        means: unseen accuracy of contenders, 0 to 1.
    """
    depths, found = layers.of_runs(rows), []
    for name, other in without.items():
        value = _of_lines(rows, name)
        if value is None:
            continue
        both = other in means and name in means
        measured = 100 * (means[str(other)] - means[name]) if both else None
        kept = [one.kept for one in depths.get(name, {}).values()]
        found.append(by_rule(display(name), value, "unseen", measured, fmean(kept) if kept else None))
    return found


def _of_lines(rows: Sequence[Result], method: str) -> float | None:
    """Return a contender's specialisation, mean over its seeds; None where its measures were not taken."""
    sides: dict[str, dict[int, float]] = {"source_train": {}, "unseen": {}}
    for row in rows:
        side, place = row.metric.removeprefix(RATIO), (row.task, row.role, row.method, row.layer)
        if place == ("measures", "final", method, layers.OUTPUT) and side in sides:
            sides[side][row.seed] = row.value
    trained, unseen = sides.values()
    ratios = [trained[seed] / unseen[seed] for seed in trained if unseen.get(seed)]
    return fmean(ratios) if ratios else None


def by_rule(
    subject: str, value: float, against: Against, measured: float | None = None, kept: float | None = None
) -> Advice:
    """Return what the rule makes of a specialisation."""
    known = advice.pairs()
    rule, tried = advice.fit(known, against), advice.trial(known, against)
    gain, (low, high) = rule.gain(value), rule.interval(value)
    here = f"; measured here: {points(measured, plus=True)}" if measured is not None else ""
    tunnel = f"; it keeps {100 * kept:.0f} % of its best layer's unseen accuracy" if kept is not None else ""
    sentences = (
        f"{subject}: {CALLS[advice.call(gain)]}",
        f"the discriminative ratio on the images it was trained on is {value:.1f} times that on {SIDES[against]}"
        f"{tunnel}; encoders like it gained {points(gain, plus=True)} points of unseen accuracy from a projector "
        f"({points(low, plus=True)} to {points(high, plus=True)} in 95 % of new settings){here}",
        f"the rule is fitted on {len(known)} pairs of encoders in {rule.settings} settings (small images, ResNet-10); "
        f"in settings that it was not fitted on it called {tried.hits} of {len(known)} right and was "
        f"{tried.error:.1f} points off on average",
    )
    return Advice(subject, advice.call(gain), gain, low, high, value, against, sentences, kept, measured)
