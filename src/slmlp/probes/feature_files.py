"""Files of features: .npz of ``x`` (N, D) and ``y``, their checks, and defaults for what a file leaves out.

A file that is larger than memory stays on the disk: the arrays of an .npz that was not compressed lie in it as they
would in memory, so ``x`` is mapped from there and read block by block.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

Arrays = dict[str, npt.NDArray[Any]]
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, ..., lengths of its name and of an extra field
CHUNK = 1 << 24  # bytes that are read at a time


def read_arrays(path: Path, memory_limit_gb: float | None = None) -> Arrays:
    """Return the arrays of a features file, ``x`` of numbers and ``y`` among them.

    With a limit (10^9 bytes) an ``x`` that takes more in float32 is a read-only map of the file, in the type it has
    there; where the file is compressed, which cannot be mapped, it is read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            mapped = None if memory_limit_gb is None else _mapped(path, 1e9 * memory_limit_gb)
            arrays = {key: archive[key] for key in archive.files if key != "x" or mapped is None}
            if mapped is not None:
                arrays["x"] = mapped
    except (OSError, ValueError, EOFError, TypeError, struct.error, zipfile.BadZipFile) as error:
        raise SlmlpError(f"{path} cannot be read as a features file (.npz with x and y): {error}") from error
    if not {"x", "y"} <= arrays.keys():
        raise SlmlpError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; a features file has x (N, D) and y (N,)"
        )
    if arrays["x"].dtype.kind not in "biuf":
        raise SlmlpError(f"{path}: x must be numbers, found {arrays['x'].dtype}")
    return arrays


def _mapped(path: Path, most: float) -> npt.NDArray[Any] | None:
    """Return ``x`` as a map of the file where it would take more than ``most`` bytes as float32, or None."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        member = next((entry for entry in archive.infolist() if entry.filename == "x.npy"), None)
        if member is None or member.compress_type != zipfile.ZIP_STORED:
            return None
        file.seek(member.header_offset)
        _, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        file.seek(name + extra, os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(file)
        if dtype.kind not in "biuf" or 4 * np.prod(shape, dtype=float) <= most:
            return None
        order: Literal["F", "C"] = "F" if by_column else "C"
        return np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)


def in_memory(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return features (N, D) as float32, or as they are where they lie on the disk."""
    return x if isinstance(x, np.memmap) else x.astype(np.float32)


def rows_of(x: npt.NDArray[Any], keep: npt.NDArray[np.bool_], folder: Path) -> npt.NDArray[Any]:
    """Return the rows of ``x`` under a mask (N,); of a map on the disk without reading it into memory.

    Rows that follow one another are a part of the same map; others are copied to a file without a name on the disk of
    ``folder``, which is gone when they are, or when the process is.

    Raises:
        SlmlpError: the disk of ``folder`` has no room for them (before anything is written).
    """
    if not isinstance(x, np.memmap):
        return x[keep]
    places = np.flatnonzero(keep)
    if len(places) == 0 or places[-1] - places[0] + 1 == len(places):
        return x[places[0] : places[-1] + 1] if len(places) else x[:0]
    row = x.shape[1] * x.itemsize
    files.check_room(folder, len(places) * row, f"{len(places):,} rows of a features file")
    with tempfile.TemporaryFile(dir=files.existing(folder)) as file:
        copied = np.memmap(file, dtype=x.dtype, mode="w+", shape=(len(places), x.shape[1]))
    step = max(1, CHUNK // max(1, row))
    for start in range(0, len(places), step):
        copied[start : start + step] = x[places[start : start + step]]
    return copied


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, some at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def filled(path: Path, arrays: Arrays) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Return ids and groups (N,) of a features file: by default positions, and each image its own group."""
    n = len(arrays["y"])
    ids = arrays.get("ids", np.arange(n)).astype(np.str_)
    groups = arrays.get("groups", ids).astype(np.str_)
    if ids.shape != (n,) or groups.shape != (n,):
        raise SlmlpError(f"{path}: ids and groups must be ({n},) as y is, found {ids.shape} and {groups.shape}")
    return ids, groups


def labels(
    path: Path, y: npt.NDArray[Any], classes: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return class indices (N,) and names; ``y`` holds indices into ``classes`` or, without them, what it names."""
    if y.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(y) | (y != np.round(y)))
        if len(wrong):
            raise SlmlpError(
                f"{path}: labels y must be whole numbers or names of classes, found {y[wrong[0]]} (row {wrong[0]})"
            )
        y = y.astype(np.int64)
    if classes is None:
        if y.dtype.kind not in "biuU":
            raise SlmlpError(f"{path}: labels y must be whole numbers or names of classes, found {y.dtype}")
        names, codes = np.unique(y.astype(np.str_), return_inverse=True)
        return codes.astype(np.int64), tuple(map(str, names))
    if y.dtype.kind not in "biu":
        raise SlmlpError(f"{path}: with classes, labels y must be whole numbers, indices into them; found {y.dtype}")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(classes):
        raise SlmlpError(
            f"{path}: labels y must be 0 to {len(classes) - 1}, indices into the {len(classes)} classes; found "
            f"{y.min()} to {y.max()}"
        )
    return y.astype(np.int64), tuple(map(str, classes))
