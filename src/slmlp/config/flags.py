"""Settings and command-line flags: how a field becomes a flag, and the flags that give certain settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

FLAT = {"flat": True}  # metadata of a group of settings whose flags have no prefix
HIDDEN = {"hidden": True}  # metadata of a setting that is no flag


def argument(metavar: str, text: str = "", takes: str = "") -> dict[str, str]:
    """Return the metadata of a field that is a positional argument, called ``metavar`` in the help.

    ``text`` is what ``--help`` says of it; without one that is its first sentence.
    """
    return {"metavar": metavar} | main(text, takes)


def main(text: str, takes: str = "") -> dict[str, str]:
    """Return the metadata of a setting that ``--help`` shows, in these words; the others are in ``--help-all`` only.

    ``takes`` is what its value names, a key of ``cli.checks.CHECKS``: that is looked for before anything is loaded.
    """
    return {"main": text, "takes": takes}


SHOWN = 3  # settings that differ


def differing(saved: Mapping[str, Any], now: Mapping[str, Any], flat: Collection[str], prefix: str = "") -> list[str]:
    """Return the settings that differ as a user types them, with both values; groups in ``flat`` have no prefix.

    >>> differing({"epochs": 5, "probe": {"folds": 5}}, {"epochs": 9, "probe": {"folds": 3}}, ())
    ['--epochs is 5 there, 9 here', '--probe.folds is 5 there, 3 here']
    """
    found = []
    for name in dict.fromkeys([*saved, *now]):
        before, after = saved.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differing(before, after, flat, prefix if name in flat else f"{prefix}{name}.")
        elif before != after:
            flag = f"--{prefix}{name}".replace("_", "-")
            found.append(f"{flag} is {_words(before)} there, {_words(after)} here")
    return found


def some(found: list[str]) -> str:
    """Return the first of the settings that differ, and how many more there are."""
    more = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "empty"
    return "not set" if value is None else str(value)


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
