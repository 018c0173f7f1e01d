"""The image cache: images decoded once into squares where they fit, streamed where they do not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slmlp.config import DataOptions
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Square
from slmlp.data.pixels import Pixels, decode_all, short_side
from slmlp.data.readers import read_square
from slmlp.runtime import processes, work
from slmlp.runtime.errors import SlmlpError

AHEAD = 2  # batches that are read while another is in use
# a square of more than so many times an image's short side takes a millisecond to make, and to keep it would take the
# disk four times and more of the pixels there are: 14 GB for 70,000 images of 28 pixels under an encoder of 224
ENLARGED = 2


def shared_memory(options: DataOptions) -> DataOptions:
    """Return the options for one of several processes: the processes of a machine share its memory.

    What is then too large for the memory of each is one memory-mapped file, whose pages they all use.
    """
    return replace(options, memory_limit_gb=options.memory_limit_gb / processes.local_size())


class ImageCache:
    """Images and their squares, of each kind that was asked for; rows count from 0 in the order of ``images``.

    A number for a square is the side of the usual one: the centre, by bicubic filtering. What turns out unreadable
    while it is decoded is left out and listed in ``images.unreadable``. The square that an image cache is opened with
    is kept; another that only enlarges the images is made whenever it is read, to the very same pixels.
    """

    def __init__(
        self, images: ImageSet, options: DataOptions, cache: Path | None, square: int | Square, progress: bool
    ) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self._squares: dict[Square, Pixels] = {}
        pixels, self.images = decode_all(images, square, options=options, cache=cache, progress=progress)
        self.streamed = pixels is None
        if pixels is not None:
            self._squares[Square.of(square)] = pixels
        self._row = {name: row for row, name in enumerate(self.images.ids)}

    @classmethod
    def of_small(
        cls, images: ImageSet, options: DataOptions, cache: Path | None, square: int | Square, progress: bool
    ) -> ImageCache:
        """Return a cache for evaluation: images that the encoder would enlarge are kept at their own size.

        Training reads its square in every epoch, and opens its image_cache with it.
        """
        square, short = Square.of(square), short_side(images)
        kept = square if short is None or square.side <= ENLARGED * short else Square(int(short))
        return cls(images, options, cache, kept, progress)

    def rows(self, subset: ImageSet) -> IntArray:
        """Return the rows of a subset's images."""
        return np.array([self._row[name] for name in subset.ids], dtype=np.int64)

    def squares(self, rows: IntArray, square: int | Square) -> Tensor:
        """Return uint8 squares (len(rows), side, side, 3)."""
        square = Square.of(square)
        if self.streamed:  # by worker processes, where there is much to read
            return torch.from_numpy(np.stack([self._read(int(row), square) for row in rows]))
        if self._made_when_read(square):
            with ThreadPoolExecutor(work.cores()) as pool:
                return self._begin(pool, rows, square)()
        if square not in self._squares:
            pixels, kept = decode_all(
                self.images, square, options=self.options, cache=self.cache, progress=self.progress
            )
            if pixels is None or kept.ids != self.images.ids:
                raise SlmlpError(f"files of {self.images.source} changed while they were read; run again")
            self._squares[square] = pixels
        return torch.from_numpy(self._squares[square].data[rows])

    def batches(self, rows: IntArray, square: int | Square, size: int) -> Iterator[Tensor]:
        """Yield ``squares`` of ``size`` rows at a time, the next ones read by threads while the caller uses one."""
        square = Square.of(square)
        kept = not self._made_when_read(square)
        if len(rows) and kept:
            self.squares(rows[:1], square)  # what is decoded as a whole has threads of its own
        # each core decodes what is not kept; else one thread copies from memory, or pages a file in
        pool = ThreadPoolExecutor(1 if kept else work.cores())
        ahead: deque[Callable[[], Tensor]] = deque()
        try:
            for start in range(0, len(rows), size):
                ahead.append(self._begin(pool, rows[start : start + size], square))
                if len(ahead) > AHEAD:
                    yield ahead.popleft()()
            while ahead:
                yield ahead.popleft()()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _made_when_read(self, square: Square) -> bool:
        """Return whether nothing is kept of a square."""
        if self.streamed or square in self._squares:
            return self.streamed
        return self._short is not None and square.side > ENLARGED * self._short

    @cached_property
    def _short(self) -> float | None:
        return short_side(self.images)

    def _begin(self, pool: ThreadPoolExecutor, rows: IntArray, square: Square) -> Callable[[], Tensor]:
        """Start reading a batch; return what waits for it."""
        if not self._made_when_read(square):
            return pool.submit(self.squares, rows, square).result
        images: list[Future[ByteArray]] = [pool.submit(self._read, int(row), square) for row in rows]
        return lambda: torch.from_numpy(np.stack([image.result() for image in images]))

    def originals(self, rows: IntArray) -> list[ByteArray]:
        """Return images (H, W, 3) at their own size, decoded now."""
        return [self._read(int(row), None) for row in rows]

    def _read(self, row: int, square: Square | None) -> ByteArray:
        try:
            return self.images.read(row) if square is None else read_square(self.images, row, square)
        except (OSError, ValueError) as error:
            raise SlmlpError(
                f"cannot read {self.images.ids[row]}: {error}; restore the file, then run the same command again"
            ) from error
