"""Paired differences between methods -> intervals -> words.

Two methods are compared on the same images under the same seeds: what is averaged is, for each seed and image, whether
method B was right minus whether method A was. The interval covers other seeds and other images (``statistics``), and
other draws of the training images where a task made several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slmlp.config.names import display
from slmlp.results.intervals import CrossedMean, crossed_mean, holm
from slmlp.results.records import Predictions
from slmlp.runtime.errors import SlmlpError, unknown

ALPHA = 0.05  # two-sided, for all comparisons of a verdict together


@dataclass(frozen=True)
class Comparison:
    """Method B against method A; differences are B - A in percentage points."""

    method_a: str
    method_b: str
    accuracy_a: float  # 0 to 1, over seeds and images
    accuracy_b: float
    difference: float  # points
    interval: tuple[float, float]  # points, 95 %, of this comparison alone
    standard_error: float  # points
    degrees: float  # of freedom
    p: float
    p_holm: float  # corrected for the number of comparisons; equal to p for one
    comparisons: int
    detectable: float  # points: smallest difference found with 80 % power at two-sided 5 %
    seeds: int
    images: int
    groups: int
    seed_differences: tuple[float, ...]  # points, one a seed
    draws: int = 1  # of the training images, the same for both methods

    @property
    def winner(self) -> str | None:
        """The method that beats the other after Holm's correction, or None."""
        if self.p_holm >= ALPHA:
            return None
        return self.method_b if self.difference > 0 else self.method_a

    @property
    def changed_by_correction(self) -> bool:
        """Whether the comparison alone would have been called a difference."""
        return self.p < ALPHA <= self.p_holm

    @property
    def sentence(self) -> str:
        """The finding in words, seen from the winner."""
        a, b = display(self.method_a), display(self.method_b)
        low, high = self.interval
        if self.winner == self.method_a:
            gain, low, high = -self.difference, -high, -low
            words = f"{a} beats {b} by {points(gain, plus=True)} points ({self._basis(low, high)})"
        elif self.winner == self.method_b:
            words = f"{b} beats {a} by {points(self.difference, plus=True)} points ({self._basis(low, high)})"
        else:
            words = (
                f"no difference found between {b} and {a}: {points(self.difference, plus=True)} points "
                f"({self._basis(low, high)}); this study could have found {points(self.detectable)} points"
            )
        if self.changed_by_correction:
            words += (
                f"; alone it would have counted (p = {self.p:.2g}), among {self.comparisons} comparisons it does not "
                f"(Holm-corrected p = {self.p_holm:.2g})"
            )
        return words

    def _basis(self, low: float, high: float) -> str:
        alone = "one seed: images only" if self.draws == 1 else "one seed"
        seeds = alone if self.seeds == 1 else f"{self.seeds} seeds"
        seeds += f", {self.draws} draws of the training images" if self.draws > 1 else ""
        images = f"{self.images:,} images" + (f" of {self.groups:,} groups" if self.groups < self.images else "")
        return f"95 % CI {points(low)} to {points(high)}, {seeds}, {images}"


@dataclass(frozen=True)
class Verdict:
    """Every method against the baseline, and the findings in words."""

    baseline: str
    comparisons: tuple[Comparison, ...]
    sentences: tuple[str, ...]  # one a comparison, then the statement on all, then what was left out


@dataclass(frozen=True)
class Accuracy:
    """A method's own accuracy over its seeds and the images, 0 to 1."""

    value: float
    interval: tuple[float, float]  # 95 %, for other seeds and other images; one seed: for other images only
    standard_error: float
    seeds: int
    images: int
    groups: int


def compare(name_a: str, name_b: str, pairs: Sequence[tuple[Predictions, Predictions]]) -> Comparison:
    """Compare two methods over one pair (A, B) of predictions a seed, all of the same images in the same order."""
    if not pairs:
        raise SlmlpError(f"no seed has predictions of both {display(name_a)} and {display(name_b)}")
    right_a, right_b, groups = paired(pairs)
    mean = crossed_mean(right_b - right_a, groups)
    low, high = mean.interval
    return Comparison(
        method_a=name_a,
        method_b=name_b,
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        difference=100 * mean.value,
        interval=(100 * low, 100 * high),
        standard_error=100 * mean.standard_error,
        degrees=mean.degrees,
        p=mean.p,
        p_holm=mean.p,
        comparisons=1,
        detectable=100 * mean.detectable,
        seeds=len(pairs),
        images=len(groups),
        groups=len(np.unique(groups)),
        seed_differences=tuple((100 * (right_b - right_a).mean(axis=(1, 2))).tolist()),
        draws=right_a.shape[1],
    )


