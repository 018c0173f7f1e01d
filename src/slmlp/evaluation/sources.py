"""Sources of features of a data set: an encoder and its images (a file of features is in ``feature_file``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders import Encoder, layers, weights
from slmlp.encoders.extract import extract_layers, precision_of, transform_id
from slmlp.probes.features import Features
from slmlp.probes.multilabel import MultiLabel
from slmlp.runtime.errors import SlmlpError

Sets = Sequence[Features] | Sequence[MultiLabel]


class Source(ABC):
    """Features of one data set, for each task and layer."""

    name: str  # of the data set in the results file

    @abstractmethod
    def features(self, task: config.Task, layer: str) -> Sets:
        """Return the features of the sets of images that a task reads, in their order."""

    @abstractmethod
    def warnings(self, task: config.Task) -> dict[str, int]:
        """Return what limits the meaning of a task's numbers, counted; see ``Result.warnings``."""

    @abstractmethod
    def hashes(self, task: config.Task) -> dict[str, str]:
        """Return the hashes of encoder, data, transform and split, on which the numbers of a task depend."""

    def layers(self, task: config.Task) -> tuple[str, ...]:
        """Return the layers at which a task is done."""
        return (layers.OUTPUT,)

    def check(self, tasks: Sequence[str]) -> None:
        """Check that the data are of the kind that the tasks need."""
        return


@dataclass(frozen=True)
class ImageData:
    """Images of a data set with a training and a test part, under a split or not, decoded once for every encoder."""

    name: str
    images: ImageSet
    image_cache: ImageCache
    features_cache: Path  # folder of features, and of the statistics of untrained encoders
    split: ConceptSplit | None = None
    label_separator: str | None = None
    more: Mapping[str, ImageSet] = field(default_factory=dict)  # sets beside those that parts and split make
    _warnings: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def hash(self) -> str:
        """The hash of all images, whatever their part."""
        return self.images.hash()

    @property
    def held_out(self) -> ConceptSplit:
        """The split; SlmlpError where there is none."""
        if self.split is None:
            names = ", ".join(name for name in config.OFFERED if config.TASKS[name].needs_split)
            raise SlmlpError(f"{self.name} is under no split: {names} need one; give it with --split")
        return self.split

    @property
    def source(self) -> ImageSet:
        """Images of the classes that pretraining may use."""
        return self.images.of_classes(self.held_out.source)

    @property
    def several_labels(self) -> bool:
        """Whether images have several labels each."""
        return self.images.several(self.label_separator)

    def of(self, name: str) -> ImageSet:
        """Return a set of images: train, test, source train, source test, unseen, or one of ``more``."""
        if name in self.more:
            return self.more[name]
        if name == "unseen":  # both parts: pretraining used none of these classes
            return self.images.of_classes(self.held_out.unseen)
        side, _, part = name.rpartition(" ")
        return (self.source if side == "source" else self.images).of_part(part)

    def warnings(self, names: tuple[str, ...]) -> dict[str, int]:
        """Return what limits the meaning of a number measured on these sets, counted; see ``Result.warnings``."""
        if names not in self._warnings:
            sets = [self.of(name) for name in names]
            test = [part for name, part in zip(names, sets, strict=True) if name.endswith("test")]
            found = {"unreadable": len(self.images.unreadable)}
            if len(sets) == 1:  # cross-validated: equal images may be on both sides of a fold
                found["repeated_images"] = len(data.repeated(sets[0]))
            if len(sets) == 2:
                found["duplicates_across_parts"] = len(data.copies(*sets))
                found["classes_without_test_images"] = len(set(sets[0].labels) - set(sets[1].labels))
            if not self.images.has_test_part:
                found["test_part_drawn"] = sum(map(len, test))
            self._warnings[names] = {key: n for key, n in found.items() if n}
        return self._warnings[names]


class ImageSource(Source):
    """Features that are computed from images."""

    def __init__(self, data: ImageData, encoder_hash: str) -> None:
        self.data, self.name, self.encoder_hash = data, data.name, encoder_hash

    @abstractmethod
    def extract(self, task: config.Task, images: ImageSet) -> dict[str, Features]:
        """Return the features of images at every layer of a task."""

    @abstractmethod
    def transform(self, task: config.Task) -> str:
        """Return the name of the transform of the images, and the precision."""

    def features(self, task: config.Task, layer: str) -> Sets:
        sets = [self.extract(task, self.data.of(name))[layer] for name in task.reads]
        return MultiLabel.split(sets, str(self.data.label_separator)) if self.data.several_labels else sets

    def warnings(self, task: config.Task) -> dict[str, int]:
        return self.data.warnings(task.reads or config.tasks.PARTS)

    def hashes(self, task: config.Task) -> dict[str, str]:
        hashes = {"encoder": self.encoder_hash, "data": self.data.hash, "transform": self.transform(task)}
        if self.data.image_cache.mark:
            hashes["pixels"] = self.data.image_cache.mark
        return hashes if self.data.split is None else {**hashes, "split": self.data.split.hash()}

    def check(self, tasks: Sequence[str]) -> None:
        """Raise SlmlpError for a task that needs one label per image where images have several."""
        allowed = [name for name, task in config.TASKS.items() if task.several_labels]
        other = [name for name in tasks if not config.task_entry(name).several_labels]
        if other and self.data.several_labels:
            raise SlmlpError(
                f"--task {other[0]}: images of {self.name} have several labels each; choose {' or '.join(allowed)}"
            )


class EncoderSource(ImageSource):
    """Features of an encoder, and of its run's projector where it was saved."""

    def __init__(
        self, data: ImageData, encoder: Encoder, extraction: config.Extraction, projector: nn.Module | None = None
    ) -> None:
        super().__init__(data, encoder.hash())
        self.encoder, self.extraction, self.projector = encoder, extraction, projector

    def warnings(self, task: config.Task) -> dict[str, int]:
        return {**super().warnings(task), **({"constant_weights": self._constant} if self._constant else {})}

    @cached_property
    def _constant(self) -> int:
        return len(weights.constant(self.encoder.state_dict()))

    def layers(self, task: config.Task) -> tuple[str, ...]:
        if task.behind_projector and layers.EMBEDDING in layers.names(self.encoder, self.projector):
            return (*super().layers(task), layers.EMBEDDING)
        if not task.every_layer:
            return super().layers(task)
        names = layers.names(self.encoder, self.projector)
        if len(names) < 2:
            raise SlmlpError(f"{self.encoder.origin.source} shows no stages inside: leave layerwise out of --tasks")
        return names

    def extract(self, task: config.Task, images: ImageSet, *, together: bool = False) -> dict[str, Features]:
        """Return the features of images at every layer of a task, cached; ``together`` shares the work of processes."""
        return extract_layers(
            self.encoder, self.data.image_cache, images, self.data.features_cache, self.extraction.device,
            self.layers(task), self.precision(task), projector=self.projector,
            batch_size=self.extraction.batch_size, together=together,
        )  # fmt: skip

    def extract_together(self, tasks: Sequence[str]) -> None:
        """Extract all features that the tasks read, as one of several processes that share the work."""
        for task in (config.task_entry(name) for name in tasks):
            for name in task.reads:
                self.extract(task, self.data.of(name), together=True)

    def precision(self, task: config.Task) -> str:
        """Return the precision of a task's features: as set, but float32 by default under a split, as in a study."""
        if self.extraction.precision == "auto" and task.needs_split:
            return "float32"
        return precision_of(self.encoder, self.extraction.device, self.extraction.precision)

    def transform(self, task: config.Task) -> str:
        return transform_id(self.encoder, self.precision(task))
