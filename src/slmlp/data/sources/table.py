"""Check the rows of a source and build an ``ImageSet`` from them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slmlp.config import DataOptions
from slmlp.data.dataset import ImageSet, Reader
from slmlp.data.decode import SIGNATURE, signature_problem
from slmlp.data.readers import BytesReader
from slmlp.data.scratch import scratch
from slmlp.data.sources import odd_names
from slmlp.data.sources.row import Row
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import in_threads

Problems = Sequence[tuple[str, str]]
TOLERATED = 0.01  # share of files that may be unreadable without --allow-unreadable


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of a source, unchecked."""

    name: str
    source: str
    rows: list[Row]
    reader: Reader
    fingerprint: str
    ignored: Problems = ()
    notes: Sequence[str] = ()


def build(table: Table, options: DataOptions) -> ImageSet:
    """Return the images of a table, sorted by id, without files whose first bytes are not an image's.

    Raises:
        SlmlpError: duplicate ids, too many unreadable files, a class without a readable file, fewer than two classes, a
            class with two superclasses or with none where others have one, or a group in both parts.
    """
    where = f"data {table.source!r}"
    problems = _problems(table)
    unreadable = sorted((row.id, problem) for row, problem in zip(table.rows, problems, strict=True) if problem)
    check_unreadable(unreadable, len(table.rows), options, where)
    good = [i for i, problem in enumerate(problems) if problem is None]
    good.sort(key=lambda i: table.rows[i].id)
    rows = [table.rows[i] for i in good]
    for before, row in itertools.pairwise(rows):
        if before.id == row.id:
            raise SlmlpError(f"{where}: image {row.id!r} is listed twice: every image must be listed once")
    classes = tuple(sorted({row.label for row in rows}))
    lost = sorted({row.label for row in table.rows} - set(classes))
    if lost:
        raise SlmlpError(f"{where}: no image of class {lost[0]!r} can be read ({len(lost)} such classes): restore it")
    if len(classes) < 2 and not (classes and options.unlabelled):
        number = f"one class ({classes[0]!r})" if classes else "no images"
        raise SlmlpError(
            f"{where}: expected images of at least two classes, found {number}; for methods that use no labels pass "
            "--unlabelled"
        )
    code = {name: i for i, name in enumerate(classes)}
    parts = np.array([row.part or "train" for row in rows], dtype=np.str_)
    images = ImageSet(
        name=table.name,
        source=table.source,
        ids=tuple(row.id for row in rows),
        labels=np.array([code[row.label] for row in rows], dtype=np.int64),
        classes=classes,
        parts=parts,
        groups=np.array([row.id if row.group is None else row.group for row in rows], dtype=np.str_),
        sizes=np.array([row.size for row in rows], dtype=np.int64),
        positions=np.array(good, dtype=np.int64),
        reader=table.reader,
        superclasses=_superclasses(rows, classes, where),
        has_test_part=bool((parts == "test").any()),
        has_groups=any(row.group is not None for row in rows),
        unreadable=tuple(unreadable),
        ignored=tuple(sorted(table.ignored)),
        fingerprint=table.fingerprint,
        notes=(*table.notes, *odd_names.notes(rows, options.label_separator)),
    )
    _check_groups(images, where)
    return images


def check_unreadable(
    unreadable: Problems, total: int, options: DataOptions, where: str, folder: Path | None = None
) -> None:
    """Write unreadable.txt and raise SlmlpError if more than 1 % of all files are unreadable, unless allowed."""
    if len(unreadable) <= TOLERATED * total or options.allow_unreadable:
        return
    path = (folder or scratch(options)) / "unreadable.txt"
    files.write_text(path, list_text(unreadable))
    first, reason = unreadable[0]
    raise SlmlpError(
        f"{where}: {len(unreadable):,} of {total:,} files cannot be read, more than 1 % (first: {first}: {reason}; "
        f"all: {path}): repair or remove them, or pass --allow-unreadable to continue without them"
    )


def list_text(unreadable: Problems) -> str:
    """Return the lines ``id <tab> reason`` of unreadable.txt."""
    return "".join(f"{name}\t{reason}\n" for name, reason in unreadable)


def drop(images: ImageSet, problems: dict[int, str], options: DataOptions, folder: Path | None) -> ImageSet:
    """Move the images at the indices of ``problems`` (index -> reason) to ``unreadable``.

    Raises:
        SlmlpError: too many unreadable files (written to unreadable.txt in ``folder``), or a class without images.
    """
    if not problems:
        return images
    keep: npt.NDArray[np.bool_] = np.ones(len(images), dtype=np.bool_)
    keep[list(problems)] = False
    where = f"data {images.source!r}"
    unreadable = sorted([*images.unreadable, *((images.ids[i], reason) for i, reason in problems.items())])
    check_unreadable(unreadable, len(images) + len(images.unreadable), options, where, folder)
    lost = set(images.labels.tolist()) - set(images.labels[keep].tolist())
    if lost:
        raise SlmlpError(f"{where}: no image of class {images.classes[min(lost)]!r} can be read: restore it")
    return dataclasses.replace(images.select(keep), unreadable=tuple(unreadable))


def _problems(table: Table) -> list[str | None]:
    """Return why each row's first bytes are not an image's, or None; decoding finds later damage."""
    reader, rows = table.reader, table.rows
    if not isinstance(reader, BytesReader):
        return [row.problem for row in rows]

    def problem(index: int) -> str | None:
        if rows[index].problem:
            return rows[index].problem
        try:
            return signature_problem(reader.raw(index, SIGNATURE))
        except OSError as error:
            return error.strerror or str(error)

    return [reason for _, reason in in_threads(problem, len(rows), f"checking {table.name}", chunk=512)]


def _superclasses(rows: list[Row], classes: tuple[str, ...], where: str) -> tuple[str, ...] | None:
    superclasses: dict[str, str] = {}
    for row in rows:
        if row.superclass is not None and superclasses.setdefault(row.label, row.superclass) != row.superclass:
            raise SlmlpError(
                f"{where}: class {row.label!r} is in two superclasses, {superclasses[row.label]!r} and "
                f"{row.superclass!r} (at {row.id}): superclass must be the same on all images of a class"
            )
    if not superclasses:
        return None
    missing = [name for name in classes if name not in superclasses]
    if missing:
        raise SlmlpError(f"{where}: class {missing[0]!r} has no superclass, though others have one: add it")
    return tuple(superclasses[name] for name in classes)


def _check_groups(images: ImageSet, where: str) -> None:
    if not (images.has_groups and images.has_test_part):
        return
    test = set(images.groups[images.parts == "test"].tolist())
    both = sorted(test & set(images.groups[images.parts == "train"].tolist()))
    if both:
        raise SlmlpError(
            f"{where}: group {both[0]!r} has images in both the train and the test part ({len(both)} such groups): "
            "move each group to one part, or leave the parts out for a random split by group"
        )
