"""Read weight files: safetensors, or pickles restricted to tensors; wrappers are removed and reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short
from slmlp.runtime.progress import say

WRAPPERS = ("state_dict", "model")  # where training scripts put the weights beside optimizer and epoch
AVERAGED = re.compile(r"ema|averag|swa|teacher", re.IGNORECASE)  # in the name of a second set of weights beside them
# in names of what training puts behind or beside an encoder, and a finished encoder does without
TRAINING_ONLY = re.compile(r"(^|\.)(projector|projection|projection_head|predictor|prototypes|queue)(\.|_|$)")
COUNTER = ".num_batches_tracked"  # of BatchNorm; older files have none, and evaluation reads none
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
            f"{source}: {file} cannot be read as weights ({short(error)}); expected safetensors, or a torch.save of "
            "tensors by name"
        ) from error
    notes = []
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            others = [key for key, value in content.items() if key != name and _is_second(str(key), value)]
            if others:
                notes.append(
                    f"of {name!r} are taken, not those of {others[0]!r} beside them (an average of them, most "
                    "likely: to use it, save it alone)"
                )
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


def _is_second(key: str, value: Any) -> bool:
    """Return whether an entry of a checkpoint is a second set of weights, as an EMA copy."""
    tensors = isinstance(value, dict) and any(isinstance(each, Tensor) for each in value.values())
    return bool(AVERAGED.search(key)) and (tensors or (isinstance(value, dict) and any(map(_nested, value.values()))))


def _nested(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(each, Tensor) for each in value.values())


def fit(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights that lack only counters or have only training's parts too many as ``own`` needs them, and notes.

    ``own`` is the state of the network. All else is left as it is, for the check of the keys to refuse.
    """
    notes, state = [], dict(state)
    missing = own.keys() - state.keys()
    counters = [key for key in missing if key.endswith(COUNTER)]
    if counters and len(counters) == len(missing):
        notes.append(f"{len(counters)} counters of BatchNorm (num_batches_tracked) missing, set to 0")
        state |= {key: torch.zeros_like(own[key]) for key in counters}
    extra = sorted(key for key in state.keys() - own.keys() if TRAINING_ONLY.search(key))
    if extra:
        notes.append(
            f"{len(extra)} tensors of training's own left out ({', '.join(extra[:3])}{' ...' * (len(extra) > 3)})"
        )
        state = {key: value for key, value in state.items() if key not in extra}
    return state, notes


def quantised(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Return the first weight that is whole numbers where the network's is not: its scale is missing."""
    for key, value in own.items():
        there = state.get(key)
        if there is not None and value.is_floating_point() and not there.is_floating_point():
            return f"{key} is {str(there.dtype).removeprefix('torch.')}"
    return None


def without(state: dict[str, Tensor], classifiers: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights without those of the classifiers, also of classifiers behind ``add_projector``."""
    heads = {head for name in classifiers for head in (name, f"{name}.classifier")}
    return {k: v for k, v in state.items() if k.rpartition(".")[0] not in heads}


def undownloaded(source: str, error: Exception, instead: str) -> SlmlpError:
    """Return the error for weights that a hub does not give, ``instead`` being what to type with a file."""
    return SlmlpError(
        f"{source}: the weights cannot be downloaded ({short(error)}); fetch the file elsewhere and give {instead}"
    )
