"""Training speed, as ratios in one alternating run: ``python benchmarks/training.py [--rounds 5] [--threads N]``.

Four contenders take turns on the same images, encoder, batch and augmentation (MoCo v2), each in its own process:

- ``loop``: slmlp's training loop, end to end;
- ``ready``: the same step on a tensor that is ready (what the loop could reach at best);
- ``user``: the loop one would write: ImageFolder, v2 transforms per sample, DataLoader, float32;
- ``matmul``: the arithmetic floor, the FLOPs of a step at the measured rate of large matrix products.

Images come from ``SLMLP_DATA`` (tiny-imagenet.tar) where it is set, else from the embedded emoji.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

import turns
from slmlp import config, data, methods
from slmlp.data.augment import IMAGENET_MEAN, IMAGENET_STD, Augment, training_side
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.methods.base import Method
from slmlp.runtime import device, seeds
from slmlp.train import optim
from slmlp.train.batches import Batches, Plan, to_device
from slmlp.train.loop import State, train

T = TypeVar("T")
SIZE = 32
CLASSES = 40
CONTENDERS = ("loop", "ready", "user", "matmul")
FILLING = 3.0  # seconds in which the workers of the user's loop read ahead after its turn, to nobody's cost
Contender = Callable[[int], float]  # steps -> images per second


def main() -> None:
    """Time the contenders in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="steps of a contender in a round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--encoder", default="resnet10")
    parser.add_argument("--side", choices=CONTENDERS, help=argparse.SUPPRESS)  # take turns as one of them
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    cfg = config.Training(
        encoder=given.encoder,
        image_size=SIZE,
        batch_size=given.batch_size,
        epochs=1000,
        base_lr=0.05,
        augment="moco-v2",
    )
    if given.side:
        _take_turns(given.side, cfg)
        return
    with contextlib.ExitStack() as stack:
        contenders = {name: stack.enter_context(turns.Side(__file__, name)) for name in CONTENDERS}
        print(contenders["loop"].says)
        print(contenders["matmul"].says)
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for other in contenders.values():
            other.run("run", 3)  # warm-up
        for turn in range(given.rounds):
            for name, other in list(contenders.items())[:: 1 if turn % 2 else -1]:  # who follows whom changes
                speeds[name].append(other.run("run", given.steps))
                if name == "user":
                    time.sleep(FILLING)
        # After the rounds, so that watching slows nobody's turn; an allocator that keeps what is freed shows it here.
        memory = {name: contenders[name].peak("run", given.steps) for name in ("loop", "user")}
    for name, values in speeds.items():
        spread = f"median of {given.rounds}, {min(values):.0f} to {max(values):.0f}"
        print(f"{name:8} {statistics.median(values):8.0f} images/s ({spread})")
    for top, bottom, aim in (
        ("loop", "ready", "0.95"),
        ("loop", "user", "3"),
        ("ready", "matmul", "as near 1 as can be"),
    ):
        ratios = [a / b for a, b in zip(speeds[top], speeds[bottom], strict=True)]
        print(f"{top} / {bottom}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); aim {aim}")
    for name, megabytes in memory.items():
        print(f"peak memory of {name}: {megabytes:.0f} MB, its workers included")
    print(f"peak memory, loop / user: {memory['loop'] / memory['user']:.2f}")


def _take_turns(name: str, cfg: config.Training) -> None:
    """Be a contender."""
    says = f"{torch.get_num_threads()} threads, {cfg.encoder}, {SIZE} px, batch {cfg.batch_size}"
    with tempfile.TemporaryDirectory() as folder:
        if name == "user":  # chooses nothing through slmlp, whose choice of a device also tells the allocator
            turns.take(says, {"run": _user(load_images(), cfg, Path(folder))})
            return
        compute = device.choose(build(cfg.network, SIZE, "small"), cfg.device, cfg.precision)
        says += f", {compute.precision}"
        if name == "loop":
            turns.take(says, {"run": loop(load_images(), cfg, compute)})
        elif name == "ready":
            turns.take(says, {"run": _ready(cfg, compute)})
        else:
            flops = _flops(cfg, compute)
            turns.take(f"{flops / 1e6:.0f} MFLOP per image and step", {"run": _floor(flops, compute, cfg.batch)})


