"""Read features files: ``y`` and more in an .npz, ``x`` (N, D) there too or, to be mapped, in an .npy beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.runtime import files, npz
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

Arrays = dict[str, npt.NDArray[Any]]
BESIDE_HASH = "x_sha256"  # in the .npz: of the .npy beside it
READ = ("x", "y", "classes", "ids", "groups", "parts")
CHUNK = 1 << 24  # bytes that are read at a time
Y_FORMS = {1: "y (N,)", 2: "y a 0/1 matrix (N, C)"}  # by number of axes


def beside(path: Path) -> Path:
    """Return where the ``x`` of a features file lies that does not hold it: NAME.npy beside NAME.npz."""
    return path.with_name(path.name.removesuffix(".npz") + ".npy")


def read_arrays(path: Path, memory_limit_gb: float | None = None) -> Arrays:
    """Return the arrays of a features file, ``x`` of numbers and ``y`` among them.

    With a limit (10^9 bytes) an ``x`` beside the .npz that takes more in float32 is a read-only map of its file, in the
    type it has there. What the .npz holds is read.
    """
    if path.is_dir():
        raise SlmlpError(f"{path} is a folder: expected a features file, as slmlp features ENCODER {path} writes one")
    try:
        arrays = npz.read(path)
        if "x" not in arrays and beside(path).exists():
            x = np.lib.format.open_memmap(beside(path), mode="r")
            _check_beside(path, arrays)
            arrays["x"] = np.array(x) if memory_limit_gb is None or 4e-9 * x.size <= memory_limit_gb else x
    except (OSError, ValueError, EOFError, TypeError, MemoryError, SyntaxError, npz.DamagedError) as error:
        raise SlmlpError(f"{path} cannot be read as a features file (.npz with x and y): {short(error)}") from error
    arrays.pop(BESIDE_HASH, None)
    if not {"x", "y"} <= arrays.keys():
        raise SlmlpError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; a features file has x (N, D) and y (N,)"
        )
    if arrays["x"].dtype.kind not in "biuf":
        raise SlmlpError(f"{path}: x must be numbers, found {arrays['x'].dtype}")
    return arrays


def _check_beside(path: Path, arrays: Arrays) -> None:
    """Raise DamagedError where the .npy beside a features file is not the one that was written with it."""
    if BESIDE_HASH in arrays and str(arrays[BESIDE_HASH]) != files.sha256(files.chunks(beside(path))):
        raise npz.DamagedError(f"{beside(path)} was changed or damaged since it was written (its sha256 differs)")


def read_complete(path: Path, memory_limit_gb: float | None, y_axes: int) -> Arrays:
    """Return the arrays of a features file whose ``y`` has 1 axis or 2, with ``ids`` and ``groups`` (N,) filled in.

    By default ids are positions, and each image is its own group. ``x`` is float32, or as it is where it is mapped.
    """
    from slmlp.data.sources.columns import check_array_names

    arrays = read_arrays(path, memory_limit_gb)
    check_array_names(arrays, READ, str(path))
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.ndim != y_axes or len(x) != len(y):
        raise SlmlpError(f"{path}: x must be (N, D) and {Y_FORMS[y_axes]}, found {x.shape} and {y.shape}")
    ids = arrays.get("ids", np.arange(len(y))).astype(np.str_)
    groups = arrays.get("groups", ids).astype(np.str_)
    if ids.shape != (len(y),) or groups.shape != ids.shape:
        raise SlmlpError(f"{path}: ids and groups must be ({len(y)},) as y is, found {ids.shape} and {groups.shape}")
    return {**arrays, "x": x if isinstance(x, np.memmap) else x.astype(np.float32), "ids": ids, "groups": groups}


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
    """Yield the bytes of a features file, some at a time; those of ``x`` beside it follow where it holds none."""
    with np.load(path, allow_pickle=False) as archive:
        paths = [path] if "x" in archive.files else [path, beside(path)]
    for each in paths:
        yield from files.chunks(each, CHUNK)


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
    if classes.ndim != 1:
        raise SlmlpError(f"{path}: classes must be (C,) names, found shape {classes.shape}")
    if y.dtype.kind not in "biu":
        raise SlmlpError(f"{path}: with classes, labels y must be whole numbers, indices into them; found {y.dtype}")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(classes):
        raise SlmlpError(
            f"{path}: labels y must be 0 to {len(classes) - 1}, indices into the {len(classes)} classes; found "
            f"{y.min()} to {y.max()}"
        )
    return y.astype(np.int64), tuple(map(str, classes))
