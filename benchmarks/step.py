"""What a step costs beside the network: ``python benchmarks/step.py [PART ...] [--old CHECKOUT] [--sides 32 64 224]``.

``waits``: for how many operations of a step, between two readings of the loss, the host waits for the device, by
method; counted on the CPU, where the same operations run and nobody waits. Mixing draws on the host, and is left out.

``share``: the part of a step's time that is not the bare step (forward, backward and optimizer on views that are ready)
of the training loop from images in memory, resnet10 at the first of the sides, in float32, by method.

``views``: time an image of one view of each augmentation at each side, from the same uint8 squares, a quarter larger
than the view. Contenders take turns, each in a process of its own; who goes first changes every round:

- ``ours``: this checkout; ``old``: another one (``--old``, as benchmarks/checkouts.py takes it);
- ``torchvision``: the same changes by torchvision's v2 transforms, image by image, in one process;
- ``kornia``: the same changes by kornia's transforms, in batch, where it is installed (it is no dependency:
  ``pip install kornia`` in another environment), else left out.

Printed are medians of the rounds in microseconds per image, of wall time and of CPU time of all threads (which other
work on the machine disturbs less), and the median of the rounds' ratios to ``ours`` with the lowest and highest.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

import step_loop
import turns
from slmlp.config import METHODS
from slmlp.data.augment import IMAGENET_MEAN, IMAGENET_STD, Augment, training_side
from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import VIEWS, Recipe
from slmlp.runtime import device, seeds

NAMES = ("moco-v2", "simclr", "byol", "t-rex", "crop", "weak")
PIXELS = 2**22  # of the views of a batch: 4,096 images of 32 pixels, 83 of 224
ONE_BY_ONE = 16  # torchvision gets this part of the images: a turn takes as long as another's
Make = Callable[[Tensor], Tensor]  # uint8 (N, S, S, 3) -> float (N, 3, size, size)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all of them if none is given")
    parser.add_argument("--old", type=Path, help="checkout to compare with")
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 224])
    parser.add_argument("--names", nargs="+", default=NAMES, choices=VIEWS, metavar="AUGMENTATION")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--steps", type=int, default=10, help="of a turn of the loop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, default=PIXELS, help="of the views of a batch")
    parser.add_argument("--side", choices=["ours", "old", "torchvision", "kornia"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.side:
        _take_turns(given)
        return
    for part in given.parts or PARTS:
        PARTS[part](given)


@contextlib.contextmanager
def _contenders(names: list[str], given: argparse.Namespace) -> Iterator[dict[str, turns.Side]]:
    """Start a process for each name, and say what each runs with."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name in names:
            path = os.environ.get("PYTHONPATH", "")
            if name == "old":  # this script, with the package of the other checkout
                os.environ["PYTHONPATH"] = os.pathsep.join([str(given.old.resolve() / "src"), path])
            contenders[name] = stack.enter_context(turns.Side(__file__, name))
            os.environ["PYTHONPATH"] = path
        for name, contender in contenders.items():
            print(f"{name}: {contender.says}")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        yield contenders


# The loop


def print_waits(given: argparse.Namespace) -> None:
    """Print for how many operations of a step the host would wait, by method."""
    with _contenders(["ours", *(["old"] if given.old else [])], given) as contenders:
        for method in given.methods:
            for name, contender in contenders.items():
                found = contender.ask(["waits", method])
                kinds = ", ".join(f"{kind} {count}" for kind, count in found.items())
                print(f"{method:11} {name:5} {sum(found.values()):3} a step{'  ' * bool(kinds)}{kinds}", flush=True)


def print_share(given: argparse.Namespace) -> None:
    """Print the part of a step that is not the bare step, by method: the median of the rounds."""
    with _contenders(["ours", *(["old"] if given.old else [])], given) as contenders:
        for method in given.methods:
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
            for i in range(given.rounds):
                for name in list(contenders)[:: 1 if i % 2 else -1]:
                    times[name].append(contenders[name].ask(["share", method, given.sides[0]]))
            for name, pairs in times.items():
                looped, bare = (1e3 * statistics.median(p[k] for p in pairs) for k in (0, 1))
                shares = [1 - p[1] / p[0] for p in pairs]
                part = f"{statistics.median(shares):4.0%} ({min(shares):.0%} to {max(shares):.0%})"
                ratios = [p[0] / o[0] for p, o in zip(pairs, times["ours"], strict=True)]
                beside = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of ours"
                print(
                    f"{method:11} {name:5} {looped:7.1f} ms, bare {bare:7.1f} ms: {part} beside it; {beside}",
                    flush=True,
                )


# Views


def print_views(given: argparse.Namespace) -> None:
    """Let the contenders make views in turn; print a line for each augmentation, side and contender."""
    names = ["ours", *(["old"] if given.old else []), "torchvision"]
    if importlib.util.find_spec("kornia"):
        names.append("kornia")
    with _contenders(names, given) as contenders:
        for side in given.sides:
            for augmentation in given.names:
                times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
                for i in range(-1, given.rounds):  # the first warms up
                    for name in names[:: 1 if i % 2 else -1]:
                        wall_and_cpu = contenders[name].ask(["views", augmentation, side])
                        if i >= 0:
                            times[name].append(wall_and_cpu)
                for name in names:
                    print(f"{side:4} px {augmentation:9} {name:12} {_line(times[name], times['ours'])}", flush=True)


