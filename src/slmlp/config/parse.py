"""Settings from JSON."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

import msgspec

from slmlp.runtime.errors import SlmlpError, unknown

T = TypeVar("T")


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Return the dataclass that ``dataclasses.asdict`` took apart, as JSON gives it back (lists for tuples).

    Raises:
        SlmlpError: a name that the dataclass does not have, or a value of another type; one line.
    """
    _check_names(kind, values)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise SlmlpError(" ".join(str(error).replace("`$.", "`").split())) from error


def _check_names(kind: Any, values: Any) -> None:
    hints = typing.get_type_hints(kind)
    for name, value in values.items() if isinstance(values, dict) else ():
        if name not in hints:
            raise unknown("setting", name, hints)
        if dataclasses.is_dataclass(hints[name]):
            _check_names(hints[name], value)
