"""Means over draws of the images, and their differences between encoders: for numbers that are no mean over images.

Average precision is one, of detectors and of images with several labels alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slmlp.config.names import display
from slmlp.results.intervals import CrossedMean, holm
from slmlp.results.verdict import points

ALPHA = 0.05  # two-sided, for all comparisons of a page together

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """One number of one encoder: its value, and its values on R draws of the images."""

    value: float  # 0 to 1
    draws: Array  # (R,), NaN where a draw holds nothing to find


@dataclass(frozen=True)
class Difference:
    """Row ``b`` minus row ``a``, paired by seed, image and draw."""

    a: str
    b: str
    metric: str
    mean: CrossedMean  # 0 to 1
    seeds: int
    images: int
    p_holm: float
    words: str  # what the metric is called
    counted: str = "images"  # what was drawn anew: images, or groups of them

    @property
    def winner(self) -> str | None:
        """The better one after Holm's correction, or None."""
        if self.p_holm >= ALPHA:
            return None
        return self.b if self.mean.value > 0 else self.a

    @property
    def sentence(self) -> str:
        """The finding in words."""
        low, high = self.mean.interval
        basis = (
            f"95 % CI {points(100 * low)} to {points(100 * high)}, "
            f"{'one seed: images only' if self.seeds == 1 else f'{self.seeds} seeds'}, {self.images:,} {self.counted}"
        )
        apart = f"{points(100 * self.mean.value, plus=True)} points of {self.words}"
        a, b = display(self.a), display(self.b)
        if not self.mean.variance and not self.mean.value:  # most often an AP of 0 each, so neither has learnt
            return f"nothing tells {b} and {a} apart: on no draw of the images does their {self.words} differ"
        if self.winner is None:
            least = 100 * self.mean.detectable
            findable = f"; {points(least)} points could have been found" if np.isfinite(least) else ""
            return f"no difference found between {b} and {a}: {apart} ({basis}){findable}"
        verb = "beats" if self.winner == self.b else "loses to"
        return f"{b} {verb} {a}: {apart} ({basis})"


def spread(runs: Sequence[Drawn], images: int) -> CrossedMean:
    """Return the mean over runs (one a seed) with the variance of a draw of other seeds and other images.

    Var = s^2 of the S values / S + variance over draws of the images of the mean over seeds, times N / (N - 1): that
    makes the bootstrap's variance of a plain mean the usual s^2 / N. Degrees of freedom by Welch and Satterthwaite,
    with N - 1 for the images.
    """
    values = np.array([run.value for run in runs])
    means = np.mean([run.draws for run in runs], axis=0)
    means = means[np.isfinite(means)]
    if images < 2 or len(means) < 2:
        return CrossedMean(float(values.mean()), float("inf"), 1)
    over_images = float(means.var(ddof=1)) * images / (images - 1)
    between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    variance = between + over_images
    if between == 0:
        return CrossedMean(float(values.mean()), variance, images - 1)
    degrees = variance**2 / (between**2 / (len(values) - 1) + over_images**2 / (images - 1))
    return CrossedMean(float(values.mean()), variance, degrees)


def compare(
    rows: Mapping[str, Mapping[int, Drawn]],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    images: int,
    words: str,
    counted: str = "images",
) -> list[Difference]:
    """Return each pair (a, b) compared over the seeds that both have; Holm's correction is for all pairs together.

    ``images`` is how many are drawn anew, ``counted`` what they are. ``words`` is what the metric is called.
    """
    found = []
    for a, b in pairs:
        shared = sorted(rows[a].keys() & rows[b].keys())
        if shared:
            gaps = [Drawn(rows[b][s].value - rows[a][s].value, rows[b][s].draws - rows[a][s].draws) for s in shared]
            found.append((a, b, spread(gaps, images), len(shared)))
    return corrected(
        [Difference(a, b, metric, mean, count, images, 1.0, words, counted) for a, b, mean, count in found]
    )


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """Return differences with Holm's correction for all of them together."""
    p = np.array([d.mean.p if np.isfinite(d.mean.variance) else 1.0 for d in found])
    adjusted = holm(p).tolist() if found else []
    return [replace(d, p_holm=value) for d, value in zip(found, adjusted, strict=True)]
