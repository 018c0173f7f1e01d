"""Speed of the methods against lightly's plain loop: ``python benchmarks/methods.py [--rounds 5] [--steps 12]``.

SimCLR, MoCo v2, BYOL, SwAV and SupCon, each by four contenders that take turns within every round, on the same images
(40 x 40 pixels, in memory), encoder, batch, size (32 px), two views, width of heads, queue and number of prototypes:

- ``slmlp``: as shipped: bfloat16 where the hardware computes in it, channels last, batched augmentation;
- ``lightly``: as in lightly's examples for plain PyTorch: a transform per sample in the workers of a DataLoader, views
  one by one through the encoder, float32, the usual memory layout;
- ``slmlp 32`` and ``lightly 32``: both in float32, both with channels last.

lightly's transforms make no blur here (its own examples switch it off at 32 px): slmlp's augmentation makes none at
this size either. lightly has no SupCon; its SimCLR transform and head take the loss of pytorch-metric-learning.
Of each turn the first steps are not timed: they start the workers and fill their queues. The workers end with the turn.

slmlp's contenders share a process and lightly's another, so that neither runs with the other's settings or memory.

Five rounds of 12 steps take about 20 minutes on two cores. The images are those of ``training.py``.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import modules
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.moco_transform import MoCoV2Transform
from lightly.transforms.simclr_transform import SimCLRTransform
from lightly.transforms.swav_transform import SwaVTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

import turns
from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.methods.base import Facts
from slmlp.runtime import device, seeds
from slmlp.train import optim
from slmlp.train.batches import Batches, Plan
from slmlp.train.loop import State, train
from training import CLASSES, SIZE, Contender, forever, load_images

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]  # views (N, 3, H, W) each and labels (N,) -> scalar
RECIPES = {"simclr": "simclr", "moco-v2": "moco-v2", "byol": "byol", "swav": "swav", "supcon": "simclr"}
PROTOTYPES = 512  # as in lightly's example
PAIRS = (("slmlp", "lightly", 2.5), ("slmlp 32", "lightly 32", 1.0))


def main() -> None:
    """Time the contenders of every method in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a contender in a round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--methods", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--side", choices=("slmlp", "lightly"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.side:
        _take_turns(given)
        return
    with turns.Side(__file__, "slmlp") as slmlp, turns.Side(__file__, "lightly") as lightly:
        print(f"{slmlp.says}; {lightly.says}")
        speeds: dict[tuple[str, str], list[float]] = {
            (m, c): [] for m in given.methods for pair in PAIRS for c in pair[:2]
        }
        for done in range(given.rounds):
            for (method, name), found in speeds.items():
                side = slmlp if name.startswith("slmlp") else lightly
                found.append(side.run(f"{method} {name}", given.steps))
            print(f"round {done + 1} of {given.rounds}", flush=True)
    print(f"images/s, medians of {given.rounds} (least to most); ratios round by round")
    for method in given.methods:
        for ours, theirs, aim in PAIRS:
            print(_line(method, ours, theirs, aim, speeds[method, ours], speeds[method, theirs]))


def _take_turns(given: argparse.Namespace) -> None:
    """Be one side."""
    workers = os.cpu_count() or 1
    image_cache = ImageCache(load_images(), config.DataOptions(), None, training_side(SIZE), progress=False)
    shipped = config.Training(
        encoder="resnet10", image_size=SIZE, batch_size=given.batch_size, epochs=1000, base_lr=0.05
    )
    if given.side == "lightly":
        turns.take(f"{workers} workers for lightly", {
            f"{method} lightly{how}": _theirs(method, image_cache, given.batch_size, workers, channels_last=bool(how))
            for method in given.methods for how in ("", " 32")
        })  # fmt: skip
        return
    exact = dataclasses.replace(shipped, precision="float32", channels_last=True)
    precision = device.choose(_encoder(), shipped.device, shipped.precision).precision
    says = (
        f"{torch.get_num_threads()} threads, {device.describe()['cpu']}, slmlp as shipped in "
        f"{precision}, resnet10, {SIZE} px, batch {given.batch_size}"
    )
    turns.take(says, {
        f"{method} {name}": _ours(method, image_cache, cfg)
        for method in given.methods for name, cfg in (("slmlp", shipped), ("slmlp 32", exact))
    })  # fmt: skip


def _line(method: str, ours: str, theirs: str, aim: float, mine: list[float], others: list[float]) -> str:
    shown = [
        f"{name:10} {statistics.median(s):6.0f} ({min(s):.0f} to {max(s):.0f})"
        for name, s in ((ours, mine), (theirs, others))
    ]
    ratios = [a / b for a, b in zip(mine, others, strict=True)]
    return (
        f"{method:8} {shown[0]:32} {shown[1]:32} "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), aim {aim}"
    )


