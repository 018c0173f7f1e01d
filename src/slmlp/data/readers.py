"""Read images by index from a folder, a tar or an array. Readers are picklable and thread-safe."""

from __future__ import annotations

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.data import decode
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Resize
from slmlp.runtime import files


class BytesReader(ABC):
    """Reader of encoded image files."""

    @abstractmethod
    def raw(self, index: int, size: int | None = None) -> bytes:
        """Return the file of image ``index``, or its first ``size`` bytes; raise OSError when it cannot be read."""

    def __call__(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB uint8 (H, W, 3), at its own size."""
        return decode.decode(self.raw(index))


class FileReader(BytesReader):
    """Files below ``root``; a name may also be absolute."""

    def __init__(self, root: str | Path, names: Sequence[str]) -> None:
        self.root = str(root)
        self.names = tuple(names)

    def raw(self, index: int, size: int | None = None) -> bytes:
        """Return the file's content or its first ``size`` bytes."""
        with open(os.path.join(self.root, self.names[index]), "rb") as file:  # noqa: PTH118, PTH123 - a Path a read is slow
            return file.read(-1 if size is None else size)


class TarReader(BytesReader):
    """Members of an uncompressed tar, read by offset; nothing is extracted."""

    def __init__(self, path: Path, offsets: npt.ArrayLike, sizes: npt.ArrayLike) -> None:
        self.path = path
        self.offsets: IntArray = np.asarray(offsets, dtype=np.int64)
        self.sizes: IntArray = np.asarray(sizes, dtype=np.int64)
        self.stamp = stamp(path)
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        if stamp(self.path) != self.stamp:
            raise OSError(f"{self.path} changed while it was in use")

    def raw(self, index: int, size: int | None = None) -> bytes:
        """Return the member's content or its first ``size`` bytes."""
        length = int(self.sizes[index]) if size is None else min(size, int(self.sizes[index]))
        content = os.pread(self._file, length, int(self.offsets[index]))
        if len(content) < length:
            raise OSError(f"{self.path} ends inside this image")
        return content

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file: another process opens its own."""
        return {k: v for k, v in vars(self).items() if k != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the tar again."""
        vars(self).update(state)
        self._open()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)


class ArrayReader:
    """Pixels (N, H, W) or (N, H, W, C) with C of 1, 3 or 4, uint8, in memory."""

    def __init__(self, pixels: ByteArray) -> None:
        self.pixels = pixels

    def __call__(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB uint8 (H, W, 3)."""
        return decode.to_rgb(self.pixels[index])

    def fingerprint(self) -> str:
        """Return the SHA-256 of all pixels and their shape."""
        chunks = (self.pixels[i : i + 1024].tobytes() for i in range(0, len(self.pixels), 1024))
        return files.sha256(itertools.chain([repr(self.pixels.shape).encode()], chunks))


def stamp(path: Path) -> str:
    """Return a file's size and modification time in nanoseconds, to detect that it was replaced."""
    status = path.stat()
    return f"{status.st_size}.{status.st_mtime_ns}"


def read_resized(images: ImageSet, index: int, resize: int | Resize) -> ByteArray:
    """Read image ``index`` resized to (side, side, 3); the same pixels as in the cache.

    Raises:
        OSError, ValueError: the image cannot be read.
    """
    position, reader = int(images.positions[index]), images.reader
    if isinstance(reader, BytesReader):
        return decode.decode_resized(reader.raw(position), resize)
    return decode.resize_image(reader(position), resize)


def content(images: ImageSet, index: int, size: int | None = None) -> bytes:
    """Return the (first ``size``) bytes of image ``index``'s file, or of its pixels where the data is an array."""
    position, reader = int(images.positions[index]), images.reader
    if isinstance(reader, BytesReader):
        return reader.raw(position, size)
    return (reader.pixels[position] if isinstance(reader, ArrayReader) else reader(position)).tobytes()[:size]
