"""Read the string under each setting from the source of its dataclass: the help text of ``--help`` and the pages."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any


@functools.cache
def sentences(kind: Any) -> dict[str, str]:
    """Return setting -> the string under it, or its metadata ``help``, in one line; base classes included.

    >>> from slmlp.config import Training
    >>> sentences(Training)["momentum"]
    'Momentum of `sgd` and `lars`.'
    """
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if named and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                assert isinstance(field, ast.AnnAssign)
                assert isinstance(field.target, ast.Name)
                texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts | {f.name: f.metadata["help"] for f in dataclasses.fields(kind) if "help" in f.metadata}
