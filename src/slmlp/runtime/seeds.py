"""Independent random generators, each derived from the run's seed and the words that name its use.

Two methods of one seed therefore start from the same encoder and see the same images in the same order with the same
augmentation, however many numbers the other parts of the run have drawn; and nothing needs the state of a generator
saved to be resumed, since the words (epoch and step among them) say where it stands.
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
    """Return a 63-bit seed for the use that ``words`` name, independent of every other use's.

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
    """Run a block with torch's global generator seeded for ``words``, and put its state back afterwards.

    For what draws from the global generator and cannot be handed another: weight initialisation, dropout.
    """
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    if devices and processes.is_distributed():  # the others belong to other processes
        devices = [torch.cuda.current_device()]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *words))
        yield
