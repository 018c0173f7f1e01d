"""Settings and command-line flags: how a field becomes a flag, and the flags that give certain settings."""

from __future__ import annotations

import dataclasses
from typing import Any

FLAT = {"flat": True}  # metadata of a group of settings whose flags have no prefix
HIDDEN = {"hidden": True}  # metadata of a setting that is no flag


def argument(metavar: str) -> dict[str, str]:
    """Return the metadata of a field that is a positional argument, called ``metavar`` in the help."""
    return {"metavar": metavar}


def flags(given: Any, default: Any, prefix: str = "") -> list[str]:
    """Return the command-line flags of the settings that differ from their defaults.

    >>> from slmlp.config import Training
    >>> flags(Training(epochs=5, nesterov=False, milestones=(0.5, 0.75)), Training())
    ['--epochs', '5', '--milestones', '0.5', '0.75', '--no-nesterov']
    """
    words: list[str] = []
    for entry in dataclasses.fields(given):
        value, usual = getattr(given, entry.name), getattr(default, entry.name)
        if value == usual:
            continue
        flag = f"--{prefix}{entry.name}".replace("_", "-")
        if isinstance(value, bool) and usual is not None:  # one that may be None takes its value as a word
            words.append(flag if value else f"--{prefix}no-{entry.name}".replace("_", "-"))
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        elif dataclasses.is_dataclass(value):
            inner = prefix if entry.metadata.get("flat") else f"{prefix}{entry.name}."
            words += flags(value, usual, inner)
        else:
            words += [flag, _short(value) if isinstance(value, float) else str(value)]
    return words


def _short(value: float) -> str:
    """Return a number without digits that say nothing: 1e-4 and 2, not 0.0001 and 2.0, but 1/3 in full."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
