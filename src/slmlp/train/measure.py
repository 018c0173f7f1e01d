"""What a run will take, measured by a few steps of that very run on a part of its images; nothing is kept of it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from slmlp import data
from slmlp.config import DataOptions
from slmlp.data.cache import BoolArray, ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.runtime import files
from slmlp.runtime.progress import duration, plan
from slmlp.train import optim
from slmlp.train.batches import Batches
from slmlp.train.job import Job
from slmlp.train.loop import Step, train
from slmlp.train.prepare import Prepared, choose, prepare
from slmlp.train.pretrain import begin, plan_of

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit

BATCHES = 2  # of images that are measured on
STEPS, SECONDS = 5, 6.0  # measured after the first, which is slower: up to so many, or so long


@dataclass(frozen=True)
class Cost:
    """What one run takes on this machine."""

    step: float  # seconds
    steps: int
    weights: int  # bytes of the encoder's file
    checkpoint: int  # bytes of one

    @property
    def seconds(self) -> float:
        """Seconds of all its steps."""
        return self.step * self.steps


def sample(ready: Prepared, batch: int) -> Prepared:
    """Return the job's images thinned to those that are measured on."""
    count = len(ready.train)
    picked = np.unique(np.linspace(0, count - 1, min(count, BATCHES * batch)).round().astype(int))
    mask = np.zeros(count, dtype=bool)
    mask[picked] = True
    return _of(ready, mask)


def _of(ready: Prepared, mask: BoolArray) -> Prepared:
    return replace(ready, train=ready.train.select(mask), labels=replace(ready.labels, y=ready.labels.y[mask]))


def cache_of(few: Prepared, options: DataOptions, folder: Path, resize: int | Resize) -> ImageCache:
    """Return those of the images measured on that can be read; how many cannot is told of all images, not of these."""
    return ImageCache(few.train, replace(options, allow_unreadable=True), folder, resize, progress=False)


def cost(job: Job, images: ImageSet, split: ConceptSplit | None, image_cache: ImageCache, threads: int | None) -> Cost:
    """Return what a job will take; ``image_cache`` needs to hold the images of ``sample`` only.

    Random states and the number of threads are afterwards as they were.
    """
    ready = prepare(job, images, split)
    few = sample(ready, job.training.batch)
    few = _of(few, image_cache.held(few.train))
    with undisturbed(threads):
        state, views, compute, _ = begin(job, ready)
        batches = Batches(
            image_cache, image_cache.rows(few.train), plan_of(job, few), views, device=compute.device,
            interpolation=few.interpolation,
        )  # fmt: skip
        schedule = optim.schedule(job.training, batches.plan, job.seed)
        seconds = per_step(train(state, batches, schedule, compute, workers=0), STEPS, SECONDS)
    weights = sum(value.nbytes for value in state.kept.encoder.state_dict().values())
    model = sum(value.nbytes for value in state.model.state_dict().values())
    moments = 2 if job.training.optimizer == "adamw" else 1
    return Cost(seconds, plan_of(job, ready).total, weights, model * (1 + moments))


def per_step(steps: Iterator[Step], most: int, longest: float) -> float:
    """Return the seconds of a step after the first, which is slower, or of that where it is alone.

    Measured are up to ``most`` steps, or ``longest`` seconds of them.
    """
    began, first, count = time.perf_counter(), 0.0, 0
    for step in steps:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if step.number == 1:
            first, began = now - began, now
            continue
        count += 1
        if count == most or now - began > longest:
            break
    return (time.perf_counter() - began) / count if count else first


def dry_run(job: Job, split: ConceptSplit | None) -> None:
    """Say what a run will take, and write nothing that stays.

    Raises:
        SlmlpError: what the run would stop with before its first step.
    """
    images = data.load(job.data, job.options)
    job = choose(job, images, split, None)
    ready = prepare(job, images, split)
    few = sample(ready, job.training.batch)
    with tempfile.TemporaryDirectory(prefix="slmlp-") as empty:
        image_cache = cache_of(few, job.options, Path(empty), few.resize)
        found = cost(job, images, split, image_cache, job.training.threads)
    kept = job.training.passes // job.training.save_every if job.training.save_every else 0
    written = (1 + kept) * found.weights + 2 * found.checkpoint
    plan(
        f"{len(ready.train):,} images, {found.steps:,} steps, about {duration(found.seconds)} on this machine, "
        f"{files.size(written)}; nothing was written"
    )


@contextlib.contextmanager
def undisturbed(threads: int | None) -> Iterator[None]:
    """Compute on so many threads; random states and the number of threads are afterwards as they were."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            if threads:
                torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)
