"""``timm:NAME``, ``timm:NAME@FILE``, ``timm:NAME@random``."""

from __future__ import annotations

import dataclasses

import timm
from torch import nn

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder, build
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.pretrained import known, timm_weights
from slmlp.encoders.sources.preparing import from_timm
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError


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
    size, trained = prepared.preprocess.size, int(config["input_size"][1])
    bound = pretrained_cfg.fixed_input_size and size != trained and file != "random"
    with seeds.seeded(seed, "encoder"):
        encoder = build(name, trained if bound else size, "standard")
    if file != "random":
        encoder.load_weights(timm_weights(source, name, option=""), source)
    if bound:
        _resize(encoder.backbone, size, source)
    spec = dataclasses.replace(encoder.spec, image_size=size)
    return Encoder(encoder.backbone, spec, prepared.preprocess, Origin(source, prepared.values)).eval()


def _resize(backbone: nn.Module, size: int, source: str) -> None:
    resize = getattr(backbone, "set_input_size", None)
    try:
        if resize is None:
            raise ValueError("timm cannot resize it")
        resize(img_size=(size, size))
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        first = " ".join(str(error).split())[:160]
        raise SlmlpError(f"{source} takes no images of {size} pixels ({first}); leave the size out") from error
