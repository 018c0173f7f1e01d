"""Read the words of a command into its dataclass of settings, with argparse.

Each field of the dataclass is a flag, its string is the help text. A field that is itself a dataclass is a group:
``--probe.folds``; its flags have no prefix where the field's metadata is ``FLAT``. Only flags that were given replace a
setting, so the defaults may be those of a method or a recipe.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slmlp.runtime.errors import SlmlpError

if TYPE_CHECKING:
    from slmlp.config.command_file import Entry

_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # none inside the value of a setting, as in my_task.py:Mine:shares=(0.1,1)
NAMES = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Option:
    """One flag or positional argument of a command."""

    path: str
    """Names of the fields that lead to it, joined by dots."""
    flag: str
    """What the user types: ``--probe.folds``; of a positional argument its name in the usage: ``DATA``."""
    hint: Any
    default: Any
    """Its default, MISSING where it is required."""
    field: str
    owner: type
    """The dataclass of the field."""
    main: str
    """What ``--help`` says of it; nothing where only ``--help-all`` has it."""
    takes: str
    """What its value names, as ``cli.checks`` looks for it."""

    @property
    def positional(self) -> bool:
        """Whether it is given without a flag."""
        return not self.flag.startswith("--")

    def value(self, words: Sequence[str]) -> Any:
        """Parse the words as the option's value; raise SlmlpError where they are not one."""
        if self.takes in ("task", "task-beside"):  # by commas too, as methods are
            words = [name for word in words for name in _COMMA.split(word) if name]
        with contextlib.suppress(ValueError):
            return _value(self.hint, words)
        kinds = [kind for kind in alternatives(self.hint) if kind is not types.NoneType]
        expected = _listed([word for kind in kinds for word in _expected(kind)])
        raise SlmlpError(f"{self.flag} must be {expected}, found {' '.join(words)!r}")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let an argparse parser read its words; what they mean is left to ``value``."""
        if self.hint is bool:
            parser.add_argument(self.flag, dest=self.path, action="store_true")
            parser.add_argument(self.negative, dest=self.path, action="store_false")
        else:
            many = any(typing.get_origin(kind) is tuple for kind in alternatives(self.hint))
            parser.add_argument(self.flag, dest=self.path, nargs="*" if many else None)

    @property
    def negative(self) -> str:
        """The flag that sets a truth value to False: ``--projector.no-bias``."""
        prefix, dot, name = self.flag[2:].rpartition(".")
        return f"--{prefix}{dot}no-{name}"


def parse(kind: Any, name: str, words: list[str]) -> Any:
    """Return an instance of the dataclass ``kind`` with the settings that the words of the command ``name`` give.

    ``kind.defaults(words)``, where there is one, returns the instance whose values are the defaults. A field ``given``
    receives the options that the words name (flag -> value). With ``--help`` or
    ``--help-all`` the help is printed and SystemExit raised.

    Raises:
        SlmlpError: an option that the command does not have (the nearest ones are named, and those of the method), a
            value that an option does not take, or a required argument that is missing; one line each.
    """
    file, words = _config(words, name)
    named = [f"--{entry.name}={entry.words[0]}" for entry in file if len(entry.words) == 1]
    base = kind.defaults([*named, *words]) if hasattr(kind, "defaults") else kind
    known = list(options(base))
    if {"-h", "--help", "--help-all"} & set(words):
        from slmlp.cli.help import brief, full

        own = base if isinstance(base, type) else type(base)
        print((full if "--help-all" in words else brief)(own, name, known), end="")
        raise SystemExit(0)
    try:
        given = _read(base, name, known, words, _of_file(base, name, known, file))
    except SlmlpError as error:
        raise SlmlpError(f"{error}; slmlp {name} --help-all explains all") from None
    command = _replaced(base, given)
    if not hasattr(command, "given"):
        return command
    return dataclasses.replace(
        command, given={option.flag: given[option.path] for option in known if option.path in given}
    )


def options(settings: Any, prefix: str = "", path: str = "") -> Iterator[Option]:
    """Yield the options of a dataclass, or of an instance of one, whose values are then the defaults."""
    kind = settings if isinstance(settings, type) else type(settings)
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = _default(settings, field)
        if dataclasses.is_dataclass(default):
            inner = prefix if field.metadata.get("flat") else f"{prefix}{field.name}."
            yield from options(default, inner, f"{path}{field.name}.")
        elif not field.metadata.get("hidden"):
            flag = field.metadata.get("metavar") or f"--{prefix}{field.name}".replace("_", "-")
            said, takes = (field.metadata.get(key, "") for key in ("main", "takes"))
            yield Option(f"{path}{field.name}", flag, hints[field.name], default, field.name, kind, said, takes)


def _default(settings: Any, field: dataclasses.Field[Any]) -> Any:
    if not isinstance(settings, type):
        return getattr(settings, field.name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _config(words: list[str], name: str) -> tuple[list[Entry], list[str]]:
    """Return the settings of the file that ``--config`` names, and the other words."""
    from slmlp.config import command_file

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", nargs="?", default=None, const="")
    given, rest = parser.parse_known_args(words)
    if given.config is None:
        return [], words
    if not given.config:
        raise SlmlpError(f"--config needs a file of settings, as slmlp {name} --config my.yaml")
    return command_file.read(Path(given.config).expanduser(), name), rest


def _of_file(base: Any, name: str, known: Sequence[Option], entries: Sequence[Entry]) -> dict[str, Any]:
    """Return path -> value of the options that a file gives."""
    names = {_in_file(option): option for option in known}
    given = {}
    for entry in entries:
        option = names.get(entry.name)
        if option is None:
            near = difflib.get_close_matches(entry.name, names, n=3, cutoff=0.6)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise SlmlpError(f"{entry.where}: slmlp {name} has no setting {entry.name}{hint}")
        try:
            given[option.path] = option.value(entry.words)
        except SlmlpError as error:
            raise SlmlpError(f"{entry.where}: {error}") from None
    return given


def _in_file(option: Option) -> str:
    return option.field.replace("_", "-") if option.positional else option.flag[2:]


def _read(base: Any, name: str, known: Sequence[Option], words: list[str], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return path -> value of the options that the words give, and of a file those that they do not."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    for option in known:
        if not option.positional:
            option.add_to(parser)
    # a flag may be written with underscores
    words = [word.replace("_", "-", word.partition("=")[0].count("_")) if word[:2] == "--" else word for word in words]
    try:
        namespace, rest = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        missing = error.message.startswith("expected")
        raise SlmlpError(f"{error.argument_name} {'needs a value' if missing else error.message}") from None
    stray = next((word for word in rest if word.startswith("-")), None)
    given = vars(namespace)
    for option in known if stray is None else ():
        if option.positional and rest:
            count = len(rest) if typing.get_origin(option.hint) is tuple else 1
            given[option.path], rest = rest[:count], rest[count:]
    if rest:
        raise _unknown(base, name, known, stray or rest[0])
    by_path = {option.path: option for option in known}
    values = {
        path: words if isinstance(words, bool) else by_path[path].value([words] if isinstance(words, str) else words)
        for path, words in given.items()
    }
    values = {**file, **values}
    lacking = [option for option in known if option.default is MISSING and option.path not in values]
    if lacking:
        raise SlmlpError(f"slmlp {name} needs {_listed([_needed(option) for option in lacking], 'and')}")
    return values


def _needed(option: Option) -> str:
    choices = typing.get_args(option.hint) if typing.get_origin(option.hint) is Literal else ()
    return _listed(choices) if option.positional and choices else option.flag


def _unknown(base: Any, command: str, known: Sequence[Option], word: str) -> SlmlpError:
    flag = word.partition("=")[0]
    if not flag.startswith("-"):
        return SlmlpError(f"slmlp {command}: unexpected word {word!r}")
    flags = sorted(option.flag for option in known if not option.positional)
    near = difflib.get_close_matches(flag, flags, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if not isinstance(base, type) and hasattr(base, "settings"):
        own = sorted(option.flag for option in options(base.settings))
        hint += f"; the settings of this method are {', '.join(own)}"
    return SlmlpError(f"slmlp {command} has no option {flag}{hint}")


def _replaced(settings: Any, given: dict[str, Any]) -> Any:
    """Return the settings with values replaced; a dataclass with ``override`` (Projector) does that itself."""
    kind = settings if isinstance(settings, type) else type(settings)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inner = {path.partition(".")[2]: v for path, v in given.items() if path.startswith(f"{field.name}.")}
        if inner:
            changes[field.name] = _replaced(_default(settings, field), inner)
        elif field.name in given:
            changes[field.name] = given[field.name]
    if isinstance(settings, type):
        return settings(**changes)
    return settings.override(**changes) if hasattr(settings, "override") else dataclasses.replace(settings, **changes)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union; of another type itself alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _value(hint: Any, words: Sequence[str]) -> Any:
    """Parse words as a value of a type, or raise ValueError.

    >>> _value(int | Literal["auto"], ["auto"]), _value(tuple[float, ...], ["0.1", "1"]), _value(int | None, ["None"])
    ('auto', (0.1, 1.0), None)
    """
    kinds, inner = alternatives(hint), typing.get_args(hint)
    if len(kinds) > 1:
        for kind in sorted(kinds, key=lambda kind: kind is str):  # any word is a str: it is tried last
            with contextlib.suppress(ValueError):
                return _value(kind, words)
        raise ValueError
    if typing.get_origin(hint) is tuple:
        kinds = inner[:1] * len(words) if inner[-1] is Ellipsis else inner
        return tuple(_value(kind, [word]) for kind, word in zip(kinds, words, strict=True))
    (word,) = words
    named = {"None": None} if hint is types.NoneType else {"True": True, "False": False} if hint is bool else None
    if typing.get_origin(hint) is Literal:
        named = {str(choice): choice for choice in inner}
    if named is None:
        return hint(word)
    if word not in named:
        raise ValueError
    return named[word]


def _expected(kind: Any) -> list[str]:
    """Return the values that a type accepts, in words: ``a whole number``, ``3 numbers``, ``lars``, ``sgd``."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return sorted(map(str, inner))
    if typing.get_origin(kind) is tuple:
        plural = [f"{word.removeprefix('a ')}s" if word.startswith("a ") else word for word in _expected(inner[0])]
        return plural if inner[-1] is Ellipsis else [f"{len(inner)} {plural[0]}"]
    return ["True", "False"] if kind is bool else [NAMES[kind]]


def _listed(words: Sequence[str], last: str = "or") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
