"""Text for the terminal: names from data and other libraries' messages, without codes that act on it."""

from __future__ import annotations

import re

# control characters but newline and tab, and marks that turn the direction of writing
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_UNPRINTABLE = re.compile(f"{_ACTING.pattern}|[\ud800-\udfff]")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")


def plain(text: str) -> str:
    r"""Return text whose acting characters are written out, so that a name cannot clear or recolour a terminal.

    >>> plain("a\x1b[2Jb\u202egnp.jpg")
    'a\\x1b[2Jb\\u202egnp.jpg'
    """
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be printed
    return _ACTING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def plain_json(text: str) -> str:
    r"""Return JSON whose acting characters, and halves of surrogate pairs, are JSON's own escapes.

    >>> plain_json('{"name": "b\u202egnp.jpg"}')
    '{"name": "b\\u202egnp.jpg"}'
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return "1 class", "1,234 classes"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short(error: object, limit: int = 200) -> str:
    r"""Return a library's message in one line of at most ``limit`` characters, cut between words, without colours.

    >>> short("\x1b[31mRuntimeError\x1b[0m:\n  sizes must match, but found 3 and 4", 42)
    'RuntimeError: sizes must match, but ...'
    """
    words = _COLOURS.sub("", str(error)).split()
    text = " ".join(words) or type(error).__name__
    if len(text) <= limit:
        return text
    return text[: limit - 3].rpartition(" ")[0] + " ..." if " " in text[: limit - 3] else text[: limit - 3] + "..."
