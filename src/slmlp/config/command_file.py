"""Commands as YAML: what a run or a study was made by, ``command.yaml``, which ``--config`` takes again.

The file is a mapping from the names of flags to values, groups inside each other::

    command: pretrain
    data: /data/photos
    method: sl-mlp
    epochs: 100
    projector:
      depth: 1

It has every setting as it came to be on the data and the machine, but not where the result was put. A folder has one
such file: a command that adds to the folder of another leaves that one's alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

NAME = "command.yaml"
COMMAND = "command"  # the key that says of which command the settings are


@dataclass(frozen=True)
class Entry:
    """One setting of a file."""

    name: str  # of the flag: ``projector.depth``
    words: tuple[str, ...]  # the value as it is typed behind the flag
    where: str  # "my.yaml, line 3"


def write(folder: Path, command: str, values: Mapping[str, Any], *groups: Any) -> None:
    """Write ``command.yaml`` of a command: some values by name, and groups of settings whose flags have no prefix."""
    import yaml

    if _command_of(folder / NAME) not in (None, command):
        return
    content: dict[str, Any] = {COMMAND: command, **{_flag(name): _plain(value) for name, value in values.items()}}
    for group in groups:
        content |= nested(group)
    about = f"# again, elsewhere: slmlp {command} --config {NAME} --out FOLDER\n"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    files.write_text(folder / NAME, about + text)


def _command_of(file: Path) -> str | None:
    """Return the command that a file written here is of; None where there is none, or it is damaged."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.removeprefix(f"{COMMAND}: ") for line in lines if line.startswith(f"{COMMAND}: ")), None)


def nested(settings: Any) -> dict[str, Any]:
    """Return settings by the names of their flags; those that are None by themselves are left out.

    >>> from slmlp.config import Probe, Study
    >>> nested(Probe(l2=(0.1,), folds=3))["l2"], nested(Study())["probe"]["folds"], "threads" in nested(Study())
    ([0.1], 5, False)
    """
    content: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        none = value is None and field.default is None
        if none or field.metadata.get("hidden") or field.name in getattr(settings, "idle", ()):
            continue
        if not dataclasses.is_dataclass(value):
            content[_flag(field.name)] = _plain(value)
        elif field.metadata.get("flat"):
            content |= nested(value)
        else:
            content[_flag(field.name)] = nested(value)
    return content


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def read(path: Path, command: str) -> list[Entry]:
    """Return the settings of a file.

    Raises:
        SlmlpError: one line for a file that cannot be read, is no mapping, is of another command, names a setting
            twice, or has a value that no flag takes.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        entries = [] if node is None else list(_entries(loader, node, "", path))
    except OSError as error:
        raise SlmlpError(f"--config {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text in UTF-8"
        raise SlmlpError(f"--config {path}{where}: no YAML that can be read ({problem})") from error
    seen: dict[str, Entry] = {}
    for entry in entries:
        earlier = seen.setdefault(entry.name, entry)
        if earlier is not entry:
            raise SlmlpError(f"{entry.where}: {entry.name} stands there a second time (first: {earlier.where})")
    named = seen.pop(COMMAND, None)
    if named is not None and named.words != (command,):
        raise SlmlpError(f"{named.where}: these settings are of slmlp {' '.join(named.words)}, not of slmlp {command}")
    return list(seen.values())


def _entries(loader: Any, node: Any, prefix: str, path: Path) -> Iterator[Entry]:
    """Yield the settings of a mapping, and of those inside it."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise SlmlpError(f"{_where(path, node)}: expected settings, as `epochs: 10`, found something else")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise SlmlpError(f"{_where(path, key)}: expected the name of a setting")
        name = prefix + _flag(str(key.value)).removeprefix("--")
        if isinstance(value, yaml.MappingNode):
            yield from _entries(loader, value, f"{name}.", path)
            continue
        parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
        plain = not isinstance(value, yaml.SequenceNode) or value.tag == "tag:yaml.org,2002:seq"
        if not plain or not all(isinstance(part, yaml.ScalarNode) for part in parts):
            raise SlmlpError(f"{_where(path, value)}: {name} must be a value or a list of values")
        yield Entry(name, tuple(_word(loader.construct_object(part)) for part in parts), _where(path, key))


def _word(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _where(path: Path, node: Any) -> str:
    return f"--config {path}, line {node.start_mark.line + 1}"
