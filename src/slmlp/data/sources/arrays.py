"""Read ``.npz`` files of images into a ``Table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.config import DataOptions
from slmlp.data.dataset import ByteArray
from slmlp.data.readers import ArrayReader
from slmlp.data.sources.columns import check_array_names
from slmlp.data.sources.parts import parts_of_words, said
from slmlp.data.sources.row import Row
from slmlp.data.sources.table import Table
from slmlp.runtime import npz as npz_file
from slmlp.runtime.errors import SlmlpError


def npz(path: Path, source: str, options: DataOptions) -> Table:
    """Return the images of ``x`` (N, H, W[, C]) uint8 with the labels ``y`` (N,), integers or strings.

    Optional: ``part``, ``group`` and ``superclass`` (N,), and ``classes`` (C,), the names of the integers in ``y``. An
    image's id is its row. Object arrays are rejected, because unpickling them can run code.
    """
    try:
        arrays = npz_file.read(path, _NAMES)
    except npz_file.DamagedError as error:
        hint = ": save y, part and group as arrays of strings or integers" if "pickle" in str(error) else ""
        raise SlmlpError(f"{path} cannot be read as .npz ({error}){hint}") from error
    x, labels = _pixels(arrays, path), _labels(arrays, path)
    check_array_names(npz_file.names(path), _NAMES, str(path))
    if len(x) != len(labels):
        raise SlmlpError(f"{path}: x has {len(x)} images but y has {len(labels)} labels: they must be aligned")
    words = _column(arrays, "part", len(x), path)
    part_of = {} if words is None else parts_of_words(words, options.parts, str(path))
    parts = None if words is None else [part_of[word] for word in words]
    groups, superclasses = (_column(arrays, name, len(x), path) for name in ("group", "superclass"))
    rows = row_table([f"{i:0{len(str(len(x)))}d}" for i in range(len(x))], labels, x, parts, superclasses, groups)
    reader = ArrayReader(x)
    return Table(path.stem, source, rows, reader, reader.fingerprint(), notes=tuple(said(part_of)))


def row_table(
    ids: Sequence[str],
    labels: Sequence[str],
    x: ByteArray,
    parts: Sequence[str | None] | None,
    superclasses: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> list[Row]:
    """Return the rows of an array of images; an image's size is that of its pixels in bytes."""
    size = int(x[0].nbytes)
    none = [None] * len(ids)
    columns = zip(ids, labels, parts or none, superclasses or none, groups or none, strict=True)
    return [Row(i, label, size, part, superclass, group) for i, label, part, superclass, group in columns]


_NAMES = ("x", "y", "part", "group", "superclass", "classes")


def _pixels(arrays: dict[str, npt.NDArray[Any]], path: Path) -> ByteArray:
    x = arrays.get("x")
    if x is None or "y" not in arrays:
        found = ", ".join(npz_file.names(path)) or "nothing"
        raise SlmlpError(f"{path} needs the arrays x (images) and y (labels), found {found}: save it with these names")
    if x.dtype != np.uint8:
        raise SlmlpError(f"{path}: x must be uint8 (0 to 255), found {x.dtype}: convert it before saving")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)) or 0 in x.shape:
        raise SlmlpError(f"{path}: x must be (N, H, W) or (N, H, W, C) with C of 1, 3 or 4, found shape {x.shape}")
    return x


def _labels(arrays: dict[str, npt.NDArray[Any]], path: Path) -> list[str]:
    y, classes = arrays["y"], arrays.get("classes")
    if y.ndim != 1 or y.dtype.kind not in "iuUS":
        raise SlmlpError(f"{path}: y must be (N,) integers or strings, found shape {y.shape} of {y.dtype}")
    if classes is None or y.dtype.kind in "US":
        return _texts(y)
    names = _texts(classes)
    if y.min(initial=0) < 0 or y.max(initial=0) >= len(names):
        wrong = y.min() if y.min() < 0 else y.max()
        raise SlmlpError(f"{path}: y holds {wrong}, but classes has {len(names)} names (0 to {len(names) - 1})")
    return [names[i] for i in y.tolist()]


def _column(arrays: dict[str, npt.NDArray[Any]], name: str, length: int, path: Path) -> list[str] | None:
    column = arrays.get(name)
    if column is None:
        return None
    if column.shape != (length,) or column.dtype.kind not in "iuUS":
        raise SlmlpError(
            f"{path}: {name} must be ({length},) strings or integers, one per image, found shape {column.shape} of "
            f"{column.dtype}"
        )
    return _texts(column)


def _texts(values: npt.NDArray[Any]) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
