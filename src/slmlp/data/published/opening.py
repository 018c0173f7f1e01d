"""Open a published data set in the parts of its protocol: rows -> parts -> checked counts -> ``ImageSet``."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slmlp.config import DataOptions
from slmlp.data import apply_superclasses, limit_per_class
from slmlp.data.dataset import ImageSet
from slmlp.data.published import layouts
from slmlp.data.published.entry import Draw, Entry, Torchvision
from slmlp.data.published.listing import listing
from slmlp.data.readers import stamp
from slmlp.data.scratch import scratch
from slmlp.data.sources import torchvision_sets
from slmlp.data.sources.row import Row
from slmlp.data.sources.table import Table, build
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError


def open_entry(entry: Entry, path: Path, options: DataOptions) -> ImageSet:
    """Return the images of an entry from its folder or tar, in the parts of its protocol.

    Raises:
        SlmlpError: another layout, or other counts than published; one line.
    """
    table, _ = read(entry, path, options)
    assert_counts(entry, table.rows, path)
    try:
        images = build(table, options)
    except OSError as error:
        raise SlmlpError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    if options.superclasses is not None:
        images = apply_superclasses(images, options.superclasses)
    return images if options.images_per_class is None else limit_per_class(images, options.images_per_class, 0)


def read(entry: Entry, path: Path, options: DataOptions) -> tuple[Table, list[tuple[str, str]]]:
    """Return an entry's table, in the parts of its protocol, and (name, reason) of the unused images."""
    if isinstance(entry.layout, Torchvision):
        root = torchvision_root(entry, entry.layout, path, options)
        table = torchvision_sets.load(f"{torchvision_sets.PREFIX}{entry.layout.name}", options, root)
        return dataclasses.replace(table, name=entry.name, source=str(path)), []
    contents = layouts.read(entry, listing(path, options))
    rows = contents.rows
    if entry.draw is not None:
        parts = draw_parts([row.label for row in rows], entry.draw)
        rows = [row._replace(part=part) for row, part in zip(rows, parts, strict=True)]
    return Table(entry.name, str(path), rows, contents.reader, contents.fingerprint, contents.extra), contents.extra


def draw_parts(labels: Sequence[str], draw: Draw) -> list[str]:
    """Return the part of each image: the protocol of Islam et al. 2021 (create_partial_data in data_loader/helper.py).

    One RandomState shuffles the positions of each class, in order of first occurrence; the first of the shuffled
    positions are training images. Missing files keep their position, so an incomplete copy has the same parts.
    """
    random = np.random.RandomState(draw.seed)  # as published: not numpy_generator
    of_class: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        of_class.setdefault(label, []).append(position)
    parts = ["test"] * len(labels)
    for positions in of_class.values():
        random.shuffle(positions)
        for position in positions[: draw.train(len(positions))]:
            parts[position] = "train"
    return parts


def assert_counts(entry: Entry, rows: Sequence[Row], path: Path) -> None:
    """Raise SlmlpError naming the first number of classes, images or images of a class or part not as published."""
    for what, expected, actual in differences(entry, rows):
        raise SlmlpError(
            f"{path} is not {entry.name} as published: expected {expected:,} {what}, found {actual:,}; "
            f"'slmlp data check {entry.name} {path}' lists all differences; rename the folder if these are other data"
        )


def differences(entry: Entry, rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Return (what, expected, actual) of every count that differs from the published one; missing files count."""
    per_class, parts = layouts.counts(rows), Counter(row.part for row in rows)
    expected = entry.per_class or dict.fromkeys(per_class, entry.each or 0)
    drawn = entry.drawn()
    pairs = [("classes", entry.classes, len(per_class)), ("images", entry.images, len(rows))]
    if entry.per_class or entry.each:
        names = sorted(set(expected) | set(per_class))
        pairs += [(f"images of class {n!r}", expected.get(n, 0), per_class.get(n, 0)) for n in names]
    if drawn is not None:
        pairs += [("training images", drawn[0], parts["train"]), ("test images", drawn[1], parts["test"])]
    return [(what, published, actual) for what, published, actual in pairs if published != actual]


def torchvision_root(entry: Entry, layout: Torchvision, path: Path, options: DataOptions) -> Path:
    """Return a root folder from which torchvision can read the files of ``path``.

    ``path`` may be that root, or any folder between it and the files. Parent folders that torchvision needs and it
    lacks are created in the scratch folder, with a link to the files.
    """
    if not path.is_dir():
        raise layouts.wrong(entry, "a file instead of a folder", path)
    steps = layout.at.split("/") if layout.at else []
    folder = path.resolve()
    inner = [folder.joinpath(*steps[i:]) for i in range(len(steps) + 1)]
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    data = next((at for at in (*inner, *below) if all(_exists(at / mark) for mark in layout.marks)), None)
    if data is None:
        best = max(inner, key=lambda at: sum(_exists(at / mark) for mark in layout.marks))
        missing = next(mark for mark in layout.marks if not _exists(best / mark))
        raise layouts.wrong(entry, f"no {missing} in {best}", path)
    packed = [mark for mark in layout.marks if not (data / mark).exists()]
    if not steps and not packed:
        return data
    if data == inner[0] and not packed:
        return folder
    key = files.sha256(f"{data}\t{layout.at}\t{[stamp(data / f'{m}.gz') for m in packed]}".encode())[:16]
    root = (scratch(options) / "datasets" / key).absolute()
    target = root.joinpath(*steps)
    if not packed:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            target.symlink_to(data)
        return root
    target.mkdir(parents=True, exist_ok=True)
    for mark in layout.marks:
        _link_or_unpack(data / mark, target / mark)
    return root


def _exists(path: Path) -> bool:
    """Return whether a file exists, plain or as .gz."""
    return path.exists() or path.with_name(f"{path.name}.gz").is_file()


def _link_or_unpack(source: Path, target: Path) -> None:
    """Link ``target`` to a file, or unpack its .gz to ``target``."""
    if os.path.lexists(target):
        return
    if source.exists():
        with contextlib.suppress(FileExistsError):
            target.symlink_to(source)
        return
    packed = source.with_name(f"{source.name}.gz")
    try:
        with gzip.open(packed) as content, files.atomic(target) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(content, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SlmlpError(f"{packed} is broken ({error}): download it again") from error
