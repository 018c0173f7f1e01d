"""What timm needs to rebuild the network: its name, arguments and ``pretrained_cfg``."""

from __future__ import annotations

import math
from typing import Any

import timm
from torch import nn

from slmlp.encoders import Encoder
from slmlp.encoders.preprocess import Preprocess
from slmlp.exports.bundle import Bundle, no_room_for


def unsupported(bundle: Bundle) -> str | None:
    """Return why timm cannot build the network, or None."""
    spec = bundle.encoder.spec
    if spec.name == "resnet10":
        return "resnet10 is slmlp's own network, which timm does not have"
    if spec.stem == "small" and patch_size(bundle.encoder) is None:
        return (
            "the small stem of a convnet (3x3, stride 1, no max-pool) is no option of timm's networks, which would "
            "compute something else with these weights; pretrain with --stem standard"
        )
    return no_room_for(bundle, "timm", classifier=True)


def patch_size(encoder: Encoder) -> int | None:
    """Return the side of the patches that the network cuts images into, or None for one that cuts none."""
    first = getattr(encoder.backbone, "pretrained_cfg", {}).get("first_conv")
    conv = encoder.backbone.get_submodule(first) if isinstance(first, str) else None
    if isinstance(conv, nn.Conv2d) and conv.kernel_size == conv.stride and conv.stride[0] > 1:
        return int(conv.stride[0])
    return None


def arguments(encoder: Encoder) -> dict[str, Any]:
    """Return the arguments, beside the name, that make timm build this network."""
    arguments_of: dict[str, Any] = {}
    default_cfg = timm.get_pretrained_cfg(encoder.spec.name)
    if default_cfg is not None and default_cfg.fixed_input_size:
        arguments_of["img_size"] = encoder.spec.image_size
    if encoder.spec.stem == "small":
        arguments_of["patch_size"] = patch_size(encoder)
    return arguments_of


def config(bundle: Bundle) -> dict[str, Any]:
    """Return timm's ``config.json``: architecture, arguments and preprocessing."""
    encoder, default_cfg = bundle.encoder, timm.get_pretrained_cfg(bundle.encoder.spec.name)
    prepared, size = encoder.preprocess, encoder.spec.image_size
    classes = bundle.classes or 0
    return {
        "architecture": encoder.spec.name,
        "num_classes": classes,
        "num_features": encoder.dim,
        "model_args": arguments(encoder),
        "pretrained_cfg": {
            "tag": "slmlp",
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": bool(default_cfg is not None and default_cfg.fixed_input_size),
            "interpolation": prepared.interpolation,
            "crop_pct": crop_pct(prepared),
            "crop_mode": "squash" if prepared.squash else "center",
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "num_classes": classes,
            "first_conv": default_cfg.first_conv if default_cfg else None,
            "classifier": default_cfg.classifier if default_cfg else None,
            "license": bundle.license,
        },
    }


def crop_pct(prepared: Preprocess) -> float:
    """Return timm's share of the short side that is cut out, such that ``floor(size / crop_pct)`` is our side.

    >>> math.floor(224 / crop_pct(Preprocess(224, 256)))
    256
    """
    share = prepared.size / prepared.side
    while math.floor(prepared.size / share) != prepared.side:
        share = math.nextafter(share, 0.0)
    return share
