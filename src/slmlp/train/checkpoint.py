"""Checkpoints: the whole state of a run, written atomically with a checksum; the previous one is kept."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

KEPT = 2
NAME = re.compile(r"step-(\d{9})\.ckpt")


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state after ``step`` steps and remove all but the last two checkpoints.

    The file is the SHA-256 of the rest in hexadecimal, a newline, and what ``torch.save`` writes.
    """
    buffer = io.BytesIO()
    torch.save({"step": step, **state}, buffer)
    payload = buffer.getvalue()
    path = folder / f"step-{step:09d}.ckpt"
    files.write_bytes(path, hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    for old in _found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_last(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest intact checkpoint (None if there is none) and a warning for each damaged one."""
    warnings: list[str] = []
    for path in reversed(_found(folder)):
        try:
            return _read(path), warnings
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            warnings.append(f"{path} is damaged ({error}); the checkpoint before it is used")
    if warnings:
        raise SlmlpError(
            f"no checkpoint in {folder} can be read (damaged: {', '.join(path.name for path in _found(folder))}): "
            "remove the run's folder and start again"
        )
    return None, warnings


def clear(folder: Path) -> None:
    """Remove all checkpoints: of a run that has ended, also where a kill came before they were removed."""
    for path in _found(folder):
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    digest, _, payload = path.read_bytes().partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise ValueError("its checksum does not match")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def _found(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*.ckpt") if NAME.fullmatch(p.name)) if folder.is_dir() else []
