"""The help of a command: ``--help`` is a screen with what matters, ``--help-all`` every setting in its group."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from slmlp.config.sentences import sentences
from slmlp.runtime.plain import plain

if TYPE_CHECKING:
    from slmlp.cli.parse import Option

ALL = "--help-all"
EVERYWHERE = "Everywhere: --config FILE.yaml, --json, --wide, -q, -v, --debug (docs/commands.md)."
OUTPUT = (
    "--config FILE.yaml takes settings from a file, --json prints one JSON document, --wide all columns of tables, -q "
    "or --quiet the answer and warnings only, -v or --verbose more, --debug the traceback of an error."
)
LEFT, BRIEF, LISTED = 26, 20, 6  # columns of flags; values of a default that are listed
KINDS = {int: "whole number", float: "number", str: "text", bool: "True|False"}


def brief(kind: type, name: str, known: Sequence[Option]) -> str:
    """Return a screen: what the command does, an example, the options that matter, where the others are."""
    first, example = _about(kind)
    main = [option for option in known if option.main] or list(known)
    shown = [option for option in known if option.positional or option in main or option.default is MISSING]
    lines = [_usage(name, known), "", *_wrapped(first), "", f"  {example or f'slmlp {name}'}", ""]
    left = min(BRIEF, 4 + max(len(option.flag) for option in shown))
    for option in shown:
        text = summary(option)
        lines += _entry(option.flag, _sentence(text, option), left)
    flags = sum(not option.positional for option in known)
    hidden = len(known) - len(shown)
    more = f"{ALL} explains all {flags} settings. " if hidden else ""
    return "\n".join([*lines, "", *_wrapped(more + EVERYWHERE)]) + "\n"


def full(kind: type, name: str, known: Sequence[Option]) -> str:
    """Return the help with every setting, in groups."""
    lines = [_usage(name, known), "", *_description(kind)]
    group: tuple[type, str] | None = None
    for option in known:
        title = option.path.rpartition(".")[0] or ("arguments" if option.positional else "options")
        if (option.owner, title) != group:
            group = (option.owner, title)
            lines += ["", f"{title.rpartition('.')[2].replace('_', ' ')}:"]
        lines += _entry(_spelled(option), _sentence(_explained(option), option))
    return "\n".join([*lines, "", *_wrapped(OUTPUT)]) + "\n"


def _usage(name: str, known: Sequence[Option]) -> str:
    required = [option for option in known if option.default is MISSING or option.positional]
    words = [
        option.flag if option.positional else f"{option.flag} {option.flag[2:].upper()}"
        for option in sorted(required, key=lambda option: not option.positional)
    ]
    return " ".join(["usage: slmlp", name, *words, "[OPTIONS]"])


def _about(kind: type) -> tuple[str, str]:
    """Return the first line of a command's docstring, and its first example."""
    text = kind.__doc__ or ""
    example = re.search(r"Example: `([^`]*)`", text)
    return text.partition("\n")[0], " ".join(example[1].split()) if example else ""


def _description(kind: type) -> list[str]:
    paragraphs = (kind.__doc__ or "").strip().split("\n\n")
    wrapped = [_wrapped(" ".join(paragraph.split())) for paragraph in paragraphs]
    return [line for lines in wrapped for line in ("", *lines)][1:]


def _sentence(text: str, option: Option) -> str:
    """Return a text with what the option is where nothing is given."""
    if option.default is MISSING:
        return text if option.positional else f"{text} (required)"
    usual = option.default
    said = usual in (None, (), "") or usual is False or option.positional
    return text if said else f"{text} (default: {rounded(usual)})"


def summary(option: Option) -> str:
    """Return what an option is in a few words."""
    return option.main or _first(_explained(option))


def _explained(option: Option) -> str:
    return plain(sentences(option.owner).get(option.field, ""))  # of a plug-in, which may say nothing


def _first(text: str) -> str:
    """Return the first sentence of a text, or what stands before its first semicolon."""
    return re.split(r"(?<=\w)[.;] |(?<=[)`])[.;] ", text)[0].rstrip(".")


def rounded(value: Any) -> str:
    """Return a default for readers.

    >>> rounded(3.1622776601683795e-06), rounded((0.05, 0.1)), rounded(True), rounded(tuple(range(15)))
    ('3.16e-06', '0.05 0.1', 'yes', '15 values, 0 to 14')
    """
    if isinstance(value, tuple):
        if len(value) > LISTED:
            return f"{len(value)} values, {rounded(value[0])} to {rounded(value[-1])}"
        return " ".join(map(rounded, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _spelled(option: Option) -> str:
    if option.positional:
        return option.flag
    if option.hint is bool:
        return f"{option.flag}, {option.negative}"
    return f"{option.flag} {_value(option)}"


def _value(option: Option) -> str:
    """Return what follows the flag."""
    from slmlp.cli.parse import alternatives

    if option.hint is bool:
        return ""
    words = [word for kind in alternatives(option.hint) if kind is not type(None) for word in _kind(kind)]
    return "|".join(words) if len(words) > 1 else f"<{words[0]}>"


def _kind(kind: Any) -> list[str]:
    """Return in words what a type takes.

    >>> _kind(int), _kind(Literal["a", "b"]), _kind(tuple[float, ...]), _kind(tuple[float, float])
    (['whole number'], ['a', 'b'], ['numbers'], ['2 numbers'])
    """
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return [str(choice) for choice in inner]
    if get_origin(kind) is tuple:
        if get_origin(inner[0]) is Literal:
            return [f"{choice} ..." for choice in ["|".join(_kind(inner[0]))]]
        several = {"text": "words"}.get(KINDS[inner[0]], f"{KINDS[inner[0]]}s")
        return [several if inner[-1] is Ellipsis else f"{len(inner)} {several}"]
    return [KINDS[kind]]


def _entry(flag: str, text: str, left: int = LEFT) -> list[str]:
    """Return the lines of one option: its flag, and what it is beside that or below."""
    lines = textwrap.wrap(text, _width() - left, break_on_hyphens=False) or [""]
    if len(flag) + 4 > left:
        return [f"  {flag}", *(" " * left + line for line in lines)]
    return [f"  {flag:<{left - 2}}{lines[0]}", *(" " * left + line for line in lines[1:])]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), break_on_hyphens=False)


def _width() -> int:
    return max(60, min(100, shutil.get_terminal_size().columns))
