"""The projector of a finished run, saved beside the encoder so that its layers can be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from slmlp import config
from slmlp.encoders import stored
from slmlp.encoders.projector import projector as build_projector
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

FILE = "projector.safetensors"
FORMAT = "slmlp-projector-1"


def save_projector(run: Path, projector: nn.Module | None, dim: int) -> None:
    """Write a projector's weights into a run's folder; nothing where it has no layers.

    ``dim`` is the width of the features that it takes. The settings that build it again are in the run's
    ``config.json``.
    """
    if not isinstance(projector, nn.Sequential) or not len(projector):
        return
    # contiguous copies in the usual layout, as of the encoder
    state = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in projector.state_dict().items()
    }
    stored.write(run / FILE, state, {"format": FORMAT, "dim": dim})


def load_projector(run: Path, dim: int) -> nn.Sequential | None:
    """Return a run's projector on features of width ``dim``, in evaluation mode; None if the folder has none."""
    path = run / FILE
    if not path.is_file() or not (run / "config.json").is_file():
        return None
    about, state = stored.read(path, "restore it, or remove it")
    settings = json_files.read(run / "config.json", dict[str, Any]).get("resolved", {}).get("method_settings", {})
    if about.get("format") != FORMAT or about.get("dim") != dim or "projector" not in settings:
        raise SlmlpError(f"{path} is no projector of this run's encoder ({dim} features); restore it, or remove it")
    projector, _ = build_projector(dim, config.from_dict(config.Projector, settings["projector"]))
    try:
        projector.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = short(error)
        raise SlmlpError(f"{path} does not fit the run's config.json ({first}); restore it, or remove it") from error
    return projector.eval().requires_grad_(False)
