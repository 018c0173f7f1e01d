"""Feature redundancy: the mean correlation of the channels of a feature.

    R = 1 / d^2 * sum over channels i, j of | rho(i, j) |

with rho the Pearson correlation over images (arXiv 2112.00496). The d diagonal entries count, so R is 1 / d at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slmlp.probes.measures.ratio import Array

CONSTANT = 1e-7  # a channel whose std is below this share of its largest entry is rounding noise of float32


@dataclass(frozen=True)
class Redundancy:
    """R of the channels that vary."""

    value: float  # 1 / channels to 1; NaN if no channel varies
    channels: int  # that vary
    dead: int  # that do not: their correlation is undefined, they are left out


def feature_redundancy(x: Array) -> Redundancy:
    """Return R of features (N, D).

    >>> feature_redundancy(np.array([[1.0, -2.0, 5.0], [-1.0, 2.0, 5.0]]))
    Redundancy(value=1.0, channels=2, dead=1)
    """
    wide = np.asarray(x, dtype=np.float64)
    centred = wide - wide.mean(axis=0)
    std = np.sqrt((centred**2).mean(axis=0))
    alive = std > CONSTANT * np.abs(wide).max(axis=0)
    channels = int(alive.sum())
    if channels == 0:
        return Redundancy(float("nan"), 0, len(std))
    scaled = centred[:, alive] / std[alive]
    correlations = scaled.T @ scaled / len(wide)
    return Redundancy(float(np.minimum(np.abs(correlations), 1.0).mean()), channels, len(std) - channels)


def redundancy_baseline(n: int, channels: int) -> float:
    """Return the R to expect of independent channels over n images: chance correlations have mean sqrt(2 / (pi n)).

    >>> [round(redundancy_baseline(n, 2048), 4) for n in (500, 2000, 18000)]
    [0.0362, 0.0183, 0.0064]
    """
    return float(1 / channels + (1 - 1 / channels) * np.sqrt(2 / (np.pi * n)))
