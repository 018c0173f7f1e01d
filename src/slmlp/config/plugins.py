"""Methods and tasks by name: slmlp's own, a class of the user's file, or one that an installed package offers."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slmlp.config.literals import literal
from slmlp.config.methods import METHODS, MethodConfig, MethodEntry
from slmlp.config.parse import from_dict
from slmlp.config.projector import Projector
from slmlp.config.tasks import OFFERED, TASKS, Task
from slmlp.config.training import DataOptions, Training
from slmlp.runtime import plugins
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plugins import Plugin, Source

TYPES = "bool, int, float, str, Literal, a tuple or union of those, or slmlp.config.Projector"
OWN = (
    "data", "out", "dry_run", "overwrite", "method", "recipe", "resume", "split", "labels", "seed",
    "validation_fraction", "help", "debug",
)  # fmt: skip
FLAGS = {*OWN, *(field.name for kind in (Training, DataOptions) for field in dataclasses.fields(kind))}  # of pretrain
_tasks: dict[str, Task] = {}  # those of plug-ins that were named, by the name that results have


def method_entry(name: str) -> MethodEntry:
    """Return a method by name; the code of a plug-in is executed now.

    Raises:
        SlmlpError: one line for an unknown name, and for a plug-in that is none.
    """
    plugin = plugins.find("method", name, METHODS, _is_method)
    if plugin is None:
        return METHODS[name]
    kind = plugin.kind
    if not _is_method(kind):
        raise SlmlpError(f"{name} is no method: expected a class derived from slmlp.methods.base.Method")
    if inspect.isabstract(kind):
        raise SlmlpError(f"{name} lacks {', '.join(sorted(kind.__abstractmethods__))}, which every method needs")
    settings = _settings(name, kind, getattr(kind, "settings", MethodConfig()), MethodConfig)
    about = (inspect.getdoc(kind) or "").partition("\n")[0] if kind.__doc__ else ""
    return MethodEntry(
        f"{plugin.module}:{plugin.attribute}", settings, plugin.attribute, about, plugin.source.file, plugin.source
    )


def method_source(name: str) -> Source | None:
    """Return the file of a method's code with its hash; None where it is slmlp's own."""
    return method_entry(name).plugin


def method_config(
    name: str, overrides: Mapping[str, Any] | None = None, preset: MethodConfig | None = None
) -> MethodConfig:
    """Return the settings of a method by name, or ``preset`` in their place, with ``overrides`` of its projector."""
    preset = preset or method_entry(name).settings
    return dataclasses.replace(preset, projector=preset.projector.override(**overrides)) if overrides else preset


def load_tasks(words: Sequence[str], choices: Collection[str] = OFFERED) -> tuple[str, ...]:
    """Return tasks by the names that results have, each once; the code of plug-ins is executed now.

    Raises:
        SlmlpError: one line for a name that is not among the ``choices``, and for a plug-in that is none.
    """
    return tuple(dict.fromkeys(_load_task(word, choices) for word in words))


def task_entry(name: str) -> Task:
    """Return a task by the name that results have; a plug-in's must have been loaded."""
    return TASKS[name] if name in TASKS else _tasks[name]


def _load_task(words: str, choices: Collection[str]) -> str:
    name, assignments = plugins.split(words)
    if name in TASKS and name not in choices:
        raise unknown("task", name, choices)
    plugin = plugins.find("task", name, choices, _is_task)
    if plugin is None:
        if assignments:
            raise SlmlpError(f"--task {words}: {name} takes its settings as flags (--help lists them)")
        return name
    title = plugins.short_name(words)
    if title.split() != [title]:
        raise SlmlpError(f"--task {words}: the name of a task has no spaces")
    if not _is_task(plugin.kind):
        raise SlmlpError(
            f"{name} is no task: expected a class with task = slmlp.config.Task(TITLE, HELP, ...) and a function run"
        )
    known = _tasks.get(title)
    if known is not None and known.plugin is not None and known.plugin.source.file != plugin.source.file:
        raise SlmlpError(f"{plugin.source.file} and {known.plugin.source.file} are both called {title}: rename a class")
    preset = getattr(plugin.kind, "settings", None)
    settings = None if preset is None else _assigned(words, _settings(name, plugin.kind, preset, object), assignments)
    if settings is None and assignments:
        raise SlmlpError(f"--task {words}: {name} has no settings")
    _tasks[title] = dataclasses.replace(plugin.kind.task, plugin=plugin, own=settings)
    return title


def _assigned(words: str, settings: Any, assignments: Sequence[str]) -> Any:
    """Return settings with those that ``name=value`` gives."""
    given: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SlmlpError(f"--task {words}: expected FILE.py:CLASS:setting=value, found {assignment!r}")
        names = [field.name for field in dataclasses.fields(settings)]
        if key not in names:
            raise SlmlpError(f"--task {words}: {unknown('setting', key, names)}")
        given[key] = literal(value)
    try:
        kind: Any = type(settings)
        return from_dict(kind, json.loads(json.dumps({**dataclasses.asdict(settings), **given})))
    except SlmlpError as error:
        raise SlmlpError(f"--task {words}: {error}") from error


def _simple(hint: Any) -> bool:
    """Return whether a command line can give values of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType, tuple):
        return all(_simple(one) for one in inner if one is not Ellipsis)
    return origin is typing.Literal or hint in (bool, int, float, str, Projector, types.NoneType)


def _is_method(kind: Any) -> bool:
    """Return whether a class is a method; by name, since the class itself would bring torch."""
    return any((base.__module__, base.__qualname__) == ("slmlp.methods.base", "Method") for base in kind.__mro__[1:])


def _is_task(kind: Any) -> bool:
    return isinstance(getattr(kind, "task", None), Task) and callable(getattr(kind, "run", None))


def _settings(name: str, kind: Any, settings: Any, base: type) -> Any:
    """Return a plug-in's settings; SlmlpError unless they are of a dataclass that JSON can hold."""
    expected = "settings = Settings() of a frozen dataclass" + (
        " derived from slmlp.config.MethodConfig" if base is MethodConfig else ""
    )
    if isinstance(settings, type):
        raise SlmlpError(f"{name}: its settings are a class, expected an instance: settings = {settings.__name__}()")
    of: Any = type(settings)
    values: Any = settings
    if not hasattr(of, "__dataclass_fields__") or not isinstance(settings, base):
        raise SlmlpError(f"{name}: its settings are a {of.__name__}, expected {expected}")
    if "__dataclass_fields__" not in vars(of) or not of.__dataclass_params__.frozen:
        raise SlmlpError(f"{name}: {of.__name__} is no frozen dataclass: write @dataclass(frozen=True) above it")
    for field, hint in typing.get_type_hints(of).items():
        if field in {one.name for one in dataclasses.fields(of)} and not _simple(hint):
            raise SlmlpError(f"{name}: setting {field} is of type {hint}, expected {TYPES}")
        if base is MethodConfig and field in FLAGS:
            raise SlmlpError(f"{name}: setting {field} has the name of a flag of slmlp pretrain: give it another one")
    try:
        again = from_dict(of, json.loads(json.dumps(dataclasses.asdict(values))))
    except (SlmlpError, TypeError, ValueError, NameError) as error:
        raise SlmlpError(f"{name}: its settings cannot be saved and read again ({error})") from error
    if again != settings:
        raise SlmlpError(f"{name}: its settings change when they are saved and read again: {settings} to {again}")
    return settings


__all__ = ["Plugin", "Source", "load_tasks", "method_config", "method_entry", "method_source", "task_entry"]
