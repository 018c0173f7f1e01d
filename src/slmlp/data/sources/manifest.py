"""Parse manifests: CSV, TSV or JSON lines with columns path, label[, part, superclass, group] (see ``columns``)."""

from __future__ import annotations

import csv
import io
import posixpath
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slmlp.data.sources import missing
from slmlp.data.sources.columns import check_part_columns, roles
from slmlp.data.sources.layout import UNLABELLED
from slmlp.data.sources.parts import part_kind, parts_of_words, said
from slmlp.data.sources.row import Row
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.json_files import parse_object

SUFFIXES = (".csv", ".tsv", ".jsonl")
REQUIRED = ("path", "label")
MANY = 100  # values of a column: more are no parts


class ListedFile(NamedTuple):
    """A file that a manifest lists."""

    id: str  # normalised path, relative to the manifest's folder if below it
    size: int  # bytes
    problem: str | None = None  # why it cannot be read
    stamp: str = ""  # changes when the file is replaced


class Manifest(NamedTuple):
    """The rows of a manifest, the file of each row, and notes on its columns."""

    rows: list[Row]
    files: list[ListedFile]
    notes: list[str]


Locate = Callable[[str], ListedFile]
Records = list[tuple[int, dict[str, Any]]]


def parse(
    content: bytes, name: str, locate: Locate, *, labelled: bool, separator: str | None, parts: Sequence[str]
) -> Manifest:
    """Return what a manifest lists.

    ``name`` is the manifest's, for its suffix and for errors; ``locate`` looks up a path. Lists of labels in JSON lines
    become one class name: sorted, with ``separator`` between them. ``parts`` are the words of ``--parts``.

    Raises:
        SlmlpError: a missing column, path, label or part, an unknown part, a line of too many fields, or a repeated
            path; names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SlmlpError(f"{name} is not UTF-8 text (see byte {error.start}): save it as UTF-8") from error
    required = REQUIRED if labelled else REQUIRED[:1]
    records, notes = (_json_records if name.endswith(".jsonl") else _csv_records)(text, name, required)
    if not records:
        raise SlmlpError(f"{name} lists no images: expected lines below the header {','.join(REQUIRED)}")
    part_of = _parts(records, parts, name)
    rows: list[Row] = []
    files: list[ListedFile] = []
    lines: dict[str, int] = {}
    for line, record in records:
        path = _required(record, "path", line, name)
        if isinstance(record.get("label"), list):
            record["label"] = _joined(record["label"], separator, line, name)
        label = _required(record, "label", line, name) if labelled else UNLABELLED
        file = locate(path)
        if file.problem and path != path.strip():  # a blank after the comma
            file = locate(path.strip())
        if file.id in lines:
            raise SlmlpError(f"{name} lists {path!r} twice, in lines {lines[file.id]} and {line}: keep one of them")
        lines[file.id] = line
        part, superclass, group = (
            _value(record, key, f"{name}, line {line}") for key in ("part", "superclass", "group")
        )
        rows.append(Row(file.id, label, file.size, part_of.get(part or ""), superclass, group, file.problem))
        files.append(file)
    return Manifest(rows, files, notes + said(part_of))


def in_folder(folder: Path) -> Locate:
    """Return a function that looks up paths of a manifest in ``folder``; ids are relative to it where possible."""

    def locate(path: str) -> ListedFile:
        tidy = posixpath.normpath(path)
        try:
            if "\\" in tidy and not (folder / tidy).exists():
                tidy = of_windows(tidy)
            name = tidy.removeprefix(f"{folder.as_posix()}/")
            status = (folder / tidy).stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = getattr(error, "strerror", None) or str(error)
            return ListedFile(tidy, 0, missing.problem(path, why, folder))
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return ListedFile(name, 0, "no file")
        return ListedFile(name, status.st_size, None, f"{status.st_size}.{status.st_mtime_ns}")

    return locate


def of_windows(path: str) -> str:
    """Return a path that was written on Windows, with its steps divided by ``/``."""
    return posixpath.normpath(path.replace("\\", "/"))


def _csv_records(text: str, name: str, required: Sequence[str]) -> tuple[Records, list[str]]:
    """Return (line number, record by role) of every line that is not blank, and notes on the columns."""
    delimiter = "\t" if name.endswith(".tsv") else _delimiter(text)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in reader.fieldnames or []]
        chosen, notes = roles(header, required, f"{name}, line 1")
        reader.fieldnames = header
        records: Records = []
        unused = {} if "part" in chosen else {column: set[Any]() for column in header if column not in chosen.values()}
        for record in reader:
            surplus: Any = record.get(None)  # where DictReader keeps them
            if surplus and any(field.strip() for field in surplus):
                raise SlmlpError(
                    f"{name}, line {reader.line_num}: {len(header) + len(surplus)} fields where the header has "
                    f"{len(header)}: put a value that holds {delimiter!r} in quotes"
                )
            records.append((reader.line_num, {role: record[column] for role, column in chosen.items()}))
            _note_values(unused, record)
        check_part_columns(unused, name)
    except csv.Error as error:
        raise SlmlpError(f"{name}, at or after line {reader.line_num}: {error}: mend the quotes there") from error
    return records, notes


def _note_values(unused: dict[str, set[Any]], record: Mapping[str, Any]) -> None:
    """Add a record's values to those of columns that nobody reads; a column of many values is let go."""
    for column in list(unused):
        value = record.get(column)
        unused[column].add(value if isinstance(value, str | int | float | bool | None) else str(value))
        if len(unused[column]) > MANY:
            del unused[column]


