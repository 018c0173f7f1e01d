"""Training speed, as ratios in one alternating run: ``python benchmarks/training.py [--rounds 5] [--threads N]``.

Four contenders take turns on the same images, encoder, batch and augmentation (MoCo v2):

- ``loop``: slmlp's training loop, end to end;
- ``ready``: the same step on a tensor that is ready (what the loop could reach at best);
- ``user``: the loop one would write: ImageFolder, v2 transforms per sample, DataLoader, float32;
- ``matmul``: the arithmetic floor, the FLOPs of a step at the measured rate of large matrix products.

Images come from ``SLMLP_DATA`` (tiny-imagenet.tar) where it is set, else from the embedded emoji.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
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

from slmlp import config, data, device, methods, optim, seeds
from slmlp.augment import IMAGENET_MEAN, IMAGENET_STD, Augment, training_side
from slmlp.batches import Batches, Plan
from slmlp.corpus import Corpus
from slmlp.encoders import build
from slmlp.methods.base import Method
from slmlp.train import State, to_device, train

T = TypeVar("T")
SIZE = 32
CLASSES = 40
Contender = Callable[[int], float]  # steps -> images per second


def main() -> None:
    """Time the contenders in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="steps of a contender in a round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--encoder", default="resnet10")
    parser.add_argument("--memory-of", choices=["loop", "user"], help="only print the memory of one contender, in MB")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    images = load_images()
    cfg = config.Training(
        encoder=given.encoder,
        image_size=SIZE,
        batch_size=given.batch_size,
        epochs=1000,
        base_lr=0.05,
        augment="moco-v2",
    )
    compute = device.choose(cfg, build(given.encoder, SIZE, "small"))
    if given.memory_of:
        with tempfile.TemporaryDirectory() as folder:
            run = _loop(images, cfg, compute) if given.memory_of == "loop" else _user(images, cfg, Path(folder))
            run(given.steps)
            print(_memory())
        return
    print(
        f"{torch.get_num_threads()} threads, {compute.precision}, {given.encoder}, {SIZE} px, batch {given.batch_size}"
    )
    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Contender] = {
            "loop": _loop(images, cfg, compute),
            "ready": _ready(cfg, compute),
            "user": _user(images, cfg, Path(folder)),
            "matmul": _floor(cfg, compute),
        }
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for run in contenders.values():
            run(3)  # warm-up
        for _ in range(given.rounds):
            for name, run in contenders.items():
                speeds[name].append(run(given.steps))
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
    _compare_memory(sys.argv[1:])


def _compare_memory(words: list[str]) -> None:
    """Print the memory of our loop and of the user's, each alone in a process of its own."""
    found = {}
    for name in ("loop", "user"):
        command = [sys.executable, __file__, *words, "--memory-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = float(done.stdout.split()[-1])
        print(f"memory of {name}: {found[name]:.0f} MB, its workers included")
    print(f"memory, loop / user: {found['loop'] / found['user']:.2f}")


def _memory() -> float:
    """Return the proportional set size of this process and its workers in MB: shared pages count once."""
    pids = ["self", *Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split()]
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def load_images() -> data.ImageSet:
    """Return 50 images each of 40 classes, of Tiny-ImageNet where it is there, else of the emoji."""
    folder = os.environ.get("SLMLP_DATA")
    source = str(Path(folder) / "tiny-imagenet.tar") if folder else "emoji"
    images = data.load(source, config.DataOptions(images_per_class=50)).of_part("train")
    return images.of_classes(images.classes[:CLASSES])


def _method(cfg: config.Training, compute: device.Compute) -> Method:
    with seeds.seeded(0, "encoder"):
        encoder = build(cfg.encoder, SIZE, "small")
    method = methods.build("sl-mlp", encoder, CLASSES, config.method_config("sl-mlp"))
    device.place(method, compute)
    return method


def _loop(images: data.ImageSet, cfg: config.Training, compute: device.Compute) -> Contender:
    corpus = Corpus(images, config.DataOptions(), None, training_side(SIZE), progress=False)
    plan = Plan(images.labels, cfg.batch_size, cfg.epochs, 0, balanced=False)
    batches = Batches(corpus, corpus.rows(images), plan, [Augment(cfg.augment, SIZE)])
    method = _method(cfg, compute)
    rows = train(State(method, optim.build(method, cfg)), batches, cfg, compute, seed=0, workers=0)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            next(rows)
        return steps * cfg.batch_size / (time.perf_counter() - began)

    return run


def _ready(cfg: config.Training, compute: device.Compute) -> Contender:
    method = _method(cfg, compute)
    optimizer = optim.build(method, cfg)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    view = to_device(torch.randn(cfg.batch_size, 3, SIZE, SIZE), compute)
    labels = torch.arange(cfg.batch_size) % CLASSES
    method.train()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            with compute.autocast():
                loss = method([view], labels)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return steps * cfg.batch_size / (time.perf_counter() - began)

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
    method = _method(cfg, device.Compute(torch.device("cpu"), bfloat16=False, channels_last=False))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)

    batches = forever(loader)
    method.train()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            view, labels = next(batches)
            logits = method.classifier(method.projector(method.encoder(view)))  # type: ignore[operator]
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return steps * cfg.batch_size / (time.perf_counter() - began)

    return run


def forever(loader: Iterable[T]) -> Iterator[T]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def _floor(cfg: config.Training, compute: device.Compute) -> Contender:
    """Return images/s if every FLOP of a step ran at the rate of a large matrix product in the precision in use."""
    method = _method(cfg, dataclasses.replace(compute, bfloat16=False))
    counter = FlopCounterMode(display=False)
    with counter:
        method([torch.randn(8, 3, SIZE, SIZE)], torch.arange(8))["loss"].backward()
    flops = counter.get_total_flops() / 8
    print(f"{flops / 1e6:.0f} MFLOP an image and step")
    side = 2048
    a = torch.randn(side, side, dtype=torch.bfloat16 if compute.bfloat16 else torch.float32)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            a @ a
        return steps * 2 * side**3 / (time.perf_counter() - began) / flops

    return run


if __name__ == "__main__":
    main()
