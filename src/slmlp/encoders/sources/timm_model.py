"""``timm:NAME``, ``timm:NAME@FILE``, ``timm:NAME@random``."""

from __future__ import annotations

import dataclasses
import math

import timm
import torch
from torch import Tensor, nn

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder, build
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.pretrained import known, timm_weights
from slmlp.encoders.sources.preparing import from_timm
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return a timm model without its classifier, with the preprocessing of its ``pretrained_cfg``.

    Weights are loaded at the size that they were trained at; position embeddings of a network that is bound to a size
    are then resampled to another that was asked for, as timm does it.
    """
    name, _, file = source.removeprefix("timm:").partition("@")
    known(name)
    pretrained_cfg = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    config = pretrained_cfg.to_dict()
    prepared = from_timm(config, "timm's config", source, overrides)
    trained = int(config["input_size"][1])
    state = None if file == "random" else timm_weights(source, name, option="")
    if state is not None and pretrained_cfg.fixed_input_size:
        own = _side(name, state)
        if own not in (None, trained):
            trained = own
            if overrides is None or overrides.size is None:
                prepared = prepared.at(own, "the weights' position embedding")
    size = prepared.preprocess.size
    bound = pretrained_cfg.fixed_input_size and size != trained and state is not None
    with seeds.seeded(seed, "encoder"):
        encoder = build(name, trained if bound else size, "standard")
    if state is not None:
        encoder.load_weights(state, source)
    if bound:
        _resize(encoder.backbone, size, source)
    spec = dataclasses.replace(encoder.spec, image_size=size)
    return Encoder(encoder.backbone, spec, prepared.preprocess, Origin(source, prepared.values)).eval()


def _side(name: str, state: dict[str, Tensor]) -> int | None:
    """Return the side of the images that a network was trained on, by the grid of its position embedding."""
    table = state.get("pos_embed")
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    own, embed = getattr(network, "pos_embed", None), getattr(network, "patch_embed", None)
    if table is None or own is None or embed is None or table.ndim != 3 or own.ndim != 3:
        return None
    rows = math.isqrt(table.shape[1] - (own.shape[1] - embed.num_patches))
    fits = rows * rows + own.shape[1] - embed.num_patches == table.shape[1]
    return rows * int(embed.patch_size[0]) if fits else None


def _resize(backbone: nn.Module, size: int, source: str) -> None:
    resize = getattr(backbone, "set_input_size", None)
    try:
        if resize is None:
            raise ValueError("timm cannot resize it")
        resize(img_size=(size, size))
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        first = short(error)
        raise SlmlpError(f"{source} takes no images of {size} pixels ({first}); leave the size out") from error
