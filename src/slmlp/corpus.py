"""A user's images made ready: decoded once into squares where they fit, streamed where they do not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slmlp import processes
from slmlp.config import DataOptions
from slmlp.data import work
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.decode import Square
from slmlp.data.pixels import Pixels, decode_all
from slmlp.data.readers import read_square
from slmlp.errors import SlmlpError

AHEAD = 2  # batches that are read while another is in use


def shared_memory(options: DataOptions) -> DataOptions:
    """Return the options for one of several processes: the processes of a machine share its memory.

    What is then too large for the memory of each is one memory-mapped file, whose pages they all use.
    """
    return replace(options, memory_limit_gb=options.memory_limit_gb / processes.local_size())


class Corpus:
    """Images and their squares, of each kind that was asked for; rows count from 0 in the order of ``images``.

    A number for a square is the side of the usual one: the centre, by bicubic filtering. What turns out unreadable
    while it is decoded is left out and listed in ``images.unreadable``.
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

    def rows(self, subset: ImageSet) -> IntArray:
        """Return the rows of a subset's images."""
        return np.array([self._row[name] for name in subset.ids], dtype=np.int64)

    def squares(self, rows: IntArray, square: int | Square) -> Tensor:
        """Return uint8 squares (len(rows), side, side, 3)."""
        square = Square.of(square)
        if self.streamed:
            return torch.from_numpy(np.stack([self._read(int(row), square) for row in rows]))
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
        if len(rows) and not self.streamed:
            self.squares(rows[:1], square)  # what is decoded as a whole has threads of its own
        # where images are streamed each core decodes; else one thread copies from memory, or pages a file in
        pool = ThreadPoolExecutor(work.cores() if self.streamed else 1)
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

    def _begin(self, pool: ThreadPoolExecutor, rows: IntArray, square: Square) -> Callable[[], Tensor]:
        """Start reading a batch; return what waits for it."""
        if not self.streamed:
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
