"""Method specs of a study: ``sl-mlp`` or ``sl-mlp:projector.out=256:label_smoothing=0.1``."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from typing import Any

from slmlp import config
from slmlp.errors import SlmlpError, unknown


@dataclass(frozen=True)
class Spec:
    """One contender: the words the user typed (its name in every table), the method, its settings."""

    name: str
    method: str
    settings: config.MethodConfig

    @property
    def folder(self) -> str:
        """The name as part of a folder's name."""
        return "".join(c if c.isalnum() or c in "-._=" else "_" for c in self.name)


def parse(text: str) -> Spec:
    """Return the contender that ``text`` names.

    >>> parse("sl-mlp:projector.out=64").settings.projector.out
    64
    """
    method, *assignments = text.strip().split(":")
    preset = config.method_config(method)
    projector: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SlmlpError(f"--methods {text}: expected name:setting=value, found {assignment!r}")
        if key.startswith("projector."):
            projector[key.removeprefix("projector.")] = _value(value)
        else:
            settings[key] = _value(value)
    _known(text, projector, [f.name for f in dataclasses.fields(config.Projector)], "projector setting")
    _known(
        text, settings, [f.name for f in dataclasses.fields(preset) if f.name != "projector"], f"setting of {method}"
    )
    result = dataclasses.replace(preset, projector=preset.projector.override(**projector), **settings)
    return Spec(text.strip(), method, result)


def _known(text: str, given: dict[str, Any], choices: list[str], kind: str) -> None:
    for key in given:
        if key not in choices:
            raise SlmlpError(f"--methods {text}: {unknown(kind, key, choices)}")


def _value(text: str) -> Any:
    """Return a number or truth value where the text is one, else the text."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text


def parse_all(texts: tuple[str, ...]) -> tuple[Spec, ...]:
    """Return the contenders of ``--methods``: separated by commas or given one by one, each once."""
    names = [name for text in texts for name in text.split(",") if name.strip()]
    specs = tuple(parse(name) for name in names)
    if not specs:
        raise SlmlpError("--methods names no method; give for example sl,sl-mlp")
    repeated = {s.name for s in specs if sum(s.name == t.name for t in specs) > 1}
    if repeated:
        raise SlmlpError(f"--methods names {', '.join(sorted(repeated))} more than once")
    return specs
