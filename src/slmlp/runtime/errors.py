"""The exception for a user's mistake, and messages that suggest the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SlmlpError(Exception):
    r"""Bad input; the message is one line with the file or setting, the expected and the actual value, and the fix.

    The command line prints it without a traceback and exits with code 2 (``--debug`` shows the traceback).

    >>> str(SlmlpError("the class 'a\nb' has one image"))
    "the class 'a\\nb' has one image"
    """

    def __init__(self, message: str) -> None:
        r"""Keep the message in one line: names from data may hold others, which are written as ``\n``."""
        super().__init__(message.replace("\r", "\\r").replace("\n", "\\n"))


def unknown(kind: str, name: str, choices: Iterable[str]) -> SlmlpError:
    """Return the error for a name that is not among ``choices``; it suggests the nearest ones.

    >>> str(unknown("method", "sl-mpl", ["sl", "sl-mlp"]))
    "unknown method 'sl-mpl': did you mean 'sl-mlp' or 'sl'? choices: sl, sl-mlp"
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return SlmlpError(f"unknown {kind} {name!r}:{hint} choices: {few(known, 20)}")


def few(names: Iterable[object], most: int = 5, between: str = ", ") -> str:
    """Return the first of some names, and how many there are where that is more.

    >>> few("abc"), few("abcdef", 3)
    ('a, b, c', 'a, b, c, ... (6 in all)')
    """
    words = list(map(str, names))
    return between.join([*words[:most], *([f"... ({len(words):,} in all)"] if len(words) > most else [])])
