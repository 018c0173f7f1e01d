"""Decode every image once, to squares in one array: in memory, or memory-mapped, and cached between runs.

A cache entry is two files: ``pixels-SIDE-KEY.npy``, and beside it ``.json`` with the key, the number of images, the
checksum of the pixels and the unreadable files. The JSON is written last; an entry that does not agree with it is
decoded again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from slmlp.config import DataOptions
from slmlp.data import decode
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Square
from slmlp.data.readers import read_square
from slmlp.data.scratch import scratch
from slmlp.data.sources.table import drop
from slmlp.runtime import files, seeds, work
from slmlp.runtime.errors import SlmlpError

STALE = 24 * 3600  # seconds after which a temporary file is one that a killed run has left
GIGABYTE = 1e9
Place = Literal["memory", "file", "stream"]
_DEFAULT = DataOptions()


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded images; read-only where they are memory-mapped."""

    data: ByteArray  # (N, side, side, 3)
    positions: IntArray  # (N,) of the images, as in ``ImageSet.positions``

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.data)

    def rows(self, images: ImageSet) -> IntArray:
        """Return the rows (M,) of ``data`` that hold a subset (M images: a part, some classes) of the same data."""
        order = np.argsort(self.positions)
        at = np.searchsorted(self.positions, images.positions, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        if not np.array_equal(self.positions[rows], images.positions):
            raise KeyError("some of these images were not decoded: take the images that decode_all returned")
        return rows.astype(np.int64)


def short_side(images: ImageSet) -> float | None:
    """Return the median short side, in pixels, of up to 64 images drawn; None where none of them can be read."""
    shorts = []
    for index in seeds.numpy_generator(0, "size").permutation(len(images))[:64]:
        with contextlib.suppress(OSError, ValueError):  # counted and listed when everything is decoded
            shorts.append(min(images.read(int(index)).shape[:2]))
    return float(np.median(shorts)) if shorts else None


def _place(images: ImageSet, side: int, options: DataOptions) -> Place:
    size = len(images) * side * side * 3 / GIGABYTE
    if size > options.stream_above_gb:
        return "stream"
    return "memory" if size <= options.memory_limit_gb else "file"


def decode_all(
    images: ImageSet,
    square: int | Square,
    *,
    options: DataOptions = _DEFAULT,
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[Pixels | None, ImageSet]:
    """Decode every image to its square, once; return the pixels and the images behind them.

    A number is the side of the usual square: the centre, by bicubic filtering.

    Row i of the pixels is image i of the returned set, which is without the files that turned out unreadable. Files in
    the folder ``cache`` spare later runs the work. Data too large for a cache is only checked, and the pixels are
    None: then decode each image when it is needed, with ``read_square``, to the very same pixels. Raises SlmlpError
    when more than 1 % of all files are unreadable (unless allowed), and when the cache cannot be written.
    """
    square = Square.of(square)
    place, key = _place(images, square.side, options), _key(images, square)
    path = None if cache is None else cache / f"pixels-{square.side}-{key[:16]}.npy"
    if place == "stream":
        return None, drop(images, _check(images, square, path, key, progress), options, cache)
    known = None if path is None else _read(path, key, len(images), square.side, place)
    if known is None:
        known = _decode(images, square, path, key, place, options, progress)
    data, problems = known
    images = drop(images, problems, options, cache)
    return Pixels(data, images.positions), images


def _key(images: ImageSet, square: Square) -> str:
    """Return what the pixels depend on; the fingerprint tells files apart that changed without changing size."""
    parts = [images.hash(), images.fingerprint, square.side, decode.VERSION, PIL.__version__, *square.marks]
    return files.hash_json(parts)


def _attempt(images: ImageSet, index: int, square: Square) -> ByteArray | str:
    try:
        return read_square(images, index, square)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check(images: ImageSet, square: Square, path: Path | None, key: str, progress: bool) -> dict[int, str]:
    """Return index -> reason of the unreadable images; that list is all that is kept of this pass."""
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, SlmlpError):
            return _entry(path, key)[1]

    def job(index: int) -> str | None:
        found = _attempt(images, index, square)
        return found if isinstance(found, str) else None

    results = work.in_threads(job, len(images), f"checking {images.name}", show=progress)
    problems = {i: reason for i, reason in results if reason is not None}
    if path is not None:
        files.write_json(path.with_suffix(".json"), {"key": key, "unreadable": problems})
    return problems


def _decode(
    images: ImageSet, square: Square, path: Path | None, key: str, place: Place, options: DataOptions, progress: bool
) -> tuple[ByteArray, dict[int, str]]:
    shape = (len(images), square.side, square.side, 3)
    if path is not None or place == "file":  # said before hours of decoding, not after
        folder = scratch(options) if path is None else path.parent
        what = f"decoded images of {images.name} at {square.side} px"
        fix = "choose another --cache-dir, or decode in every epoch (--stream-above-gb)"
        files.check_room(folder, int(np.prod(shape)), what, fix)
    if path is None:
        if place == "memory":
            data = np.empty(shape, dtype=np.uint8)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder) as file:  # its space is free again when the array is
                data = _mapped(Path(file.name), shape)
        problems = _fill(data, images, square, progress)
        return data[: len(images) - len(problems)], problems
    _sweep(path.parent)
    with files.atomic(path) as temporary:
        data = np.empty(shape, dtype=np.uint8) if place == "memory" else _mapped(temporary, shape)
        problems = _fill(data, images, square, progress)
        data[len(images) - len(problems) :] = 0
        if place == "memory":
            with temporary.open("wb") as file:
                np.save(file, data)
        else:
            data.flush()  # type: ignore[attr-defined] # a memmap
    data = data[: len(images) - len(problems)]
    checksum = _checksum(data) if place == "memory" else None
    entry = {"key": key, "images": len(data), "crc32": checksum, "unreadable": problems}
    files.write_json(path.with_suffix(".json"), entry)
    return data, problems


