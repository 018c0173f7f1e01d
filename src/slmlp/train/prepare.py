"""What a job trains on, and the settings that nobody gave: chosen by those images and this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from slmlp import config, data
from slmlp.config import adapt
from slmlp.data.augment import training_side
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.splits.parts import stratified_holdout
from slmlp.data.targets import Labelling, labelling
from slmlp.encoders.initial import RANDOM, network_of, preprocessing
from slmlp.runtime import device, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.train.job import Job

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit

T = TypeVar("T", bound=config.Training)


@dataclass(frozen=True)
class Prepared:
    """A job's training and validation images, their labels, the image size, and how images are resized to be cached."""

    train: ImageSet
    validation: ImageSet | None
    labels: Labelling
    image_size: int
    interpolation: str = "bicubic"

    @property
    def resize(self) -> Resize:
        """How images are resized to be cached for training."""
        return Resize(training_side(self.image_size), self.interpolation)


def prepare(job: Job, images: ImageSet, split: ConceptSplit | None) -> Prepared:
    """Return what a job trains on; its settings must be chosen (see ``choose``)."""
    part, validation = training_images(job, images, split)
    return Prepared(part, validation, labelling(part, job.labels), *size_and_interpolation(job.training, part))


def training_images(job: Job, images: ImageSet, split: ConceptSplit | None) -> tuple[ImageSet, ImageSet | None]:
    """Return the training part of the source classes (all classes without a split), less the validation share."""
    if split is not None:
        from slmlp.data.splits import classes as concepts

        images = concepts.apply(split, images).of_classes(split.source)
    part = images.of_part("train")
    validation = None
    if job.validation_fraction:
        mask = stratified_holdout(
            np.array(part.classes)[part.labels], part.groups, job.validation_fraction, job.validation_seed, "validation"
        )
        part, validation = part.select(~mask), part.select(mask)
    return part, validation


def choose(job: Job, images: ImageSet, split: ConceptSplit | None, saved: Mapping[str, Any] | None) -> Job:
    """Return the job with what nobody gave of its training taken from the run that is ``saved``, else chosen."""
    if saved is not None:
        return dataclasses.replace(job, training=adapt.as_before(job.training, saved))
    part, _ = training_images(job, images, split)
    training, why = adapted(job.training, part, len(part))
    if why:
        say(adapt.sentence(why))
    return dataclasses.replace(job, training=training, chosen=why)


def adapted(training: T, images: ImageSet, count: int) -> tuple[T, dict[str, str]]:
    """Return ``adapt`` for images like these, of which the smallest run has ``count``, on this machine."""
    given = training.image_size is not None or training.init != RANDOM
    at = adapt.Situation(
        images=count, side=0 if given else choose_image_size(images),
        gpu=device.resolve(training.device).type != "cpu", processes=processes.world_size() * training.accumulate,
        weights=network_of(training.init),
    )  # fmt: skip
    return adapt.adapt(training, at)


def size_and_interpolation(cfg: config.Training, images: ImageSet) -> tuple[int, str]:
    """Return the image size and the filter of resizing: the settings', the starting weights', or by the images."""
    own = preprocessing(cfg.network, cfg.init, cfg.image_size, cfg.stem)
    return (own.size, own.interpolation) if own else (cfg.image_size or choose_image_size(images), "bicubic")


def choose_image_size(images: ImageSet) -> int:
    """Return the image size: the median short side of the images up to 96 pixels, else 224."""
    median = data.short_side(images)
    if median is None:
        raise SlmlpError(f"none of {min(len(images), 64)} images drawn from {images.source} can be read")
    return 224 if median > 96 else max(16, int(median) // 8 * 8)
