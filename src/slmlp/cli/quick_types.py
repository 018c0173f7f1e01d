"""Whether a default fits its type, asked without importing typeguard: a quarter of the time to ``--help``.

tyro asks typeguard for every tuple and ``X | None`` among the settings, and typeguard imports unittest.mock, which
imports asyncio: 0.15 s of 0.6 on a slow core. While tyro reads a command, a stand-in answers for the few kinds of type
that settings have, and hands everything else to the real one.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

NAME = "typeguard"
PLAIN = (bool, int, str, bytes, list, dict, set)


def fits(value: object, kind: Any) -> bool | None:
    """Return whether a value is of a type, every item of a tuple included; None for kinds of type not known here.

    >>> fits((0.6, 1), tuple[float, ...]), fits(None, str | None), fits("1", int), fits([1], list[int])
    (True, True, False, None)
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if kind is None or kind is types.NoneType:
        return value is None
    if kind is float:
        return isinstance(value, (int, float))
    if kind in PLAIN:
        return isinstance(value, kind)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if origin in (typing.Union, types.UnionType):
        found = [fits(value, one) for one in inner]
        return True if True in found else None if None in found else False
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        repeated = len(inner) == 2 and inner[1] is Ellipsis
        if not repeated and len(value) != len(inner):
            return False
        found = [fits(item, inner[0] if repeated else inner[i]) for i, item in enumerate(value)]
        return False if False in found else None if None in found else True
    return None


class StandIn(types.ModuleType):
    """Looks like typeguard; what it does not know itself comes from there."""

    real: types.ModuleType | None = None  # once it was needed

    class TypeCheckError(Exception):
        """As typeguard's."""

    def check_type(self, value: object, kind: Any) -> object:
        """Return the value, or raise where it is not of the type."""
        found = fits(value, kind)
        if found is None:
            real = self.load()
            try:
                return real.check_type(value, kind)
            except real.TypeCheckError as error:
                raise self.TypeCheckError(str(error)) from error
        if not found:
            raise self.TypeCheckError(f"{value!r} is not {kind}")
        return value

    def __getattr__(self, name: str) -> Any:
        """Return what the real one has."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.load(), name)

    def load(self) -> Any:
        """Return the real one; it is imported here."""
        if self.real is None:
            del sys.modules[NAME]
            try:
                self.real = importlib.import_module(NAME)
            finally:
                sys.modules[NAME] = self
        return self.real


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Let the stand-in answer in here, unless the real one is loaded already."""
    if NAME in sys.modules:
        yield
        return
    stand_in = sys.modules[NAME] = StandIn(NAME)
    try:
        yield
    finally:
        if stand_in.real is None:
            del sys.modules[NAME]
        else:
            sys.modules[NAME] = stand_in.real
