"""Method specs of a study: ``sl-mlp``, or with settings behind colons: ``sl-mlp:projector.out=256:training.epochs=9``.

``my_method.py:Barlow`` is a class of the user's. ``NAME=`` before it names the contender, as in a suite. ``seeds=1``
gives a contender fewer seeds than the study.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slmlp import config
from slmlp.config.literals import literal
from slmlp.config.names import NAMES, display, named
from slmlp.runtime import files, plugins
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

    name: str  # as given, ``NAME=``, else the words the user typed, less the folder of a file
    method: str
    settings: config.MethodConfig
    training: dict[str, Any] = field(default_factory=dict)  # what differs from the study's
    most_seeds: int | None = None  # fewer seeds than the study's
    words: str = ""  # what the user typed, where it is not the name
    variant_of: Spec | None = None  # the contender that it is a choice of

    @property
    def text(self) -> str:
        """The words that ``parse`` takes."""
        return self.words or self.name

    @property
    def folder(self) -> str:
        """The name as part of a folder's name."""
        return folder_of(self.name)

    def run(self, seed: int) -> str:
        """Return the name of a final run's folder."""
        return f"{self.folder}-seed{seed}"

    def seeds(self, of_study: int) -> range:
        """Return its seeds in a study of ``of_study`` seeds."""
        return range(min(of_study, self.most_seeds or of_study))


def folder_of(name: str) -> str:
    """Return the name of a contender as part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-._=" else "_" for c in name)


def name_of(text: str) -> str:
    """Return the name of the contender that ``text`` gives, whose code need not be there."""
    title, what = named(text.strip())
    return title or plugins.short_name(what)


def contender_of(run: str, texts: Sequence[str]) -> str | None:
    """Return which contender a final run's folder is of, by its name."""
    start, _, seed = run.rpartition("-seed")
    names = (name_of(text) for text in texts)
    return next((name for name in names if seed.isdecimal() and start == folder_of(name)), None)


def parse(text: str) -> Spec:
    """Return the contender that ``text`` names.

    >>> parse("sl-mlp:projector.out=64").settings.projector.out, parse("narrow=sl-mlp:projector.out=64").name
    (64, 'narrow')
    """
    title, what = named(text.strip())
    if title in NAMES:
        raise SlmlpError(f"--methods {text}: {title} is the name of something else; give another one")
    method, assignments = plugins.split(what)
    preset = config.method_config(method)
    given: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SlmlpError(f"--methods {text}: expected name:setting=value, found {assignment!r}")
        room, _, name = key.rpartition(".")
        given.setdefault(room, {})[name] = literal(value)
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
        config.from_dict(type(replaced), files.as_json(dataclasses.asdict(replaced)))  # checks the types
        dataclasses.replace(config.Training(), **training)
    except SlmlpError as error:
        raise SlmlpError(f"--methods {text}: {error}") from error
    except TypeError as error:
        raise SlmlpError(f"--methods {text}: a value of the wrong type ({error})") from error
    name = name_of(text)
    words = f"{title}={what}" if title else what
    return Spec(name, method, replaced, training, seeds, words if name != words else "")


def _known(text: str, given: dict[str, Any], choices: list[str], kind: str) -> None:
    for key in given:
        if key not in choices:
            raise SlmlpError(f"--methods {text}: {unknown(kind, key, choices)}")


def variants(spec: Spec, vary: Sequence[str]) -> tuple[Spec, ...]:
    """Return a contender at every combination of the settings that ``--vary`` names; itself where it names none.

    ``NAME:`` before a setting says which contender it is varied of; the others stay as they are.

    >>> [one.name for one in variants(parse("sl"), ["label_smoothing=0,0.1", "sl-mlp:mixup=0,0.2"])]
    ['sl:label_smoothing=0', 'sl:label_smoothing=0.1']
    """
    choices = []
    for text in vary:
        of, key, values = _varied(text)
        if of in ("", spec.name):
            choices.append([f"{key}={value}" for value in values])
    if not choices:
        return (spec,)
    found = []
    for combination in itertools.product(*choices):
        words = ":".join(combination)
        title, what = named(spec.text)
        # a name that was given goes on with the choice, in the letters that a name may have
        named_so = f"{title} {' '.join(combination).replace('=', ' ')}=" if title else ""
        try:
            whole = parse(f"{named_so}{what}:{words}")
        except SlmlpError as error:
            raise SlmlpError(f"--vary {words} for {spec.name}: {error}") from error
        found.append(dataclasses.replace(whole, variant_of=spec))
    return tuple(found)


def _varied(text: str) -> tuple[str, str, list[str]]:
    """Return the contender, or none, the setting and the values of an element of ``--vary``."""
    key, equals, values = text.partition("=")
    if not equals or not all(values.split(",")):
        raise SlmlpError(f"--vary {text}: expected setting=value,value, as label_smoothing=0,0.1")
    of, _, name = key.rpartition(":")
    return of, name, values.split(",")


def candidates(cfg: config.Study) -> list[Spec]:
    """Return every contender of a study at every combination of the settings that are varied, none of which fails.

    Raises:
        SlmlpError: a contender, a combination, or a rate for one, that cannot be.
    """
    specs = parse_all(cfg.methods)
    names = [spec.name for spec in specs]
    for text in cfg.vary:
        of, _, _ = _varied(text)
        if of and of not in names:
            raise SlmlpError(f"--vary {text}: {unknown('contender', of, names)}")
    found = [one for spec in specs for one in variants(spec, cfg.vary)]
    check_training(found, cfg)
    return found


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
    shown: dict[str, Spec] = {}
    for spec in specs:
        other = shown.setdefault(display(spec.name), spec)
        if other is not spec:
            raise SlmlpError(
                f"--methods: {other.name} and {spec.name} are both shown as {display(spec.name)}; name one of them, as "
                f"mine={spec.text}"
            )
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


def without_projector(specs: Sequence[Spec]) -> dict[str, str | None]:
    """Return each contender without an MLP -> the one that differs by its projector alone, where there is one."""
    pairs = dict(mlp_pairs(specs))
    return {spec.name: pairs.get(spec.name) for spec in specs if spec.settings.projector.depth == 0}


def mlp_pairs(specs: Sequence[Spec]) -> list[tuple[str, str]]:
    """Return the (without, with) pairs of contenders that differ in their projector alone, one having no MLP.

    What ``--vary`` chose for each by itself may differ, as its rate may.
    """

    def rest(spec: Spec) -> tuple[object, ...]:
        spec = spec.variant_of or spec
        return type(spec.settings), dataclasses.replace(spec.settings, projector=config.Projector()), spec.training

    return [
        (a.name, b.name)
        for a in specs
        for b in specs
        if rest(a) == rest(b) and a.settings.projector.depth == 0 < b.settings.projector.depth
    ]
