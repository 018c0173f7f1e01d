"""Weights that others trained, by timm's names, from its hub or from a file."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from slmlp.errors import SlmlpError, unknown


def timm_weights(source: str, encoder: str) -> dict[str, Tensor]:
    """Return the weights of ``timm:NAME`` or ``timm:NAME@FILE`` without their classifier.

    Files are safetensors, or pickles read with ``weights_only=True``; the classifier's two tensors are the only keys
    that may be left over.
    """
    name, _, file = source.removeprefix("timm:").partition("@")
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())
    if name.split(".")[0] != encoder:
        raise SlmlpError(f"--init {source} holds weights of {name}, but --encoder is {encoder}; the two must agree")
    if not file:
        try:
            return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
        except Exception as error:  # the hub's client raises many kinds
            first = " ".join(str(error).split())[:160]
            raise SlmlpError(
                f"--init {source}: the weights cannot be downloaded ({first}); fetch the file elsewhere and give "
                f"--init timm:{name}@FILE"
            ) from error
    path = Path(file)
    if not path.is_file():
        raise SlmlpError(f"--init {source}: no file {file}")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # safetensors, pickle and zip errors alike mean a file that is no weights file
        first = " ".join(str(error).split())[:160]
        raise SlmlpError(f"--init {source}: {file} cannot be read as weights ({first})") from error
    held = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else {}
    head = str((timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).classifier or "fc")
    return {k: v for k, v in dict(held or {}).items() if k.rpartition(".")[0] != head}
