"""Decode and resize every image once, into one array in memory or a memory-mapped file, cached between runs.

A cache entry is two files: ``pixels-SIDE-KEY.npy``, and beside it ``.json`` with the key, the number of images, the
checksum of the pixels and the unreadable files. The JSON is written last; an entry that differs is decoded again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
import PIL

from slmlp.config import DataOptions
from slmlp.data import decode
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Resize
from slmlp.data.readers import read_resized
from slmlp.data.scratch import scratch
from slmlp.data.sources.table import drop
from slmlp.runtime import files, json_files, seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import in_threads

STALE = 24 * 3600  # seconds after which a temporary file is taken for one of a killed run
GIGABYTE = 1e9
Storage = Literal["memory", "file", "stream"]


class Entry(TypedDict):
    """The JSON beside a cache file; streamed data have no file, and neither images nor checksum."""

    key: str
    unreadable: dict[str, str]  # index of the image -> reason
    images: NotRequired[int]
    crc32: NotRequired[int]


_DEFAULT = DataOptions()


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded images; read-only if memory-mapped."""

    data: ByteArray  # (N, side, side, 3)
    positions: IntArray  # (N,) of the images, as in ``ImageSet.positions``
    mark: str = ""  # of what was decoded and what came out, see ``files.contradicts``; empty without a cache

    def __len__(self) -> int:
        return len(self.data)

    def rows(self, images: ImageSet) -> IntArray:
        """Return the rows (M,) in ``data`` of a subset of M images of the same data."""
        order = np.argsort(self.positions)
        at = np.searchsorted(self.positions, images.positions, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        if not np.array_equal(self.positions[rows], images.positions):
            raise KeyError("some of these images were not decoded: take the images that decode_all returned")
        return rows.astype(np.int64)


def short_side(images: ImageSet) -> float | None:
    """Return the median short side, in pixels, of up to 64 random images; None if none of them can be read."""
    sides = []
    for index in seeds.numpy_generator(0, "size").permutation(len(images))[:64]:
        with contextlib.suppress(OSError, ValueError):  # decode_all lists these
            sides.append(min(images.read(int(index)).shape[:2]))
    return float(np.median(sides)) if sides else None


def _storage(images: ImageSet, side: int, options: DataOptions) -> Storage:
    size = len(images) * side * side * 3 / GIGABYTE
    if size > options.stream_above_gb:
        return "stream"
    return "memory" if size <= options.memory_limit_gb else "file"


def decode_all(
    images: ImageSet,
    resize: int | Resize,
    *,
    options: DataOptions = _DEFAULT,
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[Pixels | None, ImageSet]:
    """Decode and resize every image; return the pixels and the readable images, row by row.

    Args:
        images: the images.
        resize: a ``Resize``, or a side in pixels: the centre square, by bicubic filtering.
        options: limits of memory and disk, and whether unreadable files are allowed.
        cache: folder in which later runs find the pixels.
        progress: whether to show a progress bar.

    Returns:
        The pixels, and the images without unreadable ones. The pixels are None for data too large for a cache, which
        is only checked: decode each image when needed, with ``read_resized``, to the same pixels.

    Raises:
        SlmlpError: more than 1 % of all files are unreadable (unless allowed), or the cache cannot be written.
    """
    resize = Resize.of(resize)
    storage, (key, what) = _storage(images, resize.side, options), _keys(images, resize)
    path = None if cache is None else cache / f"pixels-{resize.side}-{key[:16]}.npy"
    if storage == "stream":
        return None, drop(images, _check(images, resize, path, key, progress), options, cache)
    cached = None if path is None else _read(path, key, len(images), resize.side, storage)
    if cached is None:
        cached = _decode(images, resize, path, key, storage, options, progress)
    data, problems, checksum = cached
    images = drop(images, problems, options, cache)
    return Pixels(data, images.positions, "" if checksum is None else f"{what[:16]}:{checksum:08x}"), images


def _keys(images: ImageSet, resize: Resize) -> tuple[str, str]:
    """Return hashes of all that the pixels depend on, with and without the files' times.

    The times detect changes that keep a file's size; files that were copied have others.
    """
    data_hash, how = images.hash(), [resize.side, decode.VERSION, PIL.__version__, *resize.marks]
    return files.hash_json([data_hash, images.fingerprint, *how]), files.hash_json([data_hash, *how])


def _attempt(images: ImageSet, index: int, resize: Resize) -> ByteArray | str:
    try:
        return read_resized(images, index, resize)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check(images: ImageSet, resize: Resize, path: Path | None, key: str, progress: bool) -> dict[int, str]:
    """Return index -> reason of the unreadable images; the cache stores only this list."""
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, SlmlpError):
            return _entry(path, key)[1]

    def job(index: int) -> str | None:
        result = _attempt(images, index, resize)
        return result if isinstance(result, str) else None

    results = in_threads(job, len(images), f"checking {images.name}", show=progress)
    problems = {i: reason for i, reason in results if reason is not None}
    if path is not None:
        json_files.write(path.with_suffix(".json"), {"key": key, "unreadable": problems}, seal=True)
    return problems


def _decode(
    images: ImageSet,
    resize: Resize,
    path: Path | None,
    key: str,
    storage: Storage,
    options: DataOptions,
    progress: bool,
) -> tuple[ByteArray, dict[int, str], int | None]:
    """Return the pixels, index -> reason of unreadable images, and the checksum of what is cached."""
    shape = (len(images), resize.side, resize.side, 3)
    if path is not None or storage == "file":  # check the disk before hours of decoding
        folder = scratch(options) if path is None else path.parent
        what = f"decoded images of {images.name} at {resize.side} px"
        fix = "choose another --cache-dir, or decode in every epoch (--stream-above-gb)"
        files.check_room(folder, int(np.prod(shape)), what, fix)
    if path is None:
        if storage == "memory":
            data = np.empty(shape, dtype=np.uint8)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder) as file:  # unlinked: its space is freed with the array
                data = _mapped(Path(file.name), shape)
        problems = _fill(data, images, resize, progress)
        return data[: len(images) - len(problems)], problems, None
    _sweep(path.parent)
    with files.atomic(path) as temporary:
        data = np.empty(shape, dtype=np.uint8) if storage == "memory" else _mapped(temporary, shape)
        problems = _fill(data, images, resize, progress)
        data[len(images) - len(problems) :] = 0
        if storage == "memory":
            with temporary.open("wb") as file:
                np.save(file, data)
        else:
            data.flush()  # type: ignore[attr-defined] # a memmap
    data = data[: len(images) - len(problems)]
    checksum = _checksum(data)
    entry = {"key": key, "images": len(data), "crc32": checksum, "unreadable": problems}
    json_files.write(path.with_suffix(".json"), entry, seal=True)
    return data, problems, checksum


