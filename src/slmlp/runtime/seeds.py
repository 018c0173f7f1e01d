"""Derive independent random generators from the run's seed and words that name their use.

Two methods of one seed start from the same encoder and see the same images in the same order and augmentation,
whatever other random numbers each draws. Resuming needs no saved generator state, because epoch and step are among the
words.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from slmlp.runtime import processes

if TYPE_CHECKING:
    import torch


def derive(seed: int, *words: str | int) -> int:
    """Return a 63-bit seed for the use that ``words`` name, independent of other uses.

    >>> derive(0, "order", 1) == derive(0, "order", 1), derive(0, "order", 1) == derive(0, "order", 2)
    (True, False)
    """
    text = "/".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *words: str | int) -> np.random.Generator:
    """Return a NumPy generator for the use that ``words`` name; NumPy's global state is untouched."""
    return np.random.default_rng(derive(seed, *words))


def torch_generator(seed: int, *words: str | int) -> torch.Generator:
    """Return a CPU torch generator for the use that ``words`` name; torch's global state is untouched."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *words))


@contextlib.contextmanager
def seeded(seed: int, *words: str | int) -> Iterator[None]:
    """Seed torch's global generator for ``words`` during a block; restore its state afterwards.

    For code that has no generator argument: weight initialisation, dropout.
    """
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    if devices and processes.is_distributed():  # other ranks use the other devices
        devices = [torch.cuda.current_device()]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *words))
        yield
