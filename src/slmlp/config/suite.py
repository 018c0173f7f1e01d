"""Settings of the transfer suite: which tasks, and each task's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.flags import FLAT, main
from slmlp.config.study import Probe
from slmlp.config.tasks import (
    Centroid,
    Extraction,
    FewShot,
    Finetune,
    Knn,
    LabelEfficiency,
    Novelty,
    Retrieval,
    tasks_help,
)
from slmlp.config.training import DataOptions


@dataclass(frozen=True)
class TaskSettings:
    """Settings of all tasks that an encoder may be evaluated on."""

    probe: Probe = field(default_factory=Probe)
    """The linear probe (linear, label-efficiency, layerwise, unseen, novelty, semantic-distance, source,
    coarse-to-fine)."""
    knn: Knn = field(default_factory=Knn)
    """Nearest neighbours (knn, unseen-knn)."""
    retrieval: Retrieval = field(default_factory=Retrieval)
    """Retrieval (retrieval, unseen-retrieval)."""
    novelty: Novelty = field(default_factory=Novelty)
    """Novelty."""
    centroid: Centroid = field(default_factory=Centroid)
    """Nearest class mean."""
    fewshot: FewShot = field(default_factory=FewShot)
    """Few-shot episodes."""
    label_efficiency: LabelEfficiency = field(default_factory=LabelEfficiency)
    """Accuracy over the number of labels."""
    finetune: Finetune = field(default_factory=Finetune)
    """Full fine-tuning."""
    extraction: Extraction = field(default_factory=Extraction)
    """How features are computed."""
    preprocess: PreprocessFlags = field(default_factory=PreprocessFlags)
    """Overrides of the encoders' own preprocessing."""
    data: DataOptions = field(default_factory=DataOptions, metadata=FLAT)
    """How the images are taken in."""


@dataclass(frozen=True)
class Suite(TaskSettings):
    """Many encoders on many data sets, the same tasks for all of them."""

    tasks: tuple[str, ...] = field(
        default=("linear", "knn", "fewshot"),
        metadata={"help": tasks_help("The first is the headline of the verdict.")}
        | main("tasks, the first the headline of the verdict", "task"),
    )
    name: str | None = None
    """Title of the page; default: the names of the data sets."""
