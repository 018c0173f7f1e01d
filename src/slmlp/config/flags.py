"""From settings back to the words of a command."""

from __future__ import annotations

import dataclasses
from typing import Any


def flags(given: Any, default: Any, prefix: str = "") -> list[str]:
    """Return the command-line flags of the settings that differ from their defaults.

    >>> from slmlp.config import Training
    >>> flags(Training(epochs=5, nesterov=False, milestones=(0.5, 0.75)), Training())
    ['--epochs', '5', '--milestones', '0.5', '0.75', '--no-nesterov']
    """
    words: list[str] = []
    for entry in dataclasses.fields(given):
        value = getattr(given, entry.name)
        if value == getattr(default, entry.name) or value is None:
            continue
        flag = f"--{prefix}{entry.name}".replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--{prefix}no-{entry.name}".replace("_", "-"))
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        elif dataclasses.is_dataclass(value):
            words += flags(value, getattr(default, entry.name), f"{prefix}{entry.name}.")
        else:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words
