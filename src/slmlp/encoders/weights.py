"""Read weight files: safetensors, or pickles restricted to tensors; wrappers are removed and reported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

WRAPPERS = ("state_dict", "model")  # where training scripts put the weights beside optimizer and epoch
PARALLEL = "module."  # what DistributedDataParallel puts before every name


def read(file: str, source: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name; ``source`` is what the user typed, for error messages.

    Safetensors, or pickles read with ``weights_only=True``. Weights below ``state_dict`` or ``model``, and names that
    begin with ``module.``, are understood, in one printed line.
    """
    path = Path(file)
    if not path.is_file():
        raise SlmlpError(f"{source}: no file {file}")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # safetensors, pickle and zip errors alike mean a file that is no weights file
        raise SlmlpError(
            f"{source}: {file} cannot be read as weights ({_first(error)}); expected safetensors, or a torch.save of "
            "tensors by name"
        ) from error
    notes = []
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            notes.append(f"found below {name!r}")
    state = dict(content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        described = f"the keys {', '.join(map(str, list(state)[:6]))}" if state else f"a {type(content).__name__}"
        raise SlmlpError(
            f"{source}: {file} holds {described}, no tensors by name; save model.state_dict() and give that"
        )
    if all(k.startswith(PARALLEL) for k in state):
        state = {k.removeprefix(PARALLEL): v for k, v in state.items()}
        notes.append(f"the prefix {PARALLEL!r} of DistributedDataParallel taken off")
    if notes:
        say(f"{file}: weights {', '.join(notes)}")
    return state


def without(state: dict[str, Tensor], classifiers: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights without those of the classifiers, the only keys that may be unused."""
    heads = set(classifiers)
    return {k: v for k, v in state.items() if k.rpartition(".")[0] not in heads}


def undownloaded(source: str, error: Exception, instead: str) -> SlmlpError:
    """Return the error for weights that a hub does not give, ``instead`` being what to type with a file."""
    return SlmlpError(
        f"{source}: the weights cannot be downloaded ({_first(error)}); fetch the file elsewhere and give {instead}"
    )


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
