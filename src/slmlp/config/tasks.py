"""Settings of the transfer suite's tasks; the linear probe's own stand in ``study.Probe``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from slmlp.config.checks import all_above, at_least, inside
from slmlp.runtime.errors import SlmlpError


@dataclass(frozen=True)
class Knn:
    """Vote of the nearest training images (Wu et al. 2018; k and temperature of Caron et al. 2021, section 4.1)."""

    neighbours: int = 20
    """Nearest training images that vote, by cosine."""
    temperature: float = 0.07
    """A neighbour's vote weighs exp(cosine / temperature); 0 counts every vote alike."""

    def __post_init__(self) -> None:
        """Refuse a vote of nobody."""
        at_least(self, 1, "neighbours", flags="--knn.")
        if not 0 <= self.temperature < math.inf:
            raise SlmlpError(f"--knn.temperature must be 0 or above, found {self.temperature}")


@dataclass(frozen=True)
class Centroid:
    """Nearest class mean: what the features say before anything is fitted."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    """Distance to the mean of a class; `cosine` normalises images before they are averaged."""


@dataclass(frozen=True)
class FewShot:
    """N-way K-shot episodes (Islam et al. 2021: 5-way 5-shot, 15 queries, 600 episodes)."""

    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Training images a class."""
    queries: int = 15
    """Test images a class."""
    episodes: int = 600
    """Episodes; the same ones for every encoder."""
    classifier: Literal["logistic", "centroid"] = "logistic"
    """`logistic`: L2-normalised features, multinomial logistic regression at C = 1; `centroid`: nearest class mean,
    by Euclidean distance on features as they come."""
    seed: int = 0
    """Seed of the episodes."""

    def __post_init__(self) -> None:
        """Refuse episodes that ask nothing, and one alone: it has no interval."""
        at_least(self, 2, "ways", "episodes", flags="--fewshot.")
        at_least(self, 1, "shots", "queries", flags="--fewshot.")


@dataclass(frozen=True)
class Labels:
    """Accuracy over the number of labels: shares of the training images, and images a class."""

    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Shares of each class's training images (at least one image a class)."""
    shots: tuple[int, ...] = ()
    """Images a class, as `1 2 4 8 16 32 64 128`; more than a class has takes all of it."""
    draws: int = 3
    """Draws of the training images at each point, the same ones for every encoder."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        """Refuse a curve without points."""
        if not self.fractions and not self.shots:
            raise SlmlpError("neither --labels.fractions nor --labels.shots names a point")
        for share in self.fractions:
            if not 0 < share <= 1:
                raise SlmlpError(f"--labels.fractions must be above 0 and at most 1 (0.1 is 10 %), found {share:g}")
        if any(shots < 1 for shots in self.shots):
            raise SlmlpError(f"--labels.shots must be at least 1, found {min(self.shots)}")
        at_least(self, 1, "draws", flags="--labels.")


@dataclass(frozen=True)
class Finetune:
    """All layers trained on the new data (Ericsson et al. 2021: SGD, Nesterov 0.9, cosine)."""

    steps: int = 5000
    """Updates of the final run; each point of the grid gets a fifth of them."""
    batch_size: int = 64
    """Images an update."""
    rates: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1)
    """Learning rates tried."""
    weight_decays: tuple[float, ...] = (0.0, 0.0001)
    """Weight decays tried."""
    validation_fraction: float = 0.2
    """Share of the training images on which rate and decay are chosen."""
    augment: Literal["crop", "weak"] = "crop"
    """Views of the training images."""
    seed: int = 0
    """Seed of head weights, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse a grid of nothing, and no training."""
        at_least(self, 1, "steps", flags="--finetune.")
        at_least(self, 2, "batch_size", flags="--finetune.")
        all_above(self, 0, "rates", "--finetune.rates")
        inside(self, "validation_fraction", "--finetune.validation-fraction")
        if not self.weight_decays or min(self.weight_decays) < 0:
            found = " ".join(map(str, self.weight_decays)) or "nothing"
            raise SlmlpError(f"--finetune.weight-decays must be one or more numbers, none below 0, found {found}")


@dataclass(frozen=True)
class Extraction:
    """How features are computed."""

    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto`: bfloat16 where the hardware has it; the numbers name it, and pair only with numbers of the same."""
    batch_size: int = 256
    """Images a forward pass."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
