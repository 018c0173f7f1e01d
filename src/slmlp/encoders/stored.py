"""Safetensors files with a JSON description in their metadata, sealed with a checksum of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slmlp.config.sources import OURS
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

KEY = OURS  # of the metadata; a second key would change places with it from one run to the next


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write contiguous tensors on the CPU, with a description, atomically; the same content gives the same bytes."""
    sealed = {**about, json_files.SEAL: _hash(tensors, about)}
    files.write_tensors(path, tensors, {KEY: json.dumps(sealed, sort_keys=True)})


def read(file: Path, fix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description (empty in a file not written by slmlp) and the tensors on the CPU.

    Raises:
        SlmlpError: with ``fix`` as the way out, for a file that is no safetensors, or damaged: its checksum is compared
            where it has one.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY, "{}")
            names: list[str] = list(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise SlmlpError(f"{file} cannot be read as safetensors ({short(error)}); {fix}") from error
    about = json_files.parse_object(text, f"the metadata of {file}", fix, "an object")
    seal = about.pop(json_files.SEAL, None)
    if seal is not None and seal != _hash(tensors, about):
        raise SlmlpError(f"{file} was changed or damaged since it was written (its sha256 does not agree); {fix}")
    return about, tensors


def _hash(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(files.canonical(dict(about)).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\t{value.dtype}\t{tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
