"""Settings of training that nobody gave, chosen by the images and the machine.

What is given is never changed. Many images on a GPU get what the field trains with: ResNet-50, 100 epochs, batches of
256; fewer images get smaller batches, more passes and a smaller network, a CPU the leanest one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from slmlp.config.training import Training

ENCODER, EPOCHS, BATCH = "resnet50", 100, 256
LEAN, MIDDLE = "resnet10", "resnet18"
FEW = 20_000  # training images below which a GPU gets the middle encoder
STEPS = 1000  # the fewest of a run whose epochs are chosen
STEPS_PER_EPOCH = 10  # the fewest of an epoch whose batch size is chosen, ...
LEAST_BATCH = 32  # ... but BatchNorm wants this many images, where an epoch has two such batches
CPU_SIDE = 96  # pixels: the most on a CPU
KEEP = 10  # curves: encoders kept on the way
ADAPTED = ("encoder", "epochs", "image_size", "batch_size", "save_every")
T = TypeVar("T", bound=Training)


@dataclass(frozen=True)
class Situation:
    """What the choice depends on."""

    images: int  # of the smallest run
    side: int  # image size in pixels by the images alone
    gpu: bool
    processes: int = 1  # equal parts that a batch has: processes times parts of each
    weights: str | None = None  # network of the weights that training starts from


def adapt(training: T, at: Situation) -> tuple[T, dict[str, str]]:
    """Return the settings with a value for all of ``ADAPTED``, and name -> value and reason of each that was chosen.

    ``image_size`` stays None where the images alone decide it.

    >>> chosen, why = adapt(Training(batch_size=8), Situation(images=114, side=224, gpu=False))
    >>> chosen.encoder, chosen.epochs, chosen.image_size, chosen.batch_size, list(why)
    ('resnet10', 100, 96, 8, ['encoder', 'image size', 'epochs'])
    >>> chosen, why = adapt(Training(), Situation(images=1_281_167, side=224, gpu=True))
    >>> chosen.encoder, chosen.epochs, chosen.image_size, chosen.batch_size
    ('resnet50', 100, None, 256)
    """
    values: dict[str, Any] = {}
    why: dict[str, str] = {}
    count = f"{at.images:,} training images"

    def choose(name: str, value: Any, reason: str) -> None:
        values[name] = value
        why[name.replace("_", " ")] = f"{value:,} ({reason})" if isinstance(value, int) else f"{value} ({reason})"

    if training.encoder is None:
        choose("encoder", *_encoder(at, count))
    lean = training.encoder is None and at.weights is None and not at.gpu
    if training.image_size is None and at.weights is None:
        if lean and at.side > CPU_SIDE:
            choose("image_size", CPU_SIDE, f"on a CPU, in place of {at.side}")
        else:
            why["image size"] = f"{at.side} (by the images)"
    batch = training.batch_size
    if batch is None:
        batch = _batch(at)
        choose("batch_size", batch, count)
    if training.epochs is None:
        steps = max(1, at.images // batch)
        epochs = max(EPOCHS, -(-STEPS // steps))
        choose("epochs", epochs, f"{epochs * steps:,} steps")
        if training.save_every is None:
            values["save_every"] = max(1, epochs // KEEP)
    if training.save_every is None:
        values.setdefault("save_every", KEEP)
    return dataclasses.replace(training, **values), why


def as_before(training: T, saved: Mapping[str, Any]) -> T:
    """Return the settings with what nobody gave taken from those that a folder was begun with."""
    missing: dict[str, Any] = {name: saved.get(name) for name in ADAPTED if getattr(training, name) is None}
    return dataclasses.replace(training, **missing)


def sentence(why: Mapping[str, str]) -> str:
    """Return the choices in one line."""
    return "chosen: " + ", ".join(f"{name} {words}" for name, words in why.items())


def _encoder(at: Situation, count: str) -> tuple[str, str]:
    if at.weights is not None:
        return at.weights, "that of --init"
    if not at.gpu:
        return LEAN, "on a CPU"
    return (MIDDLE, count) if at.images < FEW else (ENCODER, count)


def _batch(at: Situation) -> int:
    """Return the largest power of two that gives ``STEPS_PER_EPOCH``, up to ``BATCH``; see ``LEAST_BATCH``."""
    most = max(at.images // STEPS_PER_EPOCH, min(LEAST_BATCH, at.images // 2))
    batch = min(BATCH, 1 << max(1, most.bit_length() - 1))
    if at.processes > 1:  # all take as many
        batch = max(2, batch // at.processes) * at.processes
    return batch