def paired(
    pairs: Sequence[tuple[Predictions, Predictions]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Return who was right of A and of B, (S, R, N) each for seeds, draws and images, and the groups (N,)."""
    images = _same_images([rows for pair in pairs for rows in pair])
    draws = _draws(images)
    right_a, right_b = (np.stack([pair[side].correct for pair in pairs]) for side in (0, 1))
    shape = (len(pairs), draws, -1)
    return right_a.reshape(shape), right_b.reshape(shape), images.groups[: len(images.groups) // draws]


def judge(runs: Mapping[str, Mapping[int, Predictions]], baseline: str) -> Verdict:
    """Compare every method of ``runs`` (method -> seed -> predictions) with the baseline over the seeds both have."""
    if baseline not in runs:
        raise unknown("baseline", baseline, runs)
    if len(runs) < 2:
        raise SlmlpError(f"a verdict needs a second method beside {display(baseline)}: name one in --methods")
    pairs = [(baseline, method) for method in runs if method != baseline]
    comparisons = compare_all(runs, pairs)
    sentences = [c.sentence for c in comparisons]
    if len(comparisons) > 1:
        sentences.insert(0, _together(baseline, comparisons))
    return Verdict(baseline, comparisons, (*sentences, *_left_out(runs, pairs)))


def compare_all(
    runs: Mapping[str, Mapping[int, Predictions]], pairs: Sequence[tuple[str, str]]
) -> tuple[Comparison, ...]:
    """Compare each pair (A, B) over the seeds both have; Holm's correction is for all of the pairs together."""
    found = []
    for a, b in pairs:
        shared = sorted(runs[a].keys() & runs[b].keys())
        found.append(compare(a, b, [(runs[a][s], runs[b][s]) for s in shared]))
    corrected = holm(np.array([c.p for c in found])).tolist() if found else []
    return tuple(
        dataclasses.replace(c, p_holm=p, comparisons=len(found)) for c, p in zip(found, corrected, strict=True)
    )


def _left_out(runs: Mapping[str, Mapping[int, Predictions]], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a sentence for all pairs of which the same seeds were trained on one side only."""
    lonely: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for baseline, method in pairs:
        alone = tuple(sorted(runs[baseline].keys() ^ runs[method].keys()))
        if alone:
            lonely.setdefault((baseline, alone), []).append(display(method))
    return [
        f"seed{'s' * (len(alone) > 1)} {', '.join(map(str, alone))} left out of {', '.join(methods)} against "
        f"{display(baseline)}: only one of the two was trained with {'it' if len(alone) == 1 else 'them'}"
        for (baseline, alone), methods in lonely.items()
    ]


def mean_interval(runs: Sequence[Predictions]) -> Accuracy:
    """Return the accuracy of one method over its runs (one a seed, the same images) with its 95 % interval."""
    if not runs:
        raise SlmlpError("no predictions to average")
    right, _, groups = paired([(rows, rows) for rows in runs])
    mean: CrossedMean = crossed_mean(right, groups)
    low, high = mean.interval
    interval = (max(0.0, low), min(1.0, high))
    return Accuracy(mean.value, interval, mean.standard_error, len(runs), len(groups), len(np.unique(groups)))


def _together(baseline: str, comparisons: Sequence[Comparison]) -> str:
    """Return what holds for all comparisons together at 5 %."""
    base = display(baseline)
    better = [display(c.method_b) for c in comparisons if c.winner == c.method_b]
    worse = [display(c.method_b) for c in comparisons if c.winner == c.method_a]
    open_ = [display(c.method_b) for c in comparisons if c.winner is None]
    parts = [
        f"{', '.join(names)} {words} {base}"
        for names, words in (
            (better, "beat" if len(better) > 1 else "beats"),
            (worse, "lose to" if len(worse) > 1 else "loses to"),
            (open_, "could not be told from"),
        )
        if names
    ]
    return (
        f"taken together ({len(comparisons)} comparisons, Holm-corrected at 5 %): {'; '.join(parts)}; "
        "each interval is for its comparison alone"
    )


def _draws(rows: Predictions) -> int:
    """Return how many draws of the training images predicted the same images, one draw after the other; 1 if not so.

    Folds of cross-fitting hold different images, and so do few-shot episodes.
    """
    draws = len(np.unique(rows.folds))
    if draws == 1 or len(rows.ids) % draws:
        return 1
    ids, folds = rows.ids.reshape(draws, -1), rows.folds.reshape(draws, -1)
    again = bool((ids == ids[0]).all() and (folds == folds[:, :1]).all())
    return draws if again else 1


def _same_images(runs: Sequence[Predictions]) -> Predictions:
    """Return the first of the runs, or refuse runs that are not of the same images of at least two groups."""
    first = runs[0]
    for rows in runs[1:]:
        if len(rows.ids) != len(first.ids):
            raise SlmlpError(f"runs cannot be paired: one predicts {len(first.ids)} images, another {len(rows.ids)}")
        _same("image", first.ids, rows.ids, first.ids)
        _same("label", first.labels, rows.labels, first.ids)
        _same("group", first.groups, rows.groups, first.ids)
    if len(np.unique(first.groups)) < 2:
        raise SlmlpError(
            f"{len(first.ids)} images of one group say nothing about other images: no interval is possible"
        )
    return first


def _same(kind: str, a: npt.NDArray[np.str_], b: npt.NDArray[np.str_], ids: npt.NDArray[np.str_]) -> None:
    differ = a != b
    if differ.any():
        k = int(differ.argmax())
        raise SlmlpError(
            f"runs cannot be paired: the {kind} differs in {int(differ.sum())} of {len(a)} rows, first in row {k} "
            f"(image {str(ids[k])!r}): {str(a[k])!r} and {str(b[k])!r}; evaluate both on the same data, split and seed"
        )


def points(value: float, *, plus: bool = False) -> str:
    """Format points with one decimal, or two where one would hide which side of 0 they are on."""
    digits = 2 if 0 < abs(value) < 0.05 else 1
    return f"{round(value, digits) + 0.0:{'+' if plus else ''}.{digits}f}"  # + 0.0 turns -0.0 into 0.0