def load_images() -> data.ImageSet:
    """Return 50 images each of 40 classes, of Tiny-ImageNet where it is there, else of the emoji."""
    folder = os.environ.get("SLMLP_DATA")
    source = str(Path(folder) / "tiny-imagenet.tar") if folder else "emoji"
    images = data.load(source, config.DataOptions(images_per_class=50)).of_part("train")
    return images.of_classes(images.classes[:CLASSES])


def _method(cfg: config.Training, compute: device.Compute) -> Method:
    with seeds.seeded(0, "encoder"):
        encoder = build(cfg.network, SIZE, "small")
    method = methods.build("sl-mlp", encoder, CLASSES, config.method_config("sl-mlp"))
    device.place(method, compute)
    return method


def loop(images: data.ImageSet, cfg: config.Training, compute: device.Compute) -> Contender:
    """Return slmlp's training loop from the images on."""
    image_cache = ImageCache(images, config.DataOptions(), None, training_side(SIZE), progress=False)
    plan = Plan.of_epochs(images.labels, cfg.batch, cfg.passes, 0)
    batches = Batches(image_cache, image_cache.rows(images), plan, [Augment(cfg.augment, SIZE)])
    method = _method(cfg, compute)
    rows = train(State(method, optim.build(method, cfg)), batches, optim.schedule(cfg, plan, 0), compute, workers=0)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            next(rows)
        return steps * cfg.batch / (time.perf_counter() - began)

    return run


def _ready(cfg: config.Training, compute: device.Compute) -> Contender:
    method = _method(cfg, compute)
    optimizer = optim.build(method, cfg)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    view = to_device(torch.randn(cfg.batch, 3, SIZE, SIZE), compute)
    labels = torch.arange(cfg.batch) % CLASSES
    method.train()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            with compute.autocast():
                loss = method([view], labels)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return steps * cfg.batch / (time.perf_counter() - began)

    return run


def _user(images: data.ImageSet, cfg: config.Training, folder: Path) -> Contender:
    """Return the usual loop: files in folders, a transform per sample in workers, float32, the usual layout."""
    for i in range(len(images)):
        path = folder / images.classes[images.labels[i]] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(images.read(i)).save(path, quality=95)
    transform = v2.Compose([
        v2.RandomResizedCrop(SIZE, scale=(0.2, 1.0)), v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ])  # fmt: skip
    files = torchvision.datasets.ImageFolder(str(folder), transform)
    workers = os.cpu_count() or 1
    loader = torch.utils.data.DataLoader(
        files, cfg.batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    method = _method(cfg, device.Compute(torch.device("cpu"), precision="float32", channels_last=False))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)

    batches = forever(loader)
    method.train()

    def run(steps: int) -> float:
        for _ in range(2 * workers):  # what the workers read ahead while others had their turn is not counted
            next(batches)
        began = time.perf_counter()
        for _ in range(steps):
            view, labels = next(batches)
            logits = method.classifier(method.projector(method.encoder(view)))  # type: ignore[operator]
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return steps * cfg.batch / (time.perf_counter() - began)

    return run


def forever(loader: Iterable[T]) -> Iterator[T]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def _flops(cfg: config.Training, compute: device.Compute) -> float:
    """Return the floating-point operations of a step for one image."""
    method = _method(cfg, dataclasses.replace(compute, precision="float32"))
    counter = FlopCounterMode(display=False)
    with counter:
        method([torch.randn(8, 3, SIZE, SIZE)], torch.arange(8))["loss"].backward()
    return counter.get_total_flops() / 8


def _floor(flops: float, compute: device.Compute, batch_size: int) -> Contender:
    """Return images/s if every FLOP of a step ran at the rate of a large matrix product in the precision in use."""
    side = 2048
    a = torch.randn(side, side, dtype=torch.bfloat16 if compute.precision == "bfloat16" else torch.float32)
    times = max(1, round(flops * batch_size / (2 * side**3)))  # about the arithmetic of a step

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps * times):
            a @ a
        return steps * times * 2 * side**3 / (time.perf_counter() - began) / flops

    return run


if __name__ == "__main__":
    main()