def _mapped(path: Path, shape: tuple[int, ...]) -> ByteArray:
    """Return a new .npy file as an array; its space is reserved now, since a disk full later would kill the process."""
    data = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return data


def _fill(data: ByteArray, images: ImageSet, square: Square, progress: bool) -> dict[int, str]:
    """Decode into the rows of ``data``, moved up over the gaps of unreadable images; return index -> reason."""

    def job(index: int) -> str | None:
        found = _attempt(images, index, square)
        if isinstance(found, str):
            return found
        data[index] = found
        return None

    results = work.in_threads(job, len(images), f"decoding {images.name}", show=progress)
    problems = {i: reason for i, reason in results if reason is not None}
    kept = np.array([i for i in range(len(images)) if i not in problems], dtype=np.int64)
    first = min(problems, default=len(images))
    for start in range(first, len(kept), 1024):
        block = kept[start : start + 1024]
        data[start : start + len(block)] = data[block]
    return problems


def _read(path: Path, key: str, count: int, side: int, place: Place) -> tuple[ByteArray, dict[int, str]] | None:
    """Return the pixels of a cache entry, or None when it is not there or not what is wanted."""
    try:
        entry, problems = _entry(path, key)
        good = count - len(problems)
        data = np.load(path, mmap_mode="r" if place == "file" else None, allow_pickle=False)
        if data.shape != (count, side, side, 3) or data.dtype != np.uint8 or entry["images"] != good or not good:
            return None
        data = data[:good]
        if place == "memory" and entry["crc32"] is not None and _checksum(data) != entry["crc32"]:
            return None
        return data, problems
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, SlmlpError):
        return None


def _entry(path: Path, key: str) -> tuple[dict[str, Any], dict[int, str]]:
    """Return the JSON of a cache entry and its unreadable images (index -> reason); KeyError for another key."""
    entry = files.read_json(path.with_suffix(".json"))
    if entry["key"] != key:
        raise KeyError(key)
    return entry, {int(i): str(reason) for i, reason in entry["unreadable"].items()}


def _checksum(data: ByteArray) -> int:
    return zlib.crc32(data.data)


def _sweep(folder: Path) -> None:
    """Remove the temporary files of runs that were killed while they wrote here."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".pixels-*.tmp"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