def _line(times: list[tuple[float, float]], ours: list[tuple[float, float]]) -> str:
    """Return microseconds per image by both clocks, and the rounds' ratios to ours."""
    wall, cpu = (statistics.median(t[k] for t in times) * 1e6 for k in (0, 1))
    ratios = [[a[k] / b[k] for a, b in zip(times, ours, strict=True)] for k in (0, 1)]
    shares = [f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
    return f"wall {wall:8.1f} us, {shares[0]} of ours; CPU {cpu:8.1f} us, {shares[1]} of ours"


def _take_turns(given: argparse.Namespace) -> None:
    """Be a contender."""
    place = device.resolve(given.device)
    makers = {"ours": _ours, "old": _ours, "torchvision": _torchvision, "kornia": _kornia}

    def views(augmentation: str, side: int) -> tuple[float, float]:
        stored = training_side(side)
        number = max(1, given.pixels // side**2 // (ONE_BY_ONE if given.side == "torchvision" else 1))
        pixels = torch.randint(0, 256, (number, stored, stored, 3), dtype=torch.uint8).to(place)
        make = makers[given.side](augmentation, side)
        wall, cpu = time.perf_counter(), time.process_time()
        out = make(pixels)
        if place.type == "cuda":
            torch.cuda.synchronize()
        assert out.shape == (number, 3, side, side)
        return (time.perf_counter() - wall) / number, (time.process_time() - cpu) / number

    says: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": given.device}

    def share(method: str, side: int) -> tuple[float, float]:
        return step_loop.share(method, side, given.steps, given.device)

    runs: dict[str, Callable[..., Any]] = {"views": views, "waits": step_loop.waits, "share": share}
    turns.take(says | {"cpu": device.describe()["cpu"]}, runs)


def _ours(augmentation: str, side: int) -> Make:
    augment = Augment(augmentation, side)
    return lambda pixels: augment(pixels, Draws(seeds.torch_generator(0, "step"), len(pixels)))


def _window(side: int, recipe: Recipe) -> tuple[int, tuple[float, float]] | None:
    """Return taps and sigmas of the blur, which is left out where it is below half a pixel."""
    low, high = (sigma * side / 224 for sigma in recipe.blur_sigma)
    return (2 * max(1, round(3 * high)) + 1, (low, high)) if recipe.blur_p and high >= 0.5 else None


def _torchvision(augmentation: str, side: int) -> Make:
    """Return the usual transforms of an image, on uint8 until the end, as they are fastest."""
    recipe, changes = VIEWS[augmentation].of(0), list[Any]()
    if recipe.scale is not None:
        changes.append(v2.RandomResizedCrop(side, scale=recipe.scale, antialias=True))
    elif recipe.shift:
        margin = round(recipe.shift * side)
        changes += [v2.Resize(side), v2.RandomCrop(side, padding=margin, padding_mode="reflect")]
    else:
        changes.append(v2.Resize(side))
    changes.append(v2.RandomHorizontalFlip(recipe.flip))
    if recipe.jitter is not None:
        changes.append(v2.RandomApply([v2.ColorJitter(*recipe.jitter)], recipe.jitter_p))
    if recipe.grey_p:
        changes.append(v2.RandomGrayscale(recipe.grey_p))
    if (blur := _window(side, recipe)) is not None:
        changes.append(v2.RandomApply([v2.GaussianBlur(*blur)], recipe.blur_p))
    if recipe.solarise_p:
        changes.append(v2.RandomSolarize(128, recipe.solarise_p))
    changes += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    transform = v2.Compose(changes)
    return lambda pixels: torch.stack([transform(x.permute(2, 0, 1)) for x in pixels])


def _kornia(augmentation: str, side: int) -> Make:
    """Return kornia's transforms of a batch, with factors per image, on floats as it takes them."""
    k = importlib.import_module("kornia.augmentation")
    recipe, changes, one = VIEWS[augmentation].of(0), list[Any](), (side, side)
    if recipe.scale is not None:
        changes.append(k.RandomResizedCrop(one, scale=recipe.scale, cropping_mode="resample"))
    elif recipe.shift:
        margin = round(recipe.shift * side)
        changes += [k.Resize(one), k.RandomCrop(one, padding=margin, padding_mode="reflect", cropping_mode="resample")]
    else:
        changes.append(k.Resize(one))
    changes.append(k.RandomHorizontalFlip(p=recipe.flip))
    if recipe.jitter is not None:
        changes.append(k.ColorJitter(*recipe.jitter, p=recipe.jitter_p))
    if recipe.grey_p:
        changes.append(k.RandomGrayscale(p=recipe.grey_p))
    if (blur := _window(side, recipe)) is not None:
        changes.append(k.RandomGaussianBlur((blur[0], blur[0]), blur[1], p=recipe.blur_p))
    if recipe.solarise_p:
        changes.append(k.RandomSolarize(0.5, 0.0, p=recipe.solarise_p))
    changes.append(k.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)))
    transform = k.AugmentationSequential(*changes, data_keys=["input"])

    def make(pixels: Tensor) -> Tensor:
        views: Tensor = transform(pixels.permute(0, 3, 1, 2).float() / 255)
        return views

    return make


PARTS = {"waits": print_waits, "share": print_share, "views": print_views}

if __name__ == "__main__":
    main()
