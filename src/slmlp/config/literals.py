"""Values that are typed behind a name, ``setting=value``."""

from __future__ import annotations

import ast
from typing import Any


def literal(text: str) -> Any:
    """Return a number or truth value where the text is one, else the text.

    >>> literal("0.1"), literal("true"), literal("adamw")
    (0.1, True, 'adamw')
    """
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text
