"""The projector of a finished run, kept beside the encoder for a look at the layers behind it, and for that only."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from slmlp import config, files
from slmlp.encoders import stored
from slmlp.errors import SlmlpError
from slmlp.methods.base import Method, projector

FILE = "projector.safetensors"
FORMAT = "slmlp-projector-1"


def save_projector(run: Path, method: Method, dim: int) -> None:
    """Write the weights of a method's projector into a run's folder; nothing where it has no layers.

    The settings that build it again are in the run's ``config.json``.
    """
    held = getattr(method, "projector", None)
    if not isinstance(held, nn.Sequential) or not len(held):
        return
    # contiguous copies in the usual layout, as of the encoder
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in held.state_dict().items()}
    files.write_tensors(run / FILE, state, {"slmlp": json.dumps({"format": FORMAT, "dim": dim})})


def load_projector(run: Path, dim: int) -> nn.Sequential | None:
    """Return a run's projector on features of width ``dim``, in evaluation mode, or None where the run keeps none."""
    path = run / FILE
    if not path.is_file() or not (run / "config.json").is_file():
        return None
    about, state = stored.read(path, "restore it, or remove it")
    settings = files.read_json(run / "config.json").get("resolved", {}).get("method_settings", {})
    if about.get("format") != FORMAT or about.get("dim") != dim or "projector" not in settings:
        raise SlmlpError(f"{path} is no projector of this run's encoder ({dim} features); restore it, or remove it")
    made, _ = projector(dim, config.from_dict(config.Projector, settings["projector"]))
    try:
        made.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise SlmlpError(f"{path} does not fit the run's config.json ({first}); restore it, or remove it") from error
    return made.eval().requires_grad_(False)
