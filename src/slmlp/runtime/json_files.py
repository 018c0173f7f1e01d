"""Read and write JSON files: sealed with a checksum where numbers come from them, and read into their own type.

A sealed object has a field ``sha256``, of all its other fields. Reading compares it, so that a flipped bit or a cut is
never read as another number; a file without one (written by hand, or by another program) is taken as it is.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, is_typeddict

import msgspec

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.progress import warn

T = TypeVar("T")
SEAL = "sha256"
RESTORE = "restore it, or remove it and run again"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of JSON with its checksum as last field."""
    body = {key: value for key, value in content.items() if key != SEAL}
    return {**body, SEAL: files.hash_json(body)}


def unsealed(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return an object without its checksum; None where that does not agree with the rest."""
    if SEAL not in content:
        return content
    body = {key: value for key, value in content.items() if key != SEAL}
    try:
        return body if content[SEAL] == files.hash_json(body) else None
    except ValueError:  # NaN, which no file of ours holds
        return None


def write(path: Path, content: Any, *, seal: bool = False) -> None:
    """Write indented JSON atomically; raise ValueError for NaN, which JSON does not allow."""
    content = sealed(files.as_json(content)) if seal else content
    files.write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read(path: Path, kind: type[T], fix: str = RESTORE) -> T:
    """Return the content of a JSON file as ``kind``: a dataclass, a TypedDict, ``dict[str, float]`` ...

    Raises:
        SlmlpError: a file that is missing, no JSON, changed since it was sealed, or of another form.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlmlpError(f"cannot read {path}: {error.strerror or error}") from error
    value = parse(content, str(path), fix)
    try:
        files.canonical(value)
    except ValueError as error:  # 1e999
        raise SlmlpError(f"{path} holds a number that is not finite; {fix}") from error
    if isinstance(value, dict):
        value = unsealed(value)
        if value is None:
            raise SlmlpError(
                f"{path} was changed or damaged since it was written (its sha256 does not agree): {fix}; where the "
                "change is your own, take the line sha256 out"
            )
    return convert(value, kind, str(path), fix)


def convert(value: Any, kind: type[T], name: str, fix: str) -> T:
    """Return a value of JSON as ``kind``; raise SlmlpError, which names the field, where it is of another form."""
    try:
        converted = msgspec.convert(value, kind)
        return value if is_typeddict(kind) else converted  # with fields not in the type
    except msgspec.ValidationError as error:
        raise SlmlpError(f"{name} has another form than slmlp writes ({_plain(error)}); {fix}") from error
    except SlmlpError as error:  # a dataclass that checks its own values
        raise SlmlpError(f"{name}: {error}; {fix}") from error


def parse(content: str | bytes, name: str, fix: str, *, nan: bool = False) -> Any:
    """Return the value of JSON text; broken text is one clear line that ends with ``fix``, what to do about it.

    NaN and Infinity, which are no JSON but which some programs write, are refused unless ``nan`` lets them through.
    """
    try:
        # json itself would let half of a surrogate pair pass in bytes
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        value = json.loads(text, parse_constant=None if nan else _no_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return value
    except RecursionError as error:
        raise SlmlpError(f"{name} is nested too deep to be read; {fix}") from error
    except ValueError as error:
        raise SlmlpError(f"{name} is not valid JSON ({error}); {fix}") from error


def parse_object(content: str | bytes, name: str, fix: str, expected: str, *, nan: bool = False) -> dict[str, Any]:
    """Return the object of JSON text; any other value is one clear line that says what was ``expected``."""
    parsed = parse(content, name, fix, nan=nan)
    if not isinstance(parsed, dict):
        raise SlmlpError(f"{name}: expected {expected}, found {parsed!r:.60}")
    return parsed


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def append(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append objects as sealed lines: all of them or, on a full disk, none.

    An exclusive lock keeps lines of several writers apart. If a kill left an incomplete last line, a newline is added
    first.
    """
    text = "".join(line(row) for row in rows).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            torn = False
            if size:
                file.seek(size - 1)
                torn = file.read(1) != b"\n"
            try:
                _write_all(file.fileno(), (b"\n" if torn else b"") + text)
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise
    except OSError as error:
        raise SlmlpError(f"cannot append to {path}: {error.strerror or error}; nothing was added") from error


def line(row: Mapping[str, Any]) -> str:
    """Return an object as a sealed line of JSON, with its newline."""
    return files.canonical(sealed(row)) + "\n"


def read_lines(path: Path, kind: type[T], newest: int | None = None) -> list[T]:
    """Return the lines of a file of JSON lines as ``kind``; none where there is no file.

    Lines that are damaged or incomplete (a kill during a write) are left out; a line on stderr says which.

    Raises:
        SlmlpError: the file cannot be read, or a line has a ``schema`` above ``newest``: a newer slmlp wrote it.
    """
    if not path.exists():
        return []
    rows: list[T] = []
    bad: list[int] = []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlmlpError(f"cannot read {path}: {error.strerror or error}") from error
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            row = unsealed(parse_object(text, str(path), "", "an object"))
            if row is None:
                raise SlmlpError("its checksum does not agree")
            newer = row.get("schema")
            if newest is None or not isinstance(newer, int) or newer <= newest:
                rows.append(convert(row, kind, str(path), ""))
                continue
        except SlmlpError:
            bad.append(number)
            continue
        raise SlmlpError(f"{path} was written by a newer slmlp (schema {newer}, this one reads {newest}): update slmlp")
    if bad:
        warn(f"{path}: {len(bad)} damaged or incomplete lines are not used (line {few(bad)})")
    return rows


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _plain(error: Exception) -> str:
    """Return msgspec's words with the place as people write it: ``resolved.steps``."""
    return " ".join(str(error).replace("`$.", "`").replace("`$", "`whole file").split())
