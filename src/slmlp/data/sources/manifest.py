"""Parse manifests: CSV, TSV or JSON lines with columns path, label[, part, superclass, group]."""

from __future__ import annotations

import csv
import io
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slmlp.data.sources.layout import PARTS, UNLABELLED, settle_parts
from slmlp.data.sources.table import Row
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.files import parse_json_object

SUFFIXES = (".csv", ".tsv", ".jsonl")
REQUIRED = ("path", "label")


class ListedFile(NamedTuple):
    """A file that a manifest lists."""

    id: str  # normalised path, relative to the manifest's folder if below it
    size: int  # bytes
    problem: str | None = None  # why it cannot be read
    stamp: str = ""  # changes when the file is replaced


Locate = Callable[[str], ListedFile]


def parse(
    content: bytes, name: str, locate: Locate, *, labelled: bool = True, separator: str | None = None
) -> tuple[list[Row], list[ListedFile]]:
    """Return the rows of a manifest and the file of each row.

    ``name`` is the manifest's, for its suffix and for errors; ``locate`` looks up a path. Lists of labels in JSON lines
    become one class name: sorted, with ``separator`` between them.

    Raises:
        SlmlpError: a missing column, path, label or part, an unknown part, or a repeated path; names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SlmlpError(f"{name} is not UTF-8 text (see byte {error.start}): save it as UTF-8") from error
    records = list(_records(text, name, REQUIRED if labelled else REQUIRED[:1]))
    if not records:
        raise SlmlpError(f"{name} lists no images: expected lines below the header {','.join(REQUIRED)}")
    words = [_value(record, "part") for _, record in records]
    part_of = _parts(words, [line for line, _ in records], name)
    rows: list[Row] = []
    files: list[ListedFile] = []
    lines: dict[str, int] = {}
    for (line, record), word in zip(records, words, strict=True):
        path = _required(record, "path", line, name)
        if isinstance(record.get("label"), list):
            record["label"] = _joined(record["label"], separator, line, name)
        label = _required(record, "label", line, name) if labelled else UNLABELLED
        file = locate(path)
        if file.id in lines:
            raise SlmlpError(f"{name} lists {path!r} twice, in lines {lines[file.id]} and {line}: keep one of them")
        lines[file.id] = line
        part = None if word is None else part_of[word]
        superclass, group = _value(record, "superclass"), _value(record, "group")
        rows.append(Row(file.id, label, file.size, part, superclass, group, file.problem))
        files.append(file)
    return rows, files


def in_folder(folder: Path) -> Locate:
    """Return a function that looks up paths of a manifest in ``folder``; ids are relative to it where possible."""

    def locate(path: str) -> ListedFile:
        tidy = posixpath.normpath(path)
        name = tidy.removeprefix(f"{folder.as_posix()}/")
        try:
            status = (folder / tidy).stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            return ListedFile(name, 0, getattr(error, "strerror", None) or str(error))
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return ListedFile(name, 0, "no file")
        return ListedFile(name, status.st_size, None, f"{status.st_size}.{status.st_mtime_ns}")

    return locate


def _records(text: str, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, record) of every line that is not blank."""
    if name.endswith(".jsonl"):
        yield from _json_records(text, name)
        return
    delimiter = "\t" if name.endswith(".tsv") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in reader.fieldnames or []]
        missing = [column for column in required if column not in header]
        if missing:
            raise SlmlpError(
                f"{name}, line 1: column {missing[0]!r} is missing: expected path,label and, if wanted, part,"
                f"superclass,group, found {','.join(header) or 'nothing'}"
            )
        reader.fieldnames = header
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise SlmlpError(f"{name}, at or after line {reader.line_num}: {error}: mend the quotes there") from error


def _json_records(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place, expected = f"{name}, line {number}", 'an object {"path": ..., "label": ...}'
            yield number, parse_json_object(line, place, "mend that line", expected)


def _value(record: dict[str, Any], column: str) -> str | None:
    """Return a value as text, unstripped; None if it is missing or blank."""
    value = record.get(column)
    text = None if value is None else str(value)
    return text if text and text.strip() else None


def _joined(labels: list[Any], separator: str | None, line: int, name: str) -> str:
    """Return an image's labels as one class name; no labels give the separator alone."""
    if separator is None:
        raise SlmlpError(
            f"{name}, line {line}: label is a list, {labels!r:.60}: for multilabel data pass --label-separator '|'"
        )
    words = sorted({str(label) for label in labels})
    wrong = next((word for word in words if separator in word), None)
    if wrong is not None:
        raise SlmlpError(f"{name}, line {line}: label {wrong!r} holds the separator {separator!r}: choose another one")
    return separator.join(words) if words else separator


def _required(record: dict[str, Any], column: str, line: int, name: str) -> str:
    value = _value(record, column)
    if value is None:
        raise SlmlpError(f"{name}, line {line}: the {column} is missing: every line needs path and label")
    return value


def _parts(words: list[str | None], lines: list[int], name: str) -> dict[str, str | None]:
    """Return word -> part for the words of the part column; check that all lines have one, or none."""
    values = {word for word in words if word is not None}
    if not values:
        return {}
    for word, line in zip(words, lines, strict=True):
        if word is None or word.lower() not in PARTS:
            value = "nothing" if word is None else repr(word)
            raise SlmlpError(f"{name}, line {line}: part must be one of {', '.join(PARTS)}, found {value}")
    return settle_parts(sorted(values), name)
