"""Read the rows of a published data set from its files, by the layout of its entry."""

from __future__ import annotations

import csv
import io
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from slmlp.data.dataset import Reader
from slmlp.data.published.entry import Entry, Folders, Labels, Lists
from slmlp.data.published.listing import Listing
from slmlp.data.sources import layout
from slmlp.data.sources.archive import printable
from slmlp.data.sources.parts import part_kind
from slmlp.data.sources.row import Row
from slmlp.runtime.errors import SlmlpError, few


class LayoutError(SlmlpError):
    """The files do not have the entry's layout."""


class Contents(NamedTuple):
    """The images of a data set, in the order of its protocol."""

    rows: list[Row]
    reader: Reader
    fingerprint: str
    extra: list[tuple[str, str]]  # (name, reason) of images that are not part of the data set


class _Image(NamedTuple):
    name: str  # in the listing; "" where the file is missing
    row: Row


def read(entry: Entry, files: Listing) -> Contents:
    """Return the images of an entry that torchvision does not read.

    Raises:
        LayoutError: the files have another layout; one line with the expected and the actual one.
    """
    kind = entry.layout
    if isinstance(kind, Folders):
        placed, extra = _folders(entry, kind, files)
    elif isinstance(kind, Labels):
        placed, extra = _labels(entry, kind, files)
    elif isinstance(kind, Lists):
        placed, extra = _lists(entry, kind, files)
    else:
        raise TypeError(f"{entry.name} is read by torchvision")
    names = [p.name for p in placed]
    return Contents([p.row for p in placed], files.reader(names), files.fingerprint(names), extra)


def wrong(entry: Entry, actual: str, path: object) -> LayoutError:
    """Return the error for files with the layout ``actual``, in words."""
    return LayoutError(
        f"{path} is not laid out as {entry.name}: expected {entry.on_disk}; found {actual}. Unpack the published "
        "archive there unchanged, or rename the folder if these are other data"
    )


def base_of(names: Sequence[str], inside: str) -> str:
    """Return the prefix ("" or "a/b/") of the names in the folder ``inside``, else that of the folder around all.

    >>> base_of(["x/2750/River/1.jpg"], "2750"), base_of(["data/River/1.jpg", "data/Lake/1.jpg"], "2750")
    ('x/2750/', 'data/')
    """
    prefixes = set()
    for name in names:
        steps = name.split("/")[:-1]
        at = next((i for i, step in enumerate(steps) if inside and step.lower() == inside.lower()), None)
        if at is not None:
            prefixes.add("/".join(steps[: at + 1]) + "/")
    return min(prefixes, key=lambda prefix: (prefix.count("/"), prefix)) if prefixes else layout.wrapper(names)


def _folders(entry: Entry, kind: Folders, files: Listing) -> tuple[list[_Image], list[tuple[str, str]]]:
    images = files.images()
    if not images:
        raise wrong(entry, f"no images ({files.top()})", files.path)
    base = base_of(images, kind.inside)
    placed: list[tuple[tuple[str, ...], _Image]] = []
    extra: list[tuple[str, str]] = []
    tops = {name[len(base) :].split("/")[0] for name in images if name.startswith(base)}
    if kind.parts:
        parts = {top: part for top in tops if (part := part_kind(top))}
        if set(parts.values()) != {"train", "test"}:
            raise wrong(entry, f"no folders train and test but {few(sorted(tops), 4)}", files.path)
    elif all(map(part_kind, tops)):
        raise wrong(entry, f"part folders ({few(sorted(tops), 4)}), where the protocol draws its own parts", files.path)
    for name in images:
        steps = name[len(base) :].split("/") if name.startswith(base) else []
        part = parts.get(steps[0]) if kind.parts and steps else None
        below = steps[1:] if kind.parts else steps
        label = "/".join(below[: kind.depth])
        if len(below) <= kind.depth or (kind.parts and part is None):
            extra.append((printable(name), "in no class folder"))
        elif below[0] in kind.skip:
            extra.append((printable(name), f"{below[0]} is no class of {entry.name}"))
        else:
            row = Row(printable("/".join(steps)), printable(label), files.sizes[name], part)
            # by class, then by folder, as ImageFolder lists them
            placed.append(((part or "", label, posixpath.dirname(name), name), _Image(name, row)))
    if not placed:
        raise wrong(entry, f"images but no class folders ({files.top()})", files.path)
    placed.sort(key=lambda pair: pair[0])
    return [p for _, p in placed], extra


