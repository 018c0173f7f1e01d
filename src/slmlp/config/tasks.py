"""The tasks that an encoder is evaluated on, and their settings; those of the linear probe are ``study.Probe``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from slmlp.config.checks import all_above, at_least, inside
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import Plugin

PARTS = ("train", "test")
SOURCE_PARTS = ("source train", "source test")


@dataclass(frozen=True)
class Task:
    """A task's title, inputs and settings."""

    title: str  # heading of its tables
    help: str  # on the command line, behind the name
    settings: tuple[str, ...] = ("probe",)  # fields of ``TaskSettings`` or ``Study`` that decide its numbers
    reads: tuple[str, ...] = PARTS  # sets of images whose features it takes
    several_labels: bool = False  # whether images may have several labels each
    every_layer: bool = False  # whether it is done at every layer of the encoder, not only at its output
    behind_projector: bool = False  # whether it is done behind the projector too, where a run kept one
    by_block: bool = False  # whether features may lie on the disk and be read block by block
    compared: bool = True  # whether a suite compares encoders by its numbers
    study_only: bool = False  # whether only a study does it
    code: str = ""  # MODULE:FUNCTION of ``slmlp.evaluation.tasks``; by default ``run`` of the module of its name
    plugin: Plugin | None = None  # the class of the user's whose ``run`` it is
    own: Any = None  # settings of that class, beside those that ``settings`` names

    @property
    def needs_split(self) -> bool:
        """Whether it needs held-out classes."""
        return not set(self.reads) <= set(PARTS)

    @property
    def needs_images(self) -> bool:
        """Whether a file of features is not enough for it."""
        return self.reads != PARTS or self.every_layer


TASKS: dict[str, Task] = {
    "linear": Task("Linear probe", "logistic regression", several_labels=True, by_block=True),
    "knn": Task("Nearest neighbours", "vote of the nearest training images", ("knn",), by_block=True),
    "centroid": Task("Nearest class mean", "nearest class mean", ("centroid",), by_block=True),
    "retrieval": Task(
        "Retrieval", "nearest training images of each test image's class", ("retrieval",), by_block=True
    ),
    "fewshot": Task("Few-shot episodes", "episodes of few classes and images", ("fewshot",)),
    "label-efficiency": Task(
        "Few labels", "the linear probe on shares of the training labels", ("label_efficiency", "probe")
    ),
    "layerwise": Task(
        "Linear probe at every depth", "the linear probe on every layer",
        several_labels=True, every_layer=True, compared=False, code="linear:run",
    ),
    "finetune": Task("Fine-tuning", "all layers trained on", ("finetune",), reads=()),
    "unseen": Task(
        "Classes that pretraining never saw", "cross-validated on the held-out classes of the split", reads=("unseen",)
    ),
    "unseen-knn": Task(
        "Nearest neighbours among unseen classes", "vote of the nearest other images of the held-out classes",
        ("knn",), reads=("unseen",), code="knn:among_unseen",
    ),
    "unseen-retrieval": Task(
        "Retrieval among unseen classes", "each image of the held-out classes asks for the others of its class",
        ("retrieval",), reads=("unseen",), code="retrieval:among_unseen",
    ),
    "unseen-layerwise": Task(
        "Unseen classes at every depth", "the same as `unseen` on every layer", reads=("unseen",),
        every_layer=True, compared=False, code="unseen:at_layer",
    ),
    "novelty": Task(
        "Telling source from unseen classes", "source test images against held-out classes, by k-NN and energy",
        ("novelty", "probe"), reads=("source train", "source test", "unseen"), behind_projector=True,
    ),
    "semantic-distance": Task(
        "Unseen classes by semantic distance", "the same by distance from the source classes",
        reads=("unseen",), compared=False,
    ),
    "source": Task(
        "Classes of pretraining", "training and test part of the source classes of the split", reads=SOURCE_PARTS,
        code="linear:run",
    ),
    "source-layerwise": Task(
        "Classes of pretraining at every depth", "the same as `source` on every layer", reads=SOURCE_PARTS,
        every_layer=True, compared=False, code="linear:source_at_layer",
    ),
    "coarse-to-fine": Task(
        "Fine labels after pretraining on superclasses", "classes after pretraining on superclasses",
        reads=SOURCE_PARTS,
    ),
    "measures": Task(
        "Measures of the feature space", "discriminative ratio, redundancy, mixtureness", ("measures",),
        reads=("source test", "source train", "unseen"), study_only=True,
    ),
    "validation": Task(
        "Source validation", "the images that choose a learning rate",
        reads=("rate train", "rate validation"), study_only=True, code="linear:validation",
    ),
}  # fmt: skip
LAYERWISE = ("unseen-layerwise", "source-layerwise")  # what a study does on the layers of some of its encoders
BESIDE = ("unseen-knn", "unseen-retrieval", "novelty")  # what a study does beside its own where it is asked to
OFFERED = tuple(name for name, task in TASKS.items() if not task.study_only)  # by evaluate and suite


