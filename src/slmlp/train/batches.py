"""The batches of a run: which images each step sees, and their views, as functions of seed and step alone."""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from slmlp.data.augment import Augment, training_side
from slmlp.data.augment.draws import Choices, Draws
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import IntArray
from slmlp.data.decode import Resize
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.transfer import on_device

T = TypeVar("T")
CPU = torch.device("cpu")
COPIED = 1024  # images that are copied to the device at a time
AHEAD = 2  # batches of cached images that are read while another is in use


@dataclass(frozen=True)
class Plan:
    """The order of a run: which of N images each step sees.

    With ``drop_last`` every epoch is whole batches, and the images left over are not used in that epoch; without it
    the permutations follow one another and a batch may span two of them.
    """

    images: int  # N
    batch_size: int
    total: int  # steps
    seed: int
    use: str = "order"  # names the use of the seed
    drop_last: bool = True
    labels: IntArray | None = None  # (N,)
    balanced: bool = False  # every class equally often in each epoch
    _orders: dict[int, IntArray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_epochs(cls, labels: IntArray, batch_size: int, epochs: int, seed: int, balanced: bool = False) -> Plan:
        """Return the plan of ``epochs`` epochs over images with ``labels`` (N,), in whole batches."""
        total = len(labels) // batch_size * epochs
        return cls(len(labels), batch_size, total, seed, labels=labels, balanced=balanced)

    def __post_init__(self) -> None:
        """Reject a batch that would hold an image twice."""
        if self.batch_size > self.images:
            raise SlmlpError(
                f"--batch-size {self.batch_size} is more than the {self.images} training images that can be used; "
                "choose at most that"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.images // self.batch_size

    def epoch(self, step: int) -> int:
        """Return the epoch, from 1, in which step ``step`` (counted from 1) ends."""
        if self.drop_last:
            return (step - 1) // self.steps_per_epoch + 1
        return (step * self.batch_size - 1) // self.images + 1

    def ends_epoch(self, step: int) -> bool:
        """Return whether an epoch ends with step ``step`` (counted from 1); never where batches span epochs."""
        return self.drop_last and step % self.steps_per_epoch == 0

    def chosen(self, step: int) -> IntArray:
        """Return the positions (batch_size,) of the images of a step, counted from 0."""
        per_epoch = self.steps_per_epoch * self.batch_size if self.drop_last else self.images
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, inside = np.divmod(places, per_epoch)
        return np.concatenate([self._cached_order(int(e))[inside[epochs == e]] for e in np.unique(epochs)])

    def order(self, epoch: int) -> IntArray:
        """Return the positions (N,) of the images of an epoch (counted from 0), in order."""
        rng = seeds.numpy_generator(self.seed, self.use, epoch)
        if not self.balanced or self.labels is None:
            return rng.permutation(self.images)
        members = [np.flatnonzero(self.labels == c) for c in np.unique(self.labels)]
        share = -(-self.images // len(members))
        of_classes = []
        for group in members:
            # whole permutations, so that an image comes again only when all of its class have been
            rounds = [rng.permutation(group) for _ in range(-(-share // len(group)))]
            of_classes.append(np.concatenate(rounds)[:share])
        return rng.permutation(np.concatenate(of_classes))[: self.images]

    def _cached_order(self, epoch: int) -> IntArray:
        if epoch not in self._orders:
            for old in [key for key in self._orders if key != epoch - 1]:  # an order is as long as the data
                del self._orders[old]
            self._orders[epoch] = self.order(epoch)
        return self._orders[epoch]


def split(inputs: tuple[Any, ...], parts: int) -> list[tuple[Any, ...]]:
    """Return the inputs of a forward pass, tensors of N images or lists of them, as equal parts of the images.

    >>> split(([torch.zeros(4, 2)], torch.arange(4)), 2)[1]
    ([tensor([[0., 0.],
            [0., 0.]])], tensor([2, 3]))
    """
    if parts == 1:
        return [inputs]
    chunks = [[x.chunk(parts) for x in given] if isinstance(given, list) else given.chunk(parts) for given in inputs]
    return [
        tuple([x[i] for x in given] if isinstance(given, list) else given[i] for given in chunks) for i in range(parts)
    ]


class StepDataset(torch.utils.data.Dataset[T]):
    """Batches by step. Reading step 7 twice, in this process or another, gives the same tensors."""

    prefetch = 4  # batches that each worker process loads ahead

    def __init__(self, plan: Plan, part: slice = slice(None)) -> None:
        """Take the plan, and the part of each batch that belongs to this process."""
        self.plan, self.part = plan, part

    def __len__(self) -> int:
        return self.plan.total

    @abstractmethod
    def __getitem__(self, step: int) -> T:
        """Return the batch of a step, counted from 0."""

    @abstractmethod
    def inputs(self, batch: T, compute: Compute) -> tuple[Any, ...]:
        """Return the arguments of the model's forward pass, on the device."""

    def iterate(self, start: int, workers: int) -> Iterator[T]:
        """Yield the batches of steps ``start`` to the end, loaded ahead by ``workers`` processes (0: none)."""
        steps = range(start, len(self))
        if workers == 0:
            yield from (self[step] for step in steps)
            return
        yield from torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=self.prefetch,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )


@dataclass(frozen=True)
class Batch:
    """What the host prepares of a step: which images, their pixels where the device has none, and what is random."""

    chosen: IntArray  # (N,), positions among the training images
    labels: Tensor  # (N,)
    # uint8 (N, S, S, 3): one for all views, or one for each that is cut already; none where the device holds all
    images: list[Tensor]
    choices: list[Choices] | None  # of each view; None: ``images`` are the views

    def pin_memory(self) -> Batch:
        """Return the batch with its images in memory that a GPU copies from while others work (see DataLoader)."""
        return replace(self, labels=self.labels.pin_memory(), images=[x.pin_memory() for x in self.images])


class Batches(StepDataset[Batch]):
    """Views, each float32 (N, 3, size, size), and labels (N,) of a step; views are made on ``device``.

    Images that fit ``DataOptions.device_memory_gb`` are copied to a GPU once, at the first step, and others batch by
    batch, while the GPU works on the batch before. On a CPU, streamed images are made into views by those who decode.
    """

    def __init__(
        self,
        image_cache: ImageCache,
        rows: IntArray,
        plan: Plan,
        views: Sequence[Augment],
        part: slice = slice(None),
        device: torch.device = CPU,
        interpolation: str = "bicubic",
    ) -> None:
        """Take the rows of the cache to train on, what makes each view and where, and the filter of the resize."""
        super().__init__(plan, part)
        self.image_cache, self.rows, self.views, self.device = image_cache, rows, views, device
        self.resize = Resize(training_side(max(view.size for view in views)), interpolation)
        custom = any(view.custom for view in views)
        self.made_by_host = custom or (image_cache.streamed and device.type == "cpu")
        small = len(rows) * self.resize.side**2 * 3 <= image_cache.options.device_memory_gb * 1e9
        self.resident = small and device.type != "cpu" and not image_cache.streamed and not custom

    def __getitem__(self, step: int) -> Batch:
        """Return what the host prepares of this process's part of the batch."""
        assert self.plan.labels is not None
        chosen = self.plan.chosen(step)[self.part]
        draws = [
            Draws(seeds.torch_generator(self.plan.seed, "augment", step, view), self.plan.batch_size, self.part)
            for view in range(len(self.views))
        ]
        images: list[Tensor] = []
        if self.image_cache.streamed and self.views[0].crops_originals:
            originals = self.image_cache.originals(self.rows[chosen])
            cut = [view.cut(originals, d) for view, d in zip(self.views, draws, strict=True)]
            images, choices = [crops for crops, _ in cut], [left for _, left in cut]
        else:
            choices = [view.draw(d) for view, d in zip(self.views, draws, strict=True)]
            if not self.resident:
                images = [self.image_cache.squares(self.rows[chosen], self.resize)]
        batch = Batch(chosen, torch.from_numpy(self.plan.labels[chosen]), images, choices)
        return replace(batch, images=self._views(batch), choices=None) if self.made_by_host else batch

    def _views(self, batch: Batch) -> list[Tensor]:
        """Return the views of a batch, made where its images are."""
        assert batch.choices is not None
        images = batch.images if len(batch.images) == len(self.views) else batch.images * len(self.views)
        return [view.apply(x, c) for view, x, c in zip(self.views, images, batch.choices, strict=True)]

    def inputs(self, batch: Batch, compute: Compute) -> tuple[list[Tensor], Tensor]:
        """Return views, in the memory layout of the encoder, and labels on the device."""
        if self.resident:
            images = [self._all_images.index_select(0, *on_device(self.device, batch.chosen))]
        else:
            images = self._copied(batch.images)
        views = images if batch.choices is None else self._views(replace(batch, images=images))
        return [to_device(view, compute) for view in views], batch.labels.to(compute.device, non_blocking=True)

    @cached_property
    def _all_images(self) -> Tensor:
        """All training images on the device, uint8 (images, S, S, 3)."""
        images = torch.empty(
            (len(self.rows), self.resize.side, self.resize.side, 3), dtype=torch.uint8, device=self.device
        )
        for start in range(0, len(self.rows), COPIED):
            part = slice(start, start + COPIED)
            images[part] = self.image_cache.squares(self.rows[part], self.resize).to(self.device)
        return images

    def _copied(self, images: list[Tensor]) -> list[Tensor]:
        """Return images on the device; to CUDA they are copied while it works on what was asked for before."""
        if self.device.type != "cuda":
            return [x.to(self.device) for x in images]
        with torch.cuda.stream(self._copies):
            copied = [x.to(self.device, non_blocking=True) for x in images]
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copies)
        for x in copied:
            x.record_stream(computing)  # its memory is not given to another batch before the views are made
        return copied

    @cached_property
    def _copies(self) -> torch.cuda.Stream:
        """The stream of copies to the device."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # PyTorch has not annotated it

    def iterate(self, start: int, workers: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to the end.

        Worker processes load only streamed images. Cached ones that are copied batch by batch are read ahead by a
        thread.
        """
        if self.image_cache.streamed or self.resident or self.device.type == "cpu":
            yield from super().iterate(start, workers if self.image_cache.streamed else 0)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Future[Batch]] = deque()
            for step in range(start, len(self)):
                ahead.append(reader.submit(self._read, step))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read(self, step: int) -> Batch:
        batch = self[step]
        return batch.pin_memory() if torch.cuda.is_available() else batch


def to_device(view: Tensor, compute: Compute) -> Tensor:
    """Return a view on the device in the memory layout of the encoder."""
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    return view.to(compute.device, non_blocking=True, memory_format=layout)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # a launcher signals whole process groups: training decides when to stop, and ends its workers itself
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
