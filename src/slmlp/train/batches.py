"""Which images stand in which step, and their views: a function of seed and step alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slmlp.data.augment import Augment, training_side
from slmlp.data.augment.draws import Draws
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import IntArray
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

Batch = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """The order of a run: which of N images each step sees. The rest of an epoch below one batch is left out."""

    labels: IntArray  # (N,)
    batch_size: int
    epochs: int
    seed: int
    balanced: bool

    def __post_init__(self) -> None:
        """Refuse a batch that no epoch fills."""
        if self.batch_size > len(self.labels):
            raise SlmlpError(
                f"--batch-size {self.batch_size} is more than the {len(self.labels)} training images; "
                "choose at most that"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.labels) // self.batch_size

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.steps_per_epoch * self.epochs

    def order(self, epoch: int) -> IntArray:
        """Return the positions (N,) of an epoch's images, in order."""
        rng = seeds.numpy_generator(self.seed, "order", epoch)
        n = len(self.labels)
        if not self.balanced:
            return rng.permutation(n)
        members = [np.flatnonzero(self.labels == c) for c in np.unique(self.labels)]
        share = -(-n // len(members))
        drawn = []
        for group in members:
            # whole permutations, so that an image comes again only when all of its class have been
            rounds = [rng.permutation(group) for _ in range(-(-share // len(group)))]
            drawn.append(np.concatenate(rounds)[:share])
        return rng.permutation(np.concatenate(drawn))[:n]


class Batches(torch.utils.data.Dataset[Batch]):
    """Views and labels of a step. Reading step 7 twice, here or in another process, gives the same tensors."""

    def __init__(
        self, image_cache: ImageCache, rows: IntArray, plan: Plan, views: Sequence[Augment], part: slice = slice(None)
    ) -> None:
        """Take the rows of the cache to train on, what makes each view, and this process's part of a batch."""
        self.image_cache, self.rows, self.plan, self.views, self.part = image_cache, rows, plan, views, part
        self.side = training_side(max(view.size for view in views))
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.plan.total

    def __getitem__(self, step: int) -> Batch:
        """Return views, each float32 (N, 3, size, size), and labels (N,), of the part."""
        epoch, inside = divmod(step, self.plan.steps_per_epoch)
        if epoch != self._epoch:  # an order is as long as the data: keep the current one
            self._epoch, self._order = epoch, self.plan.order(epoch)
        chosen = self._order[inside * self.plan.batch_size : (inside + 1) * self.plan.batch_size][self.part]
        return self._views(self.rows[chosen], step), torch.from_numpy(self.plan.labels[chosen])

    def _views(self, rows: IntArray, step: int) -> list[Tensor]:
        draws = [
            Draws(seeds.torch_generator(self.plan.seed, "augment", step, view), self.plan.batch_size, self.part)
            for view in range(len(self.views))
        ]
        if self.image_cache.streamed and self.views[0].crops_originals:
            originals = self.image_cache.originals(rows)
            return [view.from_originals(originals, d) for view, d in zip(self.views, draws, strict=True)]
        squares = self.image_cache.squares(rows, self.side)
        return [view(squares, d) for view, d in zip(self.views, draws, strict=True)]

    def iterate(self, start: int, workers: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to the end; decoded ahead by worker processes where streamed."""
        steps = range(start, len(self))
        if not self.image_cache.streamed or workers == 0:
            yield from (self[step] for step in steps)
            return
        yield from torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=4,
            worker_init_fn=_worker,
            pin_memory=torch.cuda.is_available(),
        )


def _worker(_: int) -> None:
    torch.set_num_threads(1)
    # a launcher signals whole process groups: training decides when to stop, and ends its workers itself
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
