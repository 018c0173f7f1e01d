"""Average precision of encoders and their differences, with intervals over images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmlp.detection.resample import Array
from slmlp.names import display
from slmlp.statistics import CrossedMean, holm

ALPHA = 0.05  # two-sided, for all comparisons of a page together


@dataclass(frozen=True)
class Drawn:
    """One metric of one detector: its value, and its values on R draws of the images."""

    value: float  # 0 to 1
    draws: Array  # (R,), NaN where a draw holds no object


@dataclass(frozen=True)
class Difference:
    """Row ``b`` minus row ``a`` in points of AP, paired by seed, image and draw."""

    a: str
    b: str
    metric: str
    mean: CrossedMean  # 0 to 1
    seeds: int
    images: int
    p_holm: float

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
            f"95 % CI {100 * low:+.1f} to {100 * high:+.1f}, "
            f"{'one seed: images only' if self.seeds == 1 else f'{self.seeds} seeds'}, {self.images:,} images"
        )
        points = f"{100 * self.mean.value:+.1f} points of {title(self.metric)}"
        a, b = display(self.a), display(self.b)
        if not self.mean.variance and not self.mean.value:  # most often an AP of 0 each, so neither has learnt
            return f"nothing tells {b} and {a} apart: on no draw of the images does their {title(self.metric)} differ"
        if self.winner is None:
            least = 100 * self.mean.detectable
            findable = f"; {least:.1f} points could have been found" if np.isfinite(least) else ""
            return f"no difference found between {b} and {a}: {points} ({basis}){findable}"
        verb = "beats" if self.winner == self.b else "loses to"
        return f"{b} {verb} {a}: {points} ({basis})"


def title(metric: str) -> str:
    """Return a metric's name for readers.

    >>> title("box_ap50"), title("mask_ap_small")
    ('box AP50', 'mask AP small')
    """
    kind, _, rest = metric.partition("_")
    return f"{kind} {rest.replace('ap', 'AP', 1).replace('_', ' ')}"


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
    rows: Mapping[str, Mapping[int, Drawn]], pairs: Sequence[tuple[str, str]], metric: str, images: int
) -> list[Difference]:
    """Return each pair (a, b) compared over the seeds that both have; Holm's correction is for all pairs together."""
    found = []
    for a, b in pairs:
        shared = sorted(rows[a].keys() & rows[b].keys())
        if shared:
            gaps = [Drawn(rows[b][s].value - rows[a][s].value, rows[b][s].draws - rows[a][s].draws) for s in shared]
            found.append((a, b, spread(gaps, images), len(shared)))
    corrected = holm(np.array([_p(mean) for _, _, mean, _ in found])).tolist() if found else []
    return [
        Difference(a, b, metric, mean, count, images, p)
        for (a, b, mean, count), p in zip(found, corrected, strict=True)
    ]


def _p(mean: CrossedMean) -> float:
    return mean.p if np.isfinite(mean.variance) else 1.0
