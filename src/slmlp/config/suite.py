"""Settings of the transfer suite: which tasks, and each task's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.study import Probe
from slmlp.config.tasks import Centroid, Extraction, FewShot, Finetune, Knn, Labels
from slmlp.config.training import DataOptions


@dataclass(frozen=True)
class TaskSettings:
    """Settings of everything that an encoder may be asked."""

    probe: Probe = field(default_factory=Probe)
    """The linear probe (linear, labels, stages, unseen, source, fine)."""
    knn: Knn = field(default_factory=Knn)
    """Nearest neighbours."""
    centroid: Centroid = field(default_factory=Centroid)
    """Nearest class mean."""
    fewshot: FewShot = field(default_factory=FewShot)
    """Few-shot episodes."""
    labels: Labels = field(default_factory=Labels)
    """Label curves."""
    finetune: Finetune = field(default_factory=Finetune)
    """Full fine-tuning."""
    extraction: Extraction = field(default_factory=Extraction)
    """How features are computed."""
    preprocess: PreprocessFlags = field(default_factory=PreprocessFlags)
    """Overrides of the encoders' own preprocessing."""
    data: DataOptions = field(default_factory=DataOptions)
    """How the images are taken in."""


@dataclass(frozen=True)
class Suite(TaskSettings):
    """Many encoders on many data sets, the same tasks for all of them."""

    tasks: tuple[str, ...] = ("linear", "knn", "fewshot")
    """`linear`, `knn`, `centroid`, `fewshot`, `labels`, `stages`, `finetune`; data under a split also `unseen`,
    `levels`, `source`, `fine`. The first is the one that the verdict speaks of first."""
