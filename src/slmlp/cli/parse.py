"""Flags from typed dataclasses, through tyro: help texts are the sentences under the fields of ``config``."""

from __future__ import annotations

from typing import Any

import tyro


def parse(kind: Any, name: str, words: list[str]) -> Any:
    """Return an instance of ``kind``, or of what its ``for_words`` makes of the words, from a command's words."""
    choose = getattr(kind, "for_words", None)
    return tyro.cli(choose(words) if choose else kind, prog=f"slmlp {name}", args=words)
