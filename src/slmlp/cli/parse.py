"""Flags from typed dataclasses, through tyro: help texts are the sentences under the fields of ``config``."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator
from typing import Any

import tyro

from slmlp.cli import quick_types, refusals
from slmlp.runtime.errors import SlmlpError


def parse(kind: Any, name: str, words: list[str]) -> Any:
    """Return an instance of ``kind``, or of what its ``for_words`` makes of the words, from a command's words.

    Raises:
        SlmlpError: an option that the command does not have; the nearest ones are named, and those of the method; a
            value that an option does not take.
    """
    choose = getattr(kind, "for_words", None)
    made = choose(words) if choose else kind
    with quick_types.quick(), refusals.one_line(name):
        parsed, rest = tyro.cli(made, prog=f"slmlp {name}", args=words, return_unknown_args=True)
    if rest:
        raise _unknown(made, name, rest[0])
    return parsed


def flags(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the flags of a dataclass of settings, those of nested ones included, as they are typed."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        bare, *marks = typing.get_args(hints[field.name]) if _annotated(hints[field.name]) else (hints[field.name],)
        if tyro.conf.Positional in marks or tyro.conf.Suppress in marks:
            continue
        if dataclasses.is_dataclass(bare):
            flat = any(getattr(mark, "name", None) == "" for mark in marks)
            yield from flags(bare, prefix if flat else f"{prefix}{field.name}.")
        else:
            yield f"--{prefix}{field.name}".replace("_", "-")


def _annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Annotated


def _unknown(kind: Any, command: str, word: str) -> SlmlpError:
    flag = word.partition("=")[0]
    if not flag.startswith("-"):
        return SlmlpError(f"slmlp {command}: unexpected word {word!r}; see slmlp {command} --help")
    known = sorted(set(flags(kind)))
    near = difflib.get_close_matches(flag.replace("_", "-"), known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    settings = [field.type for field in dataclasses.fields(kind) if field.name == "method_settings"]
    if settings:
        method = settings[0].__args__[0] if hasattr(settings[0], "__args__") else settings[0]
        hint += f"; the settings of this method are {', '.join(sorted(set(flags(method)))) or 'those of its projector'}"
    return SlmlpError(f"slmlp {command} has no option {flag}{hint}; slmlp {command} --help explains all")
