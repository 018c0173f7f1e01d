"""Safetensors files with a JSON description in their metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from slmlp.runtime.errors import SlmlpError


def read(file: Path, fix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON description (empty in a file not written by slmlp) and the tensors on the CPU.

    Raises SlmlpError, with ``fix`` as the way out, for a file that is damaged or no safetensors.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            about: dict[str, Any] = json.loads((opened.metadata() or {}).get("slmlp", "{}"))
            names: list[str] = list(opened.keys())
            return about, {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise SlmlpError(f"{file} cannot be read as safetensors ({error}); {fix}") from error
