"""Code of the user's: a class of a file, as ``my_method.py:Barlow``, or of an installed package, by its entry point.

A command reads a file once: the text that is hashed is the text that runs, here and in its worker processes, whatever
is written into the file meanwhile. Nothing is executed until the class is asked for.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import linecache
import sys
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import short

Kind = Literal["method", "task"]
GROUPS: dict[Kind, str] = {"method": "slmlp.methods", "task": "slmlp.tasks"}
_held: dict[str, bytes] = {}  # file -> its text, as this command uses it


@dataclass(frozen=True)
class Source:
    """The file of a plug-in's code, and the hash of its text."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Plugin:
    """A class of the user's, loaded."""

    name: str
    """As results and pages have it: ``my_method.py:Barlow`` without its folder, or the name of an entry point."""
    source: Source
    module: str
    attribute: str

    @property
    def kind(self) -> Any:
        """The class."""
        return getattr(sys.modules[self.module], self.attribute)


def split(words: str) -> tuple[str, list[str]]:
    """Return what is named, and the settings behind it.

    >>> split("sl:cosine=true"), split("../my_method.py:Barlow:off_diagonal=0.01")
    (('sl', ['cosine=true']), ('../my_method.py:Barlow', ['off_diagonal=0.01']))
    """
    first, *rest = words.split(":")
    return (f"{first}:{rest[0]}", rest[1:]) if first.endswith(".py") and rest else (first, rest)


def is_file(name: str) -> bool:
    """Return whether a name is that of a file's class, or of a file."""
    return name.partition(":")[0].endswith(".py")


def short_name(words: str) -> str:
    """Return words without the folder of a file: a place on one machine is no name.

    >>> short_name("../mine/my_method.py:Barlow:off_diagonal=0.01"), short_name("sl")
    ('my_method.py:Barlow:off_diagonal=0.01', 'sl')
    """
    file, colon, rest = words.partition(":")
    return Path(file).name + colon + rest if is_file(words) else words


def absolute(name: str) -> str:
    """Return the name with the place of its file written out, so that it means the same from any folder."""
    file, colon, attribute = name.partition(":")
    return str(Path(file).expanduser().resolve()) + colon + attribute if is_file(name) else name


def forget() -> None:
    """Read every file anew where it is named next: a new command begins."""
    _held.clear()


def held() -> dict[str, bytes]:
    """Return the files that this command has read, with the text of each."""
    return dict(_held)


def hold(of_command: Mapping[str, bytes]) -> None:
    """Take these files with these texts: those of the command that this process works for."""
    _held.update(of_command)


def text(source: Source) -> bytes:
    """Return the text of a plug-in that was loaded."""
    return _held[source.file] if source.file in _held else Path(source.file).read_bytes()


def installed(kind: Kind) -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Return what installed packages offer, by name; none of it is imported."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=GROUPS[kind]):
        found.setdefault(point.name, []).append(point)
    return found


def package(point: importlib.metadata.EntryPoint) -> str:
    """Return the name and version of the package of an entry point."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def find(kind: Kind, name: str, own: Collection[str], fits: Callable[[Any], bool]) -> Plugin | None:
    """Return the plug-in of a name, or None where the name is slmlp's own.

    Args:
        kind: what it must be.
        name: ``FILE.py:CLASS``, or a name that an installed package offers.
        own: slmlp's own names.
        fits: whether a class is of the kind; those that are, are named where the one asked for is missing.

    Raises:
        SlmlpError: one line for a file that is missing or does not import, a class that is missing, a name that two
            offer, and an unknown name.
    """
    if is_file(name):
        return _of_file(kind, name, fits)
    points = installed(kind).get(name, [])
    if name in own:
        if points:
            raise SlmlpError(
                f"{kind} {name!r} is slmlp's own, and the package {package(points[0])} offers another under that name: "
                "uninstall the package, or let it take another name"
            )
        return None
    if not points:
        error = unknown(kind, name, [*own, *installed(kind)])
        raise SlmlpError(f"{error}; a {kind} of your own is FILE.py:CLASS")
    if len(points) > 1:
        both = " and ".join(sorted(package(point) for point in points))
        raise SlmlpError(f"{kind} {name!r} is offered by the packages {both}: uninstall one of them")
    return _of_package(kind, name, points[0])


def _of_file(kind: Kind, name: str, fits: Callable[[Any], bool]) -> Plugin:
    place, _, attribute = name.partition(":")
    path = Path(place).expanduser().resolve()
    if str(path) not in _held:
        if not path.is_file():
            raise SlmlpError(f"{name}: no file {path}; expected FILE.py:CLASS, the file as seen from this folder")
        _held[str(path)] = path.read_bytes()
    text = _held[str(path)]
    digest = files.sha256(text)
    module = _executed(path, text, f"slmlp_plugin_{path.stem}_{digest[:16]}")
    there = sorted(n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__)
    fitting = [n for n in there if fits(getattr(module, n))]
    if not attribute.isidentifier():
        choices = " or ".join(f"{place}:{n}" for n in fitting) or f"a class of {place} that is a {kind} (it has none)"
        raise SlmlpError(f"{name} names no class: give {choices}")
    if not inspect.isclass(getattr(module, attribute, None)):
        error = unknown(f"class of {path.name}", attribute, fitting or there)
        raise SlmlpError(f"{error}" if there else f"{name}: {path} defines no class")
    return Plugin(short_name(name), Source(str(path), digest), module.__name__, attribute)


def _executed(path: Path, text: bytes, name: str) -> types.ModuleType:
    """Return the module of a file; files beside it can be imported as in a script."""
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    lines = text.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[str(path)] = (len(text), None, lines, str(path))  # for tracebacks and the sentences under settings
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102  the user named the file
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SlmlpError(f"{_where(path, error)}: {type(error).__name__}: {short(error)}") from error
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _where(path: Path, error: BaseException) -> str:
    """Return the file with the line that an error came from: the last one in it, or that of a word out of place."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}, line {line}" if line else str(path)


def _of_package(kind: Kind, name: str, point: importlib.metadata.EntryPoint) -> Plugin:
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:
        raise SlmlpError(
            f"{kind} {name!r} of the package {package(point)} cannot be imported from {point.value}: "
            f"{type(error).__name__}: {short(error)}"
        ) from error
    if not inspect.isclass(loaded):
        raise SlmlpError(f"{kind} {name!r} of the package {package(point)}: {point.value} is no class")
    path = Path(str(sys.modules[point.module].__file__))
    return Plugin(name, Source(str(path), files.sha256(path.read_bytes())), point.module, point.attr)
