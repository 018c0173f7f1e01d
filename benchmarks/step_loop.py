"""Steps of the real training loop for ``step.py``: what the host waits for, and their time beside the bare step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import torch

from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.methods.base import Facts, Method, Progress
from slmlp.runtime import device, seeds
from slmlp.train import loop, optim
from slmlp.train.batches import Batches, Plan
from waiting import Waiting

RECIPES = {"sl": "weak", "sl-mlp": "weak", "supcon": "simclr", "moco-v1": "moco-v2", "t-rex-star": "t-rex"}
ENCODER, CLASSES, BATCH, EPOCHS = "resnet10", 16, 64, 1000


def _run(name: str, side: int, place: str) -> tuple[Iterator[Any], Method, optim.Schedule, Any]:
    """Return the steps of a run on embedded images in memory, the method, the schedule and the loop's state."""
    images = data.load("emoji", config.DataOptions(images_per_class=40)).of_part("train")
    images = images.of_classes(images.classes[:CLASSES])
    cfg = config.Training(encoder=ENCODER, batch_size=BATCH, epochs=EPOCHS, base_lr=0.01, device=place)
    with seeds.seeded(0, "encoder"):
        encoder = build(ENCODER, side, "small")
    settings, _ = methods.fit(name, config.method_config(name), Facts(len(images), BATCH, encoder.dim))
    method = methods.build(name, encoder, CLASSES, settings)
    compute = device.choose(encoder, place, "float32", True)
    device.place(method, compute)
    cache = ImageCache(images, config.DataOptions(), None, training_side(side), progress=False)
    plan = Plan.of_epochs(images.labels, BATCH, EPOCHS, 0)
    views = augment.views(RECIPES.get(name, name), side, method.num_views)
    batches = Batches(cache, cache.rows(images), plan, views, device=compute.device)
    state, schedule = loop.State(method, optim.build(method, cfg)), optim.schedule(cfg, plan, 0)
    return loop.train(state, batches, schedule, compute, 0), method, schedule, state


def _read(steps: Iterator[Any], state: Any, schedule: Any) -> Iterator[None]:
    """Go through the steps as training does between two lines of its log."""
    try:
        from slmlp.train.readings import Readings
    except ImportError:  # an older checkout, whose loop reads every step itself
        yield from (None for _ in steps)
        return
    readings = Readings(state, schedule, 10**9)
    for step in steps:
        readings.add(step)
        yield


def waits(name: str) -> dict[str, int]:
    """Return how often a step does each operation for which the host would wait, of the fourth to sixth step's most."""
    steps, _, schedule, state = _run(name, 16, "cpu")
    running, most = _read(steps, state, schedule), dict[str, int]()
    for i in range(6):
        with Waiting() as waiting:
            next(running)
        if i >= 3 and len(waiting.found) > sum(most.values()):
            most = {kind: waiting.found.count(kind) for kind in sorted(set(waiting.found))}
    return most


def share(name: str, side: int, steps: int, place: str) -> tuple[float, float]:
    """Return seconds per step of the loop, and of the bare step on views that are ready."""
    running, method, schedule, state = _run(name, side, place)
    reading = _read(running, state, schedule)
    optimizer, generator = state.optimizer, torch.Generator().manual_seed(0)
    views = [torch.randn(BATCH, 3, side, side, generator=generator).to(place) for _ in range(method.num_views)]
    views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    labels = (torch.arange(BATCH) % CLASSES).to(place)

    def bare() -> None:
        loss = method(views, labels)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step(Progress(1, 1000, 8))

    def timed(run: Iterator[Any]) -> float:
        next(run)
        _wait(place)
        began = time.perf_counter()
        for _ in itertools.islice(run, steps):
            pass
        _wait(place)
        return (time.perf_counter() - began) / steps

    looped = timed(reading)
    return looped, timed(iter(bare, 0))


def _wait(place: str) -> None:
    if place != "cpu":
        torch.cuda.synchronize()
