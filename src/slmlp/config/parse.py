"""Settings from JSON."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from slmlp.runtime.errors import unknown

T = TypeVar("T")


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Return the dataclass that ``dataclasses.asdict`` took apart, as JSON gives it back (lists for tuples)."""
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise unknown("setting", name, hints)
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)
