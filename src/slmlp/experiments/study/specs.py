"""Method specs of a study: ``sl-mlp``, or with settings behind colons: ``sl-mlp:projector.out=256:training.epochs=9``.

``NAME=`` before it names the contender, as in a suite. ``seeds=1`` gives a contender fewer seeds than the study.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slmlp import config
from slmlp.config.names import NAMES, named
from slmlp.runtime.errors import SlmlpError, unknown

# Settings of training that one contender may have of its own: its compute and its views, not the rate (that is chosen
# by the same rule for all) nor the data.
TRAINING = (
    "epochs", "augment", "local_crops", "local_size", "batch_size", "warmup_epochs", "weight_decay", "momentum",
    "optimizer", "nesterov", "schedule", "final_lr", "decay_norms_and_biases",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One contender: its name in every table, the method, its settings."""

    name: str  # as given, ``NAME=``, else the words the user typed
    method: str
    settings: config.MethodConfig
    training: dict[str, Any] = field(default_factory=dict)  # what differs from the study's
    most_seeds: int | None = None  # fewer seeds than the study's
    what: str = ""  # the words behind a name that was given

    @property
    def text(self) -> str:
        """The words that ``parse`` takes."""
        return f"{self.name}={self.what}" if self.what else self.name

    @property
    def folder(self) -> str:
        """The name as part of a folder's name."""
        return "".join(c if c.isalnum() or c in "-._=" else "_" for c in self.name)

    def run(self, seed: int) -> str:
        """Return the name of a final run's folder."""
        return f"{self.folder}-seed{seed}"

    def is_run(self, folder: str) -> bool:
        """Return whether a folder's name is that of one of its final runs."""
        start, _, seed = folder.rpartition("-seed")
        return start == self.folder and seed.isdecimal()

    def seeds(self, of_study: int) -> range:
        """Return its seeds in a study of ``of_study`` seeds."""
        return range(min(of_study, self.most_seeds or of_study))


def parse(text: str) -> Spec:
    """Return the contender that ``text`` names.

    >>> parse("sl-mlp:projector.out=64").settings.projector.out, parse("narrow=sl-mlp:projector.out=64").name
    (64, 'narrow')
    """
    title, what = named(text.strip())
    if title in NAMES:
        raise SlmlpError(f"--methods {text}: {title} is the name of something else; give another one")
    method, *assignments = what.split(":")
    preset = config.method_config(method)
    given: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SlmlpError(f"--methods {text}: expected name:setting=value, found {assignment!r}")
        room, _, name = key.rpartition(".")
        given.setdefault(room, {})[name] = _value(value)
    training = given.pop("training", {})
    _known(text, training, list(TRAINING), "training setting of one method")
    settings = given.pop("", {})
    seeds = settings.pop("seeds", None)
    if seeds is not None and (not isinstance(seeds, int) or seeds < 1):
        raise SlmlpError(f"--methods {text}: seeds must be a number of at least 1, found {seeds!r}")
    rooms = {f.name for f in dataclasses.fields(preset) if isinstance(getattr(preset, f.name), config.Projector)}
    _known(text, given, sorted(rooms), "group of settings")
    _known(text, settings, [f.name for f in dataclasses.fields(preset) if f.name not in rooms], f"setting of {method}")
    for room, values in given.items():
        _known(text, values, [f.name for f in dataclasses.fields(config.Projector)], f"{room} setting")
        settings[room] = getattr(preset, room).override(**values)
    try:
        replaced = dataclasses.replace(preset, **settings)
        dataclasses.replace(config.Training(), **training)
    except SlmlpError as error:
        raise SlmlpError(f"--methods {text}: {error}") from error
    except TypeError as error:
        raise SlmlpError(f"--methods {text}: a value of the wrong type ({error})") from error
    return Spec(title or what, method, replaced, training, seeds, what if title else "")


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
    folders: dict[str, Spec] = {}
    for spec in specs:
        other = folders.setdefault(spec.folder, spec)
        if other is not spec:
            raise SlmlpError(f"--methods: the runs of {other.name} and {spec.name} would share a folder; name one anew")
    return specs


def check_training(specs: Sequence[Spec], cfg: config.Study) -> None:
    """Raise SlmlpError where a contender's own settings of training, or the rates tried, cannot be."""
    for spec in specs:
        for rate in cfg.grid:
            try:
                training = dataclasses.replace(cfg.training, **spec.training, base_lr=rate)
                config.check_parts(spec.method, spec.settings, training.accumulate)
            except SlmlpError as error:
                raise SlmlpError(f"--methods {spec.name} at rate {rate:g} (--rates): {error}") from error


def mlp_pairs(specs: Sequence[Spec]) -> list[tuple[str, str]]:
    """Return the (without, with) pairs of contenders that differ in their projector alone, one having no MLP."""

    def rest(spec: Spec) -> tuple[object, ...]:
        return type(spec.settings), dataclasses.replace(spec.settings, projector=config.Projector()), spec.training

    return [
        (a.name, b.name)
        for a in specs
        for b in specs
        if rest(a) == rest(b) and a.settings.projector.depth == 0 < b.settings.projector.depth
    ]
