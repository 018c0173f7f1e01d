"""What needs no training, against every contender of a study: the starting encoder, raw pixels, chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slmlp.config.names import display
from slmlp.results.comparison import BySeed, Comparison, compare, corrected, pair
from slmlp.results.records import Predictions
from slmlp.results.sentences import interval, points

LISTED = 3  # contenders whose differences a sentence lists


@dataclass(frozen=True)
class Reference:
    """One of them, with its accuracy (0 to 1) and every contender against it (``a`` is the reference)."""

    name: str
    value: float
    comparisons: tuple[Comparison, ...]

    @property
    def beaten(self) -> bool:
        """Whether any contender beats it."""
        return any(c.winner == c.b for c in self.comparisons)


def chance(of: Predictions) -> Predictions:
    """Return the guess of the most frequent class for every image: the most that can be had without looking."""
    names, counts = np.unique(of.labels, return_counts=True)
    return replace(of, predictions=np.full_like(of.labels, names[counts.argmax()]), confidence=None)


def against(
    contenders: Mapping[str, BySeed], references: Mapping[str, Predictions], data: str = "data"
) -> tuple[Reference, ...]:
    """Compare every contender with every reference, whose one run is paired with each of the contender's.

    Holm's correction is for all of them together. Intervals of the differences are for other seeds of the contender and
    other images; another run of the reference, as an encoder of other random weights, stays out of them.
    """
    found = corrected([
        replace(compare(reference, name, "accuracy", pair(data, {seed: (rows, run) for seed, run in by_seed.items()})),
                one_run=reference)
        for reference, rows in references.items()
        for name, by_seed in contenders.items()
    ])  # fmt: skip
    return tuple(
        Reference(name, float(rows.correct.mean()), tuple(c for c in found if c.a == name))
        for name, rows in references.items()
    )


def sentence(reference: Reference) -> str:
    """Return who beats it, and by how much, in one line.

    The differences of many contenders are given as a range.
    """
    all_ = reference.comparisons
    article = "the " if "encoder" in display(reference.name) else ""
    name = f"{article}{display(reference.name)} ({100 * reference.value:.1f} %)"
    return f"{_who(all_, name)}: {_sizes(all_)}"


def _who(comparisons: Sequence[Comparison], name: str) -> str:
    won = [display(c.b) for c in comparisons if c.winner == c.b]
    rest = [display(c.b) for c in comparisons if c.winner != c.b]
    n = len(comparisons)
    if n > LISTED:
        return (
            f"{'all' if not rest else len(won) if won else 'none'} of {n} contenders beat{'s' * (len(won) < 2)} {name}"
        )
    if not won:
        words = {1: "{} does not beat", 2: "neither {} nor {} beats"}.get(n, "none of {}, {} and {} beats")
        return f"{words.format(*rest)} {name}"
    words = " and ".join(won) + (" beat " if len(won) > 1 else " beats ") + name
    return words + (f", {' and '.join(rest)} {'do' if len(rest) > 1 else 'does'} not" if rest else "")


def _sizes(comparisons: Sequence[Comparison]) -> str:
    if len(comparisons) > LISTED:
        low, high = (end(c.difference for c in comparisons) for end in (min, max))
        return f"{points(low, plus=True)} to {points(high, plus=True)} points"
    parts = []
    for c in comparisons:
        who = f"{display(c.b)} " if len(comparisons) > 1 else ""
        parts.append(f"{who}{points(c.difference, plus=True)} points (95 % CI {interval(c)})")
    return ", ".join(parts)
