"""Methods by name: ``config.METHODS`` lists them, and their classes are imported when one is built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from slmlp import config

if TYPE_CHECKING:
    from slmlp.encoders import Encoder
    from slmlp.methods.base import Facts, Method


def implementation(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        SlmlpError: an unknown name.
    """
    module, _, attribute = config.method_entry(name).implementation.partition(":")
    kind: type[Method] = getattr(importlib.import_module(module), attribute)
    return kind


def fit(name: str, settings: config.MethodConfig, facts: Facts) -> tuple[config.MethodConfig, list[str]]:
    """Return the settings with every ``auto`` decided, and a note for each value that is not the source's.

    Raises:
        SlmlpError: settings that cannot work with these facts, such as a queue larger than the data.
    """
    from slmlp.methods.base import SMALL_ENCODER

    fitted, notes = implementation(name).fit(settings, facts)
    hidden, out = fitted.projector.widths(facts.encoder_dim)
    if fitted.projector.depth and facts.encoder_dim < SMALL_ENCODER:
        widths = [facts.encoder_dim, *[hidden] * fitted.projector.depth, out]
        shape = "-".join(str(width) for width in widths if width is not None)
        notes = [*notes, f"projector {shape}: hidden width scaled from the source's to {facts.encoder_dim} channels"]
    return fitted, [f"{name}: {note}" for note in notes]


def build(name: str, encoder: Encoder, num_classes: int, cfg: config.MethodConfig) -> Method:
    """Return the method with fresh head weights, drawn from torch's global generator (see ``seeds.seeded``).

    Args:
        name: one of ``config.METHODS``, or a plug-in's.
        encoder: the encoder that is trained.
        num_classes: classes of the labels; methods without labels do not use it.
        cfg: the method's settings, without ``auto`` (see ``fit``).
    """
    return implementation(name)(encoder, num_classes, cfg)