def _mapped(path: Path, shape: tuple[int, ...]) -> ByteArray:
    """Return a new .npy file as an array, its disk space allocated: a full disk later would kill the process."""
    data = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return data


def _fill(data: ByteArray, images: ImageSet, resize: Resize, progress: bool) -> dict[int, str]:
    """Decode into ``data``, without gaps for unreadable images; return index -> reason of those."""

    def job(index: int) -> str | None:
        result = _attempt(images, index, resize)
        if isinstance(result, str):
            return result
        data[index] = result
        return None

    results = in_threads(job, len(images), f"decoding {images.name}", show=progress)
    problems = {i: reason for i, reason in results if reason is not None}
    readable = np.array([i for i in range(len(images)) if i not in problems], dtype=np.int64)
    first = min(problems, default=len(images))
    for start in range(first, len(readable), 1024):
        block = readable[start : start + 1024]
        data[start : start + len(block)] = data[block]
    return problems


def _read(
    path: Path, key: str, count: int, side: int, storage: Storage
) -> tuple[ByteArray, dict[int, str], int | None] | None:
    """Return the pixels of a cache entry, or None if there is no valid one."""
    try:
        entry, problems = _entry(path, key)
        good = count - len(problems)
        data = np.load(path, mmap_mode="r" if storage == "file" else None, allow_pickle=False)
        if data.shape != (count, side, side, 3) or data.dtype != np.uint8 or entry["images"] != good or not good:
            return None
        data = data[:good]
        if _checksum(data) != entry["crc32"]:
            return None
        return data, problems, entry["crc32"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, SlmlpError):
        return None


def _entry(path: Path, key: str) -> tuple[Entry, dict[int, str]]:
    """Return the JSON of a cache entry and its unreadable images (index -> reason); KeyError for another key."""
    entry = json_files.read(path.with_suffix(".json"), Entry)
    if entry["key"] != key:
        raise KeyError(key)
    return entry, {int(i): reason for i, reason in entry["unreadable"].items()}


def _checksum(data: ByteArray) -> int:
    value = 0
    for start in range(0, len(data), 1024):  # some at a time: the array may lie on the disk
        value = zlib.crc32(data[start : start + 1024].data, value)
    return value


def _sweep(folder: Path) -> None:
    """Remove the temporary files of killed runs."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".pixels-*.tmp"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
