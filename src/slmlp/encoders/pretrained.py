"""Pretrained weights by timm's names, from the hub or from a file."""

from __future__ import annotations

import timm
from torch import Tensor

from slmlp.encoders import weights
from slmlp.runtime.errors import SlmlpError, unknown


def timm_weights(source: str, encoder: str, option: str = "--init ") -> dict[str, Tensor]:
    """Return the weights of ``timm:NAME`` or ``timm:NAME@FILE`` without their classifier, for the encoder so named.

    ``option`` stands before the source in errors.
    """
    name, _, file = source.removeprefix("timm:").partition("@")
    known(name)
    if name.split(".")[0] != encoder.split(".")[0]:
        raise SlmlpError(f"{option}{source} holds weights of {name}, but --encoder is {encoder}; the two must agree")
    if file:
        return weights.without(weights.read(file, option + source), classifiers(name))
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
    except Exception as error:  # the hub's client raises many kinds
        raise weights.undownloaded(option + source, error, f"{option}timm:{name}@FILE") from error


def known(name: str) -> None:
    """Refuse a name that timm does not have, offering the nearest."""
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())


def classifiers(name: str) -> tuple[str, ...]:
    """Return the names of a timm model's classifiers: one, or two of a distilled model."""
    classifier = (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).classifier or "fc"
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)
