"""Settings left to ``auto``, decided by the run they are for, and what no method can train on refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from slmlp import config
from slmlp.runtime.errors import SlmlpError

SMALL_ENCODER = 1024  # channels; below, the sources' settings for small images are taken where they give any


@dataclass(frozen=True)
class Facts:
    """What a run is made of."""

    training_images: int
    batch_size: int
    encoder_dim: int


def fit(name: str, settings: config.MethodConfig, facts: Facts) -> tuple[config.MethodConfig, list[str]]:
    """Return the settings with every ``auto`` decided, and a line for each thing that is not the source's.

    Raises:
        SlmlpError: a queue that is not a multiple of the batch or holds more than the data; too few prototypes; a
            temperature where nothing is divided by it.
    """
    made, notes = settings, []
    if isinstance(settings, config.SL) and not settings.cosine and settings.temperature != config.SL.temperature:
        raise SlmlpError(
            f"temperature {settings.temperature} changes nothing without the cosine softmax: add --cosine "
            "(in --methods cosine=true), or leave the temperature out"
        )
    if isinstance(settings, config.SimCLR) and settings.temperature == "auto":
        small = facts.encoder_dim < SMALL_ENCODER
        made = dataclasses.replace(settings, temperature=0.5 if small else 0.1)
        if small:
            notes.append(
                f"temperature 0.5, as in the source's small-image runs (appendix B.9): {facts.encoder_dim} channels"
            )
    elif isinstance(settings, config.MoCo):
        made, notes = _moco(settings, facts)
    elif isinstance(settings, config.SwAV):
        made, notes = _swav(settings, facts)
    elif isinstance(settings, config.TReX) and settings.memory_size == "auto":
        size = min(8192, max(1, facts.training_images // 2))
        made = dataclasses.replace(settings, memory_size=size)
        if size < 8192:
            notes.append(f"memory of {size:,} embeddings, half the training images, in place of the source's 8,192")
    hidden, out = made.projector.widths(facts.encoder_dim)
    if made.projector.depth and facts.encoder_dim < SMALL_ENCODER:
        widths = "-".join(str(w) for w in (facts.encoder_dim, *[hidden] * made.projector.depth, out) if w is not None)
        notes.append(f"projector {widths}: hidden width scaled from the source's to {facts.encoder_dim} channels")
    return made, [f"{name}: {note}" for note in notes]


def _moco(settings: config.MoCo, facts: Facts) -> tuple[config.MoCo, list[str]]:
    batch, notes = facts.batch_size, []
    if settings.queue_size != "auto":
        size = settings.queue_size
    else:
        size = max(batch, min(65536, facts.training_images // 2) // batch * batch)
        if size < 65536 // batch * batch:
            notes.append(f"queue of {size:,} keys, half the training images, in place of the source's 65,536")
    if size % batch:
        raise SlmlpError(
            f"queue_size {size} is not a multiple of the batch of {batch}; choose {max(1, size // batch) * batch}"
        )
    if size > facts.training_images:
        raise SlmlpError(
            f"queue_size {size} is more than the {facts.training_images} training images, so an image would meet its "
            f"own key as a negative; choose at most {facts.training_images // batch * batch}"
        )
    groups = settings.bn_groups
    if batch // groups < 2:
        raise SlmlpError(f"bn_groups {groups} leaves fewer than 2 of {batch} images in a part; choose {batch // 2}")
    return dataclasses.replace(settings, queue_size=size), notes


def _swav(settings: config.SwAV, facts: Facts) -> tuple[config.SwAV, list[str]]:
    notes = []
    if settings.prototypes != "auto":
        prototypes = settings.prototypes
    else:
        prototypes = max(2, min(3000, facts.training_images // 10))
        if prototypes < 3000:
            notes.append(f"{prototypes:,} prototypes, a tenth of the training images, in place of the source's 3,000")
    if settings.queue_size != "auto":
        size = settings.queue_size
    else:
        most = facts.training_images // facts.batch_size
        size = min(15, max(1, most // 2)) * facts.batch_size if facts.batch_size < prototypes else 0
        if size:
            notes.append(f"queue of {size:,} embeddings: the batch of {facts.batch_size} has fewer than the prototypes")
    if size % facts.batch_size:
        raise SlmlpError(
            f"queue_size {size} is not a multiple of the batch of {facts.batch_size}; "
            f"choose {max(1, size // facts.batch_size) * facts.batch_size}, or 0 for none"
        )
    return dataclasses.replace(settings, prototypes=prototypes, queue_size=size), notes