def _labels(entry: Entry, kind: Labels, files: Listing) -> tuple[list[_Image], list[tuple[str, str]]]:
    table = _text_file(entry, kind.files, files)
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    images = files.images()
    for name in images:
        by_name[posixpath.basename(name).lower()].append(name)
    placed: list[_Image] = []
    named: dict[str, int] = {}
    for line, record in _records(entry, kind, files, table):
        value = record[kind.image].strip()
        file = value + kind.suffix
        if not value:
            raise SlmlpError(f"{files.path}/{table}, line {line}: column {kind.image} is empty: mend the table")
        if file in named:
            raise SlmlpError(
                f"{files.path}/{table} lists {file!r} twice, in lines {named[file]} and {line}: keep one of them"
            )
        named[file] = line
        label, part = _label(kind, record, f"{files.path}/{table}, line {line}"), None
        if kind.part is not None:
            part = record[kind.part].strip().lower()
            if part not in ("train", "test"):
                continue
        if label is None:
            continue
        path = _preferred(by_name.get(file.lower(), []), kind.folders)
        size, problem = (0, f"missing, though {table} lists it") if path is None else (files.sizes[path], None)
        placed.append(_Image(path or "", Row(printable(file), label, size, part, problem=problem)))
    if not any(p.name for p in placed):
        some = f"{placed[0].row.id}, ..." if placed else "no class of the data set"
        raise wrong(entry, f"{table}, but none of the images that it lists ({some})", files.path)
    listed = {name.lower() for name in named}
    extra = [(printable(n), f"not in {table}") for n in images if posixpath.basename(n).lower() not in listed]
    return placed, extra


def _label(kind: Labels, record: dict[str, str], where: str) -> str | None:
    """Return the class of a line; None if the data set does not use that class."""
    if kind.kind == "one-hot":
        marked = [column for column in kind.label if _number(record[column], where) != 0]
        if len(marked) != 1:
            raise SlmlpError(f"{where}: expected a 1 in one of {', '.join(kind.label)}, found {marked or 'none'}")
        return marked[0]
    values = [record[column].strip() for column in kind.label]
    if kind.kind == "joined":
        words = [kind.words.get((column, value)) for column, value in zip(kind.label, values, strict=True)]
        if None in words:
            raise SlmlpError(f"{where}: {', '.join(kind.label)} hold {values}, which name no class: mend the table")
        return " ".join(word for word in words if word is not None)
    if not values[0]:
        raise SlmlpError(f"{where}: column {kind.label[0]} is empty: mend the table")
    return values[0] if not kind.keep or values[0] in kind.keep else None


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SlmlpError(f"{where}: expected 0 or 1, found {text!r}: mend the table") from None


def _preferred(names: Sequence[str], folders: Sequence[str]) -> str | None:
    """Return, of several files of one name, the one in the first of ``folders``; None if there are none."""

    def rank(name: str) -> tuple[int, int, str]:
        steps = [step.lower() for step in name.split("/")[:-1]]
        best = next((i for i, folder in enumerate(folders) if folder.lower() in steps), len(folders))
        return best, len(steps), name

    return min(names, key=rank, default=None)


def _records(entry: Entry, kind: Labels, files: Listing, table: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(_text(files, table), newline=""))
    reader.fieldnames = [column.strip() for column in reader.fieldnames or []]
    columns = [kind.image, *kind.label, *([kind.part] if kind.part else [])]
    missing = [column for column in columns if column not in reader.fieldnames]
    if missing:
        actual = f"{table} without column {missing[0]} (its columns are {', '.join(filter(None, reader.fieldnames))})"
        raise wrong(entry, actual, files.path)
    for record in reader:
        yield reader.line_num, {column: record[column] or "" for column in columns}


def _lists(entry: Entry, kind: Lists, files: Listing) -> tuple[list[_Image], list[tuple[str, str]]]:
    placed: list[_Image] = []
    base: str | None = None
    known: dict[str, str] = {}
    for part, file in (("train", kind.train), ("test", kind.test)):
        table = _text_file(entry, (file,), files)
        for number, line in enumerate(_text(files, table).splitlines(), 1):
            path = posixpath.normpath(line.strip().lstrip("/")) if line.strip() else ""
            if not path:
                continue
            if path in known:
                raise SlmlpError(f"{files.path}/{table}, line {number}: {path} is listed twice: get the lists again")
            known[path] = table
            steps = path.split("/")
            if len(steps) < kind.skip + 2:
                raise SlmlpError(f"{files.path}/{table}, line {number}: expected a path of a class, found {line:.60}")
            if base is None:
                base = next((n[: -len(path)] for n in files.sizes if n == path or n.endswith(f"/{path}")), None)
            name = f"{base or ''}{path}"
            size = files.sizes.get(name)
            problem = f"missing, though {table} lists it" if size is None else None
            label = "/".join(steps[kind.skip : -1])
            placed.append(
                _Image("" if size is None else name, Row(printable(path), label, size or 0, part, problem=problem))
            )
    if not any(p.name for p in placed):
        raise wrong(entry, f"{kind.train}, but none of the images that it lists", files.path)
    used = {p.name for p in placed}
    extra = [(printable(n), f"in neither {kind.train} nor {kind.test}") for n in files.images() if n not in used]
    return placed, extra


def _text_file(entry: Entry, names: Sequence[str], files: Listing) -> str:
    """Return the label file of one of these names; of several, the one nearest to the root."""
    lower = [name.lower() for name in names]
    paths = [name for name in files.sizes if posixpath.basename(name).lower() in lower]
    if not paths:
        raise wrong(entry, f"no {' or '.join(names)} ({files.top()})", files.path)
    return min(paths, key=lambda name: (name.count("/"), name))


def _text(files: Listing, name: str) -> str:
    try:
        return files.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SlmlpError(f"{files.path}/{name} is not UTF-8 text (see byte {error.start}): get it again") from error


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of images of each class."""
    return dict(Counter(row.label for row in rows))
