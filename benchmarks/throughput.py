"""Images a second of whole training steps: ``python benchmarks/throughput.py [--sides 64 224] [--device cuda]``.

SL-MLP from images in memory and from JPEG files, with random crops and flips, by contenders that take turns, each in a
process of its own, as it comes and tuned:

- ``slmlp``: its own loop; as it comes is what ``slmlp pretrain`` chooses, tuned has ``--compile``;
- ``timm``: timm's loader, transforms and optimizer put together as its training script does, with its defaults: float32
  and 4 workers in the usual memory layout; tuned is bfloat16, channels last, a worker for each core, compiled where
  slmlp is;
- ``bare``: the step of the tuned slmlp on views that are ready, which a loop could reach at best.

From files, images are decoded again in every epoch by both. lightly is in ``methods.py``; lightly-train and
stable-pretraining are not measured. Files are images of 256 to 500 pixels that are drawn once: noise on colours that
change slowly, of about 40 kB each. ``--compile`` compiles what is tuned: worth it on a GPU, minutes on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from PIL import Image
from timm.optim import create_optimizer_v2
from torch import Tensor

import turns
from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.data.decode import Resize
from slmlp.encoders import build
from slmlp.methods.base import Method, Progress
from slmlp.runtime import device, seeds
from slmlp.train import optim
from slmlp.train.batches import Batches, Plan
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings

CLASSES = 10
AHEAD = 4 * (os.cpu_count() or 1) + 1  # the most batches that any of the loaders holds ready
SOURCES = ("memory", "files")
CONTENDERS = {"slmlp": ("slmlp", False), "slmlp tuned": ("slmlp", True), "timm": ("timm", False),
              "timm tuned": ("timm", True), "bare": ("bare", True)}  # fmt: skip
AIMS = (("slmlp", "timm", "3"), ("slmlp tuned", "timm tuned", "1.1"), ("slmlp tuned", "bare", "0.95, files 0.9"))
Contender = Callable[[int], float]  # steps -> images per second


def main() -> None:
    """Let the contenders take turns; print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="steps of a contender in a round")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.side:
        turns.take(f"torch {torch.__version__}, {given.device}", {"run": Runs(given).run})
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        draw(Path(folder), given.images)
        words = [*sys.argv[1:], "--folder", folder]
        sides = {name: stack.enter_context(turns.Side(__file__, name, words)) for name in CONTENDERS}
        print(f"{sides['slmlp'].says}, {given.encoder}, batch {given.batch_size}, load {os.getloadavg()[0]:.1f}")
        for side in given.sides:
            for source in given.sources:
                _print(f"{side:4} px from {source:6}", _speeds(given, sides, side, source))


def _speeds(given: argparse.Namespace, sides: dict[str, turns.Side], side: int, source: str) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, given.rounds):  # the first warms up
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            speed = sides[name].run("run", side, source, given.steps)
            if turn >= 0:
                speeds[name].append(speed)
    return speeds