def tasks_help(default: str) -> str:
    """Return the help text of a flag that takes names of tasks."""
    any_data, split = (
        "; ".join(f"`{name}`: {TASKS[name].help}" for name in OFFERED if TASKS[name].needs_split == needs)
        for needs in (False, True)
    )
    return f"On any data {any_data}. Under a split {split}. `FILE.py:CLASS` is a task of yours. {default}"


@dataclass(frozen=True)
class Knn:
    """Vote of the nearest training images (Wu et al. 2018; k and temperature of Caron et al. 2021, section 4.1)."""

    neighbours: int = 20
    """Nearest training images that vote, by cosine."""
    temperature: float = 0.07
    """A neighbour's vote weighs exp(cosine / temperature); 0 counts every vote alike."""

    def __post_init__(self) -> None:
        at_least(self, 1, "neighbours", flags="--knn.")
        if not 0 <= self.temperature < math.inf:
            raise SlmlpError(f"--knn.temperature must be 0 or above, found {self.temperature}")


@dataclass(frozen=True)
class Retrieval:
    """Images of a query's class among its nearest (Musgrave et al. 2020); mAP@R has no setting."""

    recall_at: tuple[int, ...] = (1, 5, 10)
    """Nearest images that Recall@K looks at, by cosine."""

    def __post_init__(self) -> None:
        all_above(self, 0, "recall_at", "--retrieval.recall-at")


@dataclass(frozen=True)
class Novelty:
    """Source test images told from unseen ones (Sun et al. 2022, arXiv 2204.06507; energy of the linear probe)."""

    neighbours: int = 50
    """The distance is that to this nearest source training image (the paper: 50 on CIFAR-10, 200 on CIFAR-100)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "neighbours", flags="--novelty.")


@dataclass(frozen=True)
class Centroid:
    """Nearest class mean, a classifier without a fit."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    """Distance to the mean of a class; `cosine` normalises images before they are averaged."""


@dataclass(frozen=True)
class FewShot:
    """N-way K-shot episodes (Islam et al. 2021: 5-way 5-shot, 15 queries, 600 episodes)."""

    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Training images per class."""
    queries: int = 15
    """Test images per class."""
    episodes: int = 600
    """Episodes; the same ones for every encoder."""
    classifier: Literal["logistic", "centroid"] = "logistic"
    """`logistic`: L2-normalised features, multinomial logistic regression at C = 1; `centroid`: nearest class mean,
    by Euclidean distance on features as they come."""
    seed: int = 0
    """Seed of the episodes."""

    def __post_init__(self) -> None:
        """Check that episodes ask something, and that there are two: one alone has no interval."""
        at_least(self, 2, "ways", "episodes", flags="--fewshot.")
        at_least(self, 1, "shots", "queries", flags="--fewshot.")


@dataclass(frozen=True)
class LabelEfficiency:
    """Accuracy over the number of labels: shares of the training images, and images per class."""

    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Shares of each class's training images (at least one image per class)."""
    shots: tuple[int, ...] = ()
    """Images a class, as `1 2 4 8 16 32 64 128`; more than a class has takes all of it."""
    draws: int = 3
    """Draws of the training images at each point, the same ones for every encoder."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if not self.fractions and not self.shots:
            raise SlmlpError("neither --label-efficiency.fractions nor --label-efficiency.shots names a point")
        for share in self.fractions:
            if not 0 < share <= 1:
                raise SlmlpError(
                    f"--label-efficiency.fractions must be above 0 and at most 1 (0.1 is 10 %), found {share:g}"
                )
        if any(shots < 1 for shots in self.shots):
            raise SlmlpError(f"--label-efficiency.shots must be at least 1, found {min(self.shots)}")
        at_least(self, 1, "draws", flags="--label-efficiency.")


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
        at_least(self, 1, "steps", flags="--finetune.")
        at_least(self, 2, "batch_size", flags="--finetune.")
        all_above(self, 0, "rates", "--finetune.rates")
        inside(self, "validation_fraction", "--finetune.validation-fraction")
        if not self.weight_decays or min(self.weight_decays) < 0:
            listed = " ".join(map(str, self.weight_decays)) or "nothing"
            raise SlmlpError(f"--finetune.weight-decays must be one or more numbers, none below 0, found {listed}")


@dataclass(frozen=True)
class Extraction:
    """How features are computed."""

    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto`: bfloat16 where the hardware has it; the numbers name it, and pair only with numbers of the same."""
    batch_size: int = 256
    """Images a forward pass."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
