"""A user's images made ready: decoded once into squares where they fit, streamed where they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slmlp import processes
from slmlp.config import DataOptions
from slmlp.data.dataset import ByteArray, ImageSet, IntArray
from slmlp.data.pixels import Pixels, decode_all
from slmlp.data.readers import read_square
from slmlp.errors import SlmlpError


def shared_memory(options: DataOptions) -> DataOptions:
    """Return the options for one of several processes: the processes of a machine share its memory.

    What is then too large for the memory of each is one memory-mapped file, whose pages they all use.
    """
    return replace(options, memory_limit_gb=options.memory_limit_gb / processes.local_size())


class Corpus:
    """Images and their squares at the sides that were asked for; rows count from 0 in the order of ``images``.

    What turns out unreadable while it is decoded is left out and listed in ``images.unreadable``.
    """

    def __init__(self, images: ImageSet, options: DataOptions, cache: Path | None, side: int, progress: bool) -> None:
        self.options, self.cache, self.progress = options, cache, progress
        self._squares: dict[int, Pixels] = {}
        pixels, self.images = decode_all(images, side, options=options, cache=cache, progress=progress)
        self.streamed = pixels is None
        if pixels is not None:
            self._squares[side] = pixels
        self._row = {name: row for row, name in enumerate(self.images.ids)}

    def rows(self, subset: ImageSet) -> IntArray:
        """Return the rows of a subset's images."""
        return np.array([self._row[name] for name in subset.ids], dtype=np.int64)

    def squares(self, rows: IntArray, side: int) -> Tensor:
        """Return uint8 squares (len(rows), side, side, 3): short side to ``side``, centre crop."""
        if self.streamed:
            return torch.from_numpy(np.stack([self._read(int(row), side) for row in rows]))
        if side not in self._squares:
            pixels, kept = decode_all(self.images, side, options=self.options, cache=self.cache, progress=self.progress)
            if pixels is None or kept.ids != self.images.ids:
                raise SlmlpError(f"files of {self.images.source} changed while they were read; run again")
            self._squares[side] = pixels
        return torch.from_numpy(self._squares[side].data[rows])

    def originals(self, rows: IntArray) -> list[ByteArray]:
        """Return images (H, W, 3) at their own size, decoded now."""
        return [self._read(int(row), None) for row in rows]

    def _read(self, row: int, side: int | None) -> ByteArray:
        try:
            return self.images.read(row) if side is None else read_square(self.images, row, side)
        except (OSError, ValueError) as error:
            raise SlmlpError(
                f"cannot read {self.images.ids[row]}: {error}; restore the file, then run the same command again"
            ) from error