def _encoder() -> nn.Module:
    with seeds.seeded(0, "encoder"):
        return build("resnet10", SIZE, "small")


def _queue(image_cache: ImageCache, batch: int) -> int:
    """Return the keys of MoCo's queue: half the images, in whole batches."""
    return max(1, len(image_cache.images) // 2 // batch) * batch


def _ours(name: str, image_cache: ImageCache, cfg: config.Training) -> Contender:
    """Return slmlp's own loop, batches included."""
    images = image_cache.images
    preset = config.method_config(name)
    if isinstance(preset, config.MoCo):
        preset = dataclasses.replace(preset, queue_size=_queue(image_cache, cfg.batch))
    elif isinstance(preset, config.SwAV):
        preset = dataclasses.replace(preset, prototypes=PROTOTYPES, queue_size=0)
    with seeds.seeded(0, "encoder"):
        encoder = build(cfg.network, SIZE, "small")
    settings, _ = methods.fit(name, preset, Facts(len(images), cfg.batch, encoder.dim))
    method = methods.build(name, encoder, CLASSES, settings)
    compute = device.choose(encoder, cfg.device, cfg.precision)
    device.place(method, compute)
    plan = Plan.of_epochs(images.labels, cfg.batch, cfg.passes, 0)
    views = augment.views(RECIPES[name], SIZE, method.num_views)
    batches = Batches(image_cache, image_cache.rows(images), plan, views)
    rows = train(State(method, optim.build(method, cfg)), batches, optim.schedule(cfg, plan, 0), compute, workers=0)

    def run(steps: int) -> float:
        next(rows)
        began = time.perf_counter()
        for _ in range(steps):
            next(rows)
        return steps * cfg.batch / (time.perf_counter() - began)

    return run


class Samples(torch.utils.data.Dataset[tuple[list[Tensor], int]]):
    """Images held in memory as torchvision's CIFAR-10 holds them, a transform for each."""

    def __init__(self, image_cache: ImageCache, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        images: data.ImageSet = image_cache.images
        self.squares = image_cache.squares(image_cache.rows(images), training_side(SIZE)).numpy()
        self.labels, self.transform = images.labels, transform

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.squares)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        """Return the views of an image and its label."""
        return self.transform(Image.fromarray(self.squares[index])), int(self.labels[index])


def _theirs(name: str, image_cache: ImageCache, batch: int, workers: int, *, channels_last: bool) -> Contender:
    """Return the plain loop over lightly's parts."""
    transform, trained, loss_of = PARTS[name](_encoder(), _queue(image_cache, batch))
    loader = torch.utils.data.DataLoader(
        Samples(image_cache, transform), batch, shuffle=True, drop_last=True, num_workers=workers
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    trained.to(memory_format=layout)
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(trained.parameters(), lr=0.001)
        if name == "swav"
        else torch.optim.SGD(trained.parameters(), lr=0.06)
    )

    def run(steps: int) -> float:
        batches, began, ahead = forever(loader), 0.0, 2 * workers
        for step in range(ahead + steps):
            if step == ahead:
                began = time.perf_counter()
            views, labels = next(batches)
            loss = loss_of([view.to(memory_format=layout) for view in views], labels)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        return steps * batch / (time.perf_counter() - began)

    return run


Parts = tuple[Callable[[Image.Image], list[Tensor]], nn.Module, Loss]  # transform, what is trained, loss of a batch


def _simclr(encoder: nn.Module, queue: int) -> Parts:
    head, criterion = modules.SimCLRProjectionHead(256, 256, 128), NTXentLoss()

    def loss_of(views: Sequence[Tensor], labels: Tensor) -> Tensor:
        first, second = (head(encoder(view)) for view in views)
        loss: Tensor = criterion(first, second)
        return loss

    return SimCLRTransform(input_size=SIZE, gaussian_blur=0.0), nn.ModuleList([encoder, head]), loss_of


def _supcon(encoder: nn.Module, queue: int) -> Parts:
    head, criterion = modules.SimCLRProjectionHead(256, 256, 128), SupConLoss(temperature=0.1)

    def loss_of(views: Sequence[Tensor], labels: Tensor) -> Tensor:
        loss: Tensor = criterion(torch.cat([head(encoder(view)) for view in views]), labels.repeat(2))
        return loss

    return SimCLRTransform(input_size=SIZE, gaussian_blur=0.0), nn.ModuleList([encoder, head]), loss_of


def _averaged(*parts: nn.Module) -> tuple[list[nn.Module], Callable[[], None]]:
    """Return the momentum copies of the parts, and what moves them."""
    copies = [copy.deepcopy(part) for part in parts]
    for part in copies:
        deactivate_requires_grad(part)
    momentum = cosine_schedule(0, 10, 0.996, 1)

    def move() -> None:
        for part, average in zip(parts, copies, strict=True):
            update_momentum(part, average, m=momentum)

    return copies, move


def _moco(encoder: nn.Module, queue: int) -> Parts:
    head = modules.MoCoProjectionHead(256, 256, 128)
    criterion = NTXentLoss(memory_bank_size=(queue, 128))
    (key_encoder, key_head), move = _averaged(encoder, head)

    def loss_of(views: Sequence[Tensor], labels: Tensor) -> Tensor:
        move()
        query = head(encoder(views[0]))
        loss: Tensor = criterion(query, key_head(key_encoder(views[1])).detach())
        return loss

    return MoCoV2Transform(input_size=SIZE, gaussian_blur=0.0), nn.ModuleList([encoder, head]), loss_of


def _byol(encoder: nn.Module, queue: int) -> Parts:
    head, predictor = modules.BYOLProjectionHead(256, 512, 256), modules.BYOLPredictionHead(256, 512, 256)
    criterion = NegativeCosineSimilarity()
    (target_encoder, target_head), move = _averaged(encoder, head)

    def loss_of(views: Sequence[Tensor], labels: Tensor) -> Tensor:
        move()
        p1, p2 = (predictor(head(encoder(view))) for view in views)
        t1, t2 = (target_head(target_encoder(view)).detach() for view in views)
        loss: Tensor = 0.5 * (criterion(p1, t2) + criterion(p2, t1))
        return loss

    transform = BYOLTransform(
        BYOLView1Transform(input_size=SIZE, gaussian_blur=0.0), BYOLView2Transform(input_size=SIZE, gaussian_blur=0.0)
    )
    return transform, nn.ModuleList([encoder, head, predictor]), loss_of


def _swav(encoder: nn.Module, queue: int) -> Parts:
    head, prototypes = modules.SwaVProjectionHead(256, 256, 128), modules.SwaVPrototypes(128, PROTOTYPES)
    criterion = SwaVLoss()

    def loss_of(views: Sequence[Tensor], labels: Tensor) -> Tensor:
        prototypes.normalize()
        scores = [prototypes(nn.functional.normalize(head(encoder(view)), dim=1)) for view in views]
        loss: Tensor = criterion(scores, [])
        return loss

    transform = SwaVTransform(crop_sizes=(SIZE, SIZE), crop_counts=(2, 0), gaussian_blur=0.0)
    return transform, nn.ModuleList([encoder, head, prototypes]), loss_of


PARTS: dict[str, Callable[[nn.Module, int], Parts]] = {
    "simclr": _simclr,
    "moco-v2": _moco,
    "byol": _byol,
    "swav": _swav,
    "supcon": _supcon,
}


if __name__ == "__main__":
    main()