def _delimiter(text: str) -> str:
    """Return what divides the columns of the header: a comma, or what spreadsheets write in its place."""
    header = text.partition("\n")[0]
    return "," if "," in header else next((mark for mark in ";\t" if mark in header), ",")


def _json_records(text: str, name: str, required: Sequence[str]) -> tuple[Records, list[str]]:
    """Return (line number, record by role) of every line that is not blank, and notes on the names used."""
    found: Records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place, expected = f"{name}, line {number}", 'an object {"path": ..., "label": ...}'
            found.append((number, parse_object(line, place, "mend that line", expected)))
    if not found:
        return [], []
    names = list(dict.fromkeys(key for _, record in found for key in record))
    chosen, notes = roles(names, required, name)
    unused = {} if "part" in chosen else {column: set[Any]() for column in names if column not in chosen.values()}
    for _, record in found:
        _note_values(unused, record)
    check_part_columns(unused, name)
    return [(n, {role: record.get(key) for role, key in chosen.items()}) for n, record in found], notes


def _value(record: dict[str, Any], column: str, place: str) -> str | None:
    """Return a value as text, unstripped; None if it is missing or blank."""
    value = record.get(column)
    if isinstance(value, dict | list):
        raise SlmlpError(f"{place}: the {column} is {value!r:.60}: expected a text or a number")
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
    value = _value(record, column, f"{name}, line {line}")
    if value is None:
        raise SlmlpError(f"{name}, line {line}: the {column} is missing: every line needs path and label")
    return value


def _parts(records: Records, named: Sequence[str], name: str) -> dict[str, str | None]:
    """Return word -> part for the words of the part column; check that all lines have one, or none."""
    words = [(line, _value(record, "part", f"{name}, line {line}")) for line, record in records]
    values = {word for _, word in words if word is not None}
    if not values:
        if named:
            raise SlmlpError(f"{name}: --parts needs a column part whose values it names, and there is none")
        return {}
    first = {word: line for line, word in reversed(words)}
    if None in first:
        raise SlmlpError(f"{name}, line {first[None]}: the part is missing, and other lines have one: fill it in")
    ordered = sorted(values, key=first.__getitem__)
    unknown = [word for word in ordered if not named and part_kind(word) is None]
    return parts_of_words(ordered, named, f"{name}, line {first[unknown[0]]}" if unknown else name)
