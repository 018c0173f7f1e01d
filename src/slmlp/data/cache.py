"""Cache images decoded and resized, in memory or in a file; stream the sets that are too large."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.config import DataOptions
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Resize
from slmlp.data.pixels import Pixels, decode_all, short_side
from slmlp.data.readers import read_resized
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import cores

BoolArray = npt.NDArray[np.bool_]
PREFETCH = 2  # batches read while another is in use
# Enlarging an image by more than this factor takes a millisecond, and caching the result takes over four times the
# pixels of the originals: 14 GB for 70,000 images of 28 pixels and an encoder of 224. So it is repeated at every read.
ENLARGED = 2


def shared_memory(options: DataOptions) -> DataOptions:
    """Return the options for one of several processes, which share a machine's memory equally.

    Pixels above this limit go to one memory-mapped file, whose pages the processes share.
    """
    return replace(options, memory_limit_gb=options.memory_limit_gb / processes.local_size())


def small(images: ImageSet, resize: int | Resize) -> Resize:
    """Return the size that images are cached at for evaluation: their own, where the encoder would enlarge them."""
    resize, short = Resize.of(resize), short_side(images)
    return resize if short is None or resize.side <= ENLARGED * short else Resize(int(short))


class ImageCache:
    """Images and their resized copies, decoded when first needed; row i is ``images[i]``.

    ``resize`` is a ``Resize``, or a side in pixels: the centre square, by bicubic filtering. Unreadable images are left
    out and listed in ``images.unreadable``. Sizes that only enlarge the images are computed at every read, to the same
    pixels, except the one that the cache is opened with.
    """

    def __init__(
        self, images: ImageSet, options: DataOptions, cache: Path | None, resize: int | Resize, progress: bool
    ) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self._pixels: dict[Resize, Pixels] = {}
        pixels, self.images = decode_all(images, resize, options=options, cache=cache, progress=progress)
        self.streamed = pixels is None
        self.mark = pixels.mark if pixels else ""  # of the pixels, see ``files.contradicts``
        if pixels is not None:
            self._pixels[Resize.of(resize)] = pixels
        self._row = {name: row for row, name in enumerate(self.images.ids)}

    @classmethod
    def of_small(
        cls, images: ImageSet, options: DataOptions, cache: Path | None, resize: int | Resize, progress: bool
    ) -> ImageCache:
        """Return a cache for evaluation: images that the encoder would enlarge are cached at their own size.

        Training reads its size in every epoch, so it opens the cache with that size.
        """
        return cls(images, options, cache, small(images, resize), progress)

    def rows(self, subset: ImageSet) -> IntArray:
        """Return the rows of a subset's images."""
        return np.array([self._row[name] for name in subset.ids], dtype=np.int64)

    def held(self, subset: ImageSet) -> BoolArray:
        """Return which of a subset's images are here (N,): those that could be read."""
        return np.array([name in self._row for name in subset.ids], dtype=np.bool_)

    def squares(self, rows: IntArray, resize: int | Resize) -> Tensor:
        """Return resized images, uint8 (len(rows), side, side, 3)."""
        resize = Resize.of(resize)
        if self.streamed:  # without threads: worker processes call this
            return torch.from_numpy(np.stack([self._read(int(row), resize) for row in rows]))
        if self._resized_when_read(resize):
            with ThreadPoolExecutor(cores()) as pool:
                return self._submit(pool, rows, resize)()
        if resize not in self._pixels:
            pixels, images = decode_all(
                self.images, resize, options=self.options, cache=self.cache, progress=self.progress
            )
            if pixels is None or images.ids != self.images.ids:
                raise SlmlpError(f"files of {self.images.source} changed while they were read; run again")
            self._pixels[resize] = pixels
        return torch.from_numpy(self._pixels[resize].data[rows])

    def batches(self, rows: IntArray, resize: int | Resize, size: int) -> Iterator[Tensor]:
        """Yield ``squares`` of ``size`` rows at a time; threads read ahead."""
        resize = Resize.of(resize)
        cached = not self._resized_when_read(resize)
        if len(rows) and cached:
            self.squares(rows[:1], resize)  # decode the whole set now, which starts threads of its own
        # one thread copies from memory or a file; without a cache each core decodes
        pool = ThreadPoolExecutor(1 if cached else cores())
        pending: deque[Callable[[], Tensor]] = deque()
        try:
            for start in range(0, len(rows), size):
                pending.append(self._submit(pool, rows[start : start + size], resize))
                if len(pending) > PREFETCH:
                    yield pending.popleft()()
            while pending:
                yield pending.popleft()()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _resized_when_read(self, resize: Resize) -> bool:
        """Return whether images of this size are computed at every read instead of cached."""
        if self.streamed or resize in self._pixels:
            return self.streamed
        return self._short is not None and resize.side > ENLARGED * self._short

    @cached_property
    def _short(self) -> float | None:
        return short_side(self.images)

    def _submit(self, pool: ThreadPoolExecutor, rows: IntArray, resize: Resize) -> Callable[[], Tensor]:
        """Start reading a batch; return a function that waits for it."""
        if not self._resized_when_read(resize):
            return pool.submit(self.squares, rows, resize).result
        images: list[Future[ByteArray]] = [pool.submit(self._read, int(row), resize) for row in rows]
        return lambda: torch.from_numpy(np.stack([image.result() for image in images]))

    def originals(self, rows: IntArray) -> list[ByteArray]:
        """Decode images (H, W, 3) at their own size."""
        return [self._read(int(row), None) for row in rows]

    def _read(self, row: int, resize: Resize | None) -> ByteArray:
        try:
            return self.images.read(row) if resize is None else read_resized(self.images, row, resize)
        except (OSError, ValueError) as error:
            raise SlmlpError(
                f"cannot read {self.images.ids[row]}: {error}; restore the file, then run the same command again"
            ) from error
