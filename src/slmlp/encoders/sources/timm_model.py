"""``timm:NAME``, ``timm:NAME@FILE[#PART]``, ``timm:NAME@random``."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.backbones import NOTHING, Dropped, resize
from slmlp.encoders.encoder import Encoder, build
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.pretrained import known, timm_weights, unallocated
from slmlp.encoders.sources.preparing import Prepared, from_timm
from slmlp.encoders.weights import file_and_part
from slmlp.runtime import json_files, seeds

PREPARING = (
    "input_size", "test_input_size", "crop_pct", "test_crop_pct", "crop_mode", "mean", "std", "interpolation",
)  # fmt: skip


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return a timm model without its classifier, in evaluation mode; see ``open_model``."""
    return open_model(source, overrides, seed).eval()


def open_model(
    source: str,
    overrides: PreprocessFlags | None,
    seed: int,
    *,
    training: bool = False,
    crop_size: int | None = None,
    dropped: Dropped = NOTHING,
) -> Encoder:
    """Return a timm model without its classifier, with the preprocessing of its ``pretrained_cfg``.

    That is timm's for the name, or the one of ``FILE.json`` or ``config.json`` beside the weights, as timm's exports
    and its hub have it. Weights are loaded at the size that they were trained at; position embeddings of a network that
    is bound to a size are then resampled to another that was asked for, as timm does it. For ``training`` the default
    size is the one of training, not of timm's tests; ``crop_size`` is that of local crops, and ``dropped`` what is left
    out at random.
    """
    name, _, file = source.removeprefix("timm:").partition("@")
    known(name)
    config, who = _config(name, file)
    prepared = _prepared(config, who, source, overrides, training)
    trained = int(config["input_size"][1])
    state = None if file == "random" else timm_weights(source)
    fixed = bool(config.get("fixed_input_size"))
    if state is not None and fixed:
        own = _side(name, state)
        if own not in (None, trained):
            trained = own
            if overrides is None or overrides.size is None:
                prepared = prepared.at(own, "the weights' position embedding")
    size = prepared.preprocess.size
    bound = fixed and size != trained and state is not None
    with seeds.seeded(seed, "encoder"):
        encoder = build(name, trained if bound else size, "standard", crop_size, dropped)
    if state is not None:
        encoder.load_weights(state, source)
    if bound:
        resize(encoder.backbone, size, source)
    spec = dataclasses.replace(encoder.spec, image_size=size)
    return Encoder(encoder.backbone, spec, prepared.preprocess, Origin(source, prepared.values))


def _config(name: str, file: str) -> tuple[dict[str, Any], str]:
    """Return a model's ``pretrained_cfg`` and who says so: a JSON file beside the weights of this model, or timm."""
    config = (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).to_dict()
    path = Path(file_and_part(file)[0])
    for beside in (path.with_name(f"{path.name}.json"), path.with_name("config.json")) if path.is_file() else ():
        if not beside.is_file():
            continue
        content = json_files.read(beside, dict[str, Any], "correct it, or remove it")
        own = content.get("pretrained_cfg")
        if isinstance(own, dict) and content.get("architecture") == name.split(".")[0]:
            return config | {key: own[key] for key in PREPARING if own.get(key) is not None}, beside.name
    return config, "timm's config"


def _prepared(
    config: dict[str, Any], who: str, source: str, overrides: PreprocessFlags | None, training: bool
) -> Prepared:
    flags = overrides or PreprocessFlags()
    if not training or flags.size is not None:
        return from_timm(config, who, source, flags)
    prepared = from_timm(config, who, source, dataclasses.replace(flags, size=int(config["input_size"][1])))
    return Prepared(prepared.preprocess, {**prepared.values, "size": who})


def _side(name: str, state: dict[str, Tensor]) -> int | None:
    """Return the side of the images that a network was trained on, by the grid of its position embedding."""
    table, network = state.get("pos_embed"), unallocated(name)
    own, embed = getattr(network, "pos_embed", None), getattr(network, "patch_embed", None)
    if table is None or own is None or embed is None or table.ndim != 3 or own.ndim != 3:
        return None
    rows = math.isqrt(table.shape[1] - (own.shape[1] - embed.num_patches))
    fits = rows * rows + own.shape[1] - embed.num_patches == table.shape[1]
    return rows * int(embed.patch_size[0]) if fits else None
