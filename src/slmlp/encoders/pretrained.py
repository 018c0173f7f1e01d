"""Pretrained weights by timm's names, from the hub or from a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from slmlp.encoders import weights
from slmlp.encoders.matching import matched
from slmlp.runtime.errors import unknown


def timm_weights(source: str) -> dict[str, Tensor]:
    """Return the weights of ``timm:NAME`` or ``timm:NAME@FILE[#PART]`` without their classifier, by timm's names."""
    name, _, file = source.removeprefix("timm:").partition("@")
    known(name)
    if not file:
        try:
            return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
        except Exception as error:  # the hub's client raises many kinds
            raise weights.undownloaded(source, error, f"timm:{name}@FILE") from error
    network = unallocated(name)

    def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under timm's names, where timm knows those of the network's authors."""
        rename: Any = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        return dict(rename(dict(state), timm.create_model(name, num_classes=0))) if rename else {}

    return matched(file, network.state_dict(), source, classifiers(name), renamed)


def unallocated(name: str) -> nn.Module:
    """Return timm's network without its classifier, shapes only: its tensors take no memory."""
    with torch.device("meta"):
        network: nn.Module = timm.create_model(name, num_classes=0)
    return network


def known(name: str) -> None:
    """Check that timm has a network of this name; the error offers the nearest."""
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())


def classifiers(name: str) -> tuple[str, ...]:
    """Return the names of a timm model's classifiers: one, or two of a distilled model."""
    classifier = (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).classifier or "fc"
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)