def _print(what: str, speeds: dict[str, list[float]]) -> None:
    for name, values in speeds.items():
        print(f"{what} {name:12} {statistics.median(values):8.0f} images/s ({min(values):.0f} to {max(values):.0f})")
    for top, bottom, aim in AIMS:
        ratios = [a / b for a, b in zip(speeds[top], speeds[bottom], strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{what} {top} / {bottom}: {statistics.median(ratios):.2f} {spread}; aim {aim}", flush=True)


def draw(folder: Path, images: int) -> None:
    """Write JPEG files in class folders."""
    rng = np.random.default_rng(0)
    for i in range(images):
        width, height = (int(side) for side in rng.integers(256, 500, 2))
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        noise = rng.integers(-12, 13, (height, width, 3))
        pixels = np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8)
        path = folder / f"class{i % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=85)


class Runs:
    """A contender's runs, each begun at its first turn and gone on with at the next."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, (self.kind, self.tuned) = given, CONTENDERS[given.side]
        self.place = device.resolve(given.device)
        self.begun: dict[tuple[int, str], Iterator[None]] = {}

    def run(self, side: int, source: str, steps: int) -> float:
        """Return images per second of some steps."""
        if (side, source) not in self.begun:
            self.begun = {(side, source): getattr(self, self.kind)(side, source)}
        running = self.begun[side, source]
        for _ in range(AHEAD):  # what was read ahead while others had their turn is not counted
            next(running)
        self._wait()
        began = time.perf_counter()
        for _ in range(steps):
            next(running)
        self._wait()
        return float(steps * self.given.batch_size / (time.perf_counter() - began))

    def _wait(self) -> None:
        if self.place.type == "cuda":
            torch.cuda.synchronize()

    def _method(self, side: int, compute: device.Compute) -> Method:
        with seeds.seeded(0, "encoder"):
            encoder = build(self.given.encoder, side, "small" if side <= 64 else "standard")
        method = methods.build("sl-mlp", encoder, CLASSES, config.method_config("sl-mlp"))
        device.place(method, compute)
        method.train()
        return method

    def _compute(self, own: bool) -> device.Compute:
        if own or self.tuned:
            half = "bfloat16" if device.computes_bfloat16(self.place) else "float32"
            return device.Compute(self.place, half, channels_last=not self.given.encoder.startswith("vit"))
        return device.Compute(self.place, "float32", channels_last=False)

    def slmlp(self, side: int, source: str) -> Iterator[None]:
        """Train as ``slmlp pretrain`` does."""
        options = config.DataOptions(stream_above_gb=0.0 if source == "files" else 64.0)
        images = data.load(str(self.given.folder), options)
        cfg = config.Training(batch_size=self.given.batch_size, epochs=10_000, base_lr=0.01, augment="crop")
        compute = self._compute(own=True)
        method = self._method(side, compute)
        cache = ImageCache(images, options, None, Resize(training_side(side)), progress=False)
        plan = Plan.of_epochs(images.labels, cfg.batch, cfg.passes, 0)
        batches = Batches(cache, cache.rows(images), plan, augment.views("crop", side), device=compute.device)
        schedule = dataclasses.replace(optim.schedule(cfg, plan, 0), compile=self.tuned and self.given.compile)
        state = State(method, optim.build(method, cfg))
        readings = Readings(state, schedule, 10)
        for step in train(state, batches, schedule, compute, max(1, (os.cpu_count() or 2) - 1)):
            readings.add(step)
            yield

    def timm(self, side: int, source: str) -> Iterator[None]:
        """Train with timm's parts."""
        files = timm.data.create_dataset("", root=str(self.given.folder))
        dataset: Any = files if source == "files" else Held(files)
        loader = timm.data.create_loader(
            dataset, (3, side, side), self.given.batch_size, is_training=True, hflip=0.5, color_jitter=None,
            num_workers=(os.cpu_count() or 1) if self.tuned else 4, use_prefetcher=self.place.type == "cuda",
            device=self.place, persistent_workers=True,
        )  # fmt: skip
        compute = self._compute(own=False)
        method = self._method(side, compute)
        model: Any = torch.compile(method) if self.tuned and self.given.compile else method
        optimizer = create_optimizer_v2(method, "sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        while True:
            for x, labels in loader:
                x, labels = x.to(self.place, memory_format=layout), labels.to(self.place)
                _step(model, x, labels, optimizer, compute)
                yield

    def bare(self, side: int, source: str) -> Iterator[None]:
        """Train on views that are ready."""
        compute = self._compute(own=True)
        method = self._method(side, compute)
        model: Any = torch.compile(method) if self.given.compile else method
        optimizer = optim.build(method, config.Training(batch_size=self.given.batch_size, base_lr=0.01))
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        x = torch.randn(self.given.batch_size, 3, side, side).to(self.place, memory_format=layout)
        labels = (torch.arange(self.given.batch_size) % CLASSES).to(self.place)
        while True:
            _step(model, x, labels, optimizer, compute)
            method.after_step(Progress(1, 1000, 10))
            yield


class Held(torch.utils.data.Dataset[tuple[Any, int]]):
    """A data set of timm whose decoded images are held in memory; takes timm's transform."""

    def __init__(self, files: Any) -> None:
        self.images = [(image.convert("RGB"), label) for image, label in files]
        self.transform: Callable[[Any], Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.images[index]
        return (image if self.transform is None else self.transform(image)), label


def _step(model: Any, x: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, compute: device.Compute) -> None:
    with compute.autocast():
        loss = model([x], labels)["loss"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
