"""Images a second of feature extraction, against a plain timm loop: ``python benchmarks/extraction.py``.

Contenders take turns, slmlp's in one process and timm's in another, on the same encoder, weights, batch and images:

- ``ours, float32`` and ``ours, out of the box`` (precision auto: bfloat16 where the hardware has it);
- ``timm``: timm's model without classifier, channels_last, in inference mode, float32.

From JPEG files: ours reads a folder of classes with no cache, from the first byte to the features; timm's loop is a
DataLoader with worker processes over an ImageFolder with timm's own evaluation transform. From memory: ours starts from
decoded uint8 squares, timm's loop from float tensors that are normalised already.

Images are random photos-like gradients written once as JPEG; only their number of pixels matters for the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import turns
from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.encoders import Encoder
from slmlp.encoders.extract import extract, precision_of
from slmlp.encoders.sources import describe, open_encoder

CLASSES = 4
Contender = Callable[[], float]  # -> images per second
AIMS = {"float32": "1.0", "out of the box": "1.5"}
NAMES = [f"{place}, {how}" for place in ("files", "memory") for how in ("timm", *AIMS)]


def main() -> None:
    """Time the contenders in turn; print medians, ratios and the peak memory of each."""
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.side:
        runs = contenders(given, Path(given.folder))
        made = {name: make() for name, make in runs.items() if given.side in (name, _side(name))}
        # timm's side chooses nothing through slmlp, whose choice of a device also tells the allocator
        turns.take("" if _side(given.side) == "timm" else precision_of(opened(given), "auto", "auto"), made)
        return
    print(describe(opened(given)))
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(given.folder) if given.folder else write_images(Path(made_here), given)
        words = [*sys.argv[1:], "--folder", str(folder)]
        with turns.Side(__file__, "slmlp", words) as ours, turns.Side(__file__, "timm", words) as theirs:
            print(
                f"{torch.get_num_threads()} threads, {sum(1 for _ in folder.glob('*/*'))} files, batch "
                f"{given.batch_size}, out of the box: {ours.says}"
            )
            speeds: dict[str, list[float]] = {name: [] for name in NAMES}
            for turn in range(given.rounds + 1):
                for name, found in speeds.items():
                    speed = (ours if _side(name) == "slmlp" else theirs).run(name)
                    if turn:  # the first is a warm-up
                        found.append(speed)
        tell(speeds)
        for name in NAMES if given.memory else ():
            with turns.Side(__file__, name, words) as alone:
                print(f"peak memory of {name}: {alone.peak(name):.0f} MB, its workers included")


def _side(name: str) -> str:
    """Return the process that a contender, or a process of that name, belongs to."""
    return "timm" if name.endswith("timm") else "slmlp"


def tell(speeds: dict[str, list[float]]) -> None:
    """Print medians, and the ratios that have an aim."""
    for name, values in speeds.items():
        print(f"{name:24} {statistics.median(values):8.1f} images/s ({min(values):.1f} to {max(values):.1f})")
    for place in ("files", "memory"):
        for how, aim in AIMS.items():
            pairs = zip(speeds[f"{place}, {how}"], speeds[f"{place}, timm"], strict=True)
            ratios = [ours / theirs for ours, theirs in pairs]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{place}, {how} / timm: {statistics.median(ratios):.2f} ({spread}); aim {aim}")


def arguments() -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50", help="a timm name; weights are random")
    parser.add_argument("--weights", help="its weights file, where they shall be real")
    parser.add_argument("--folder", help="class folders of JPEG files; default: made for the run")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--pixels", type=int, default=500, help="short side of the JPEG files; the long one is 4/3")
    parser.add_argument("--size", type=int, help="side that the encoder sees; default: its own")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of timm's DataLoader")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="measure it too")
    parser.add_argument("--side", choices=("slmlp", "timm", *NAMES), help=argparse.SUPPRESS)
    return parser.parse_args()


def opened(given: argparse.Namespace) -> Encoder:
    """Return the encoder as slmlp opens it."""
    source = f"timm:{given.encoder}@{given.weights or 'random'}"
    return open_encoder(source, overrides=config.PreprocessFlags(size=given.size))


def write_images(folder: Path, given: argparse.Namespace) -> Path:
    """Write JPEG files in folders of classes, smooth with some noise as photos are, and return the folder."""
    rng = np.random.default_rng(0)
    height, width = given.pixels, given.pixels * 4 // 3
    for i in range(given.images):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
        noisy = np.clip(smooth + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)
        path = folder / "images" / f"class{i % CLASSES}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)
    return folder / "images"


def contenders(given: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Contender]]:
    """Return what makes each of those that take turns, by name."""
    encoder = opened(given)
    resize = encoder.preprocess.resize

    def read() -> ImageCache:
        return ImageCache(data.load(str(folder)), config.DataOptions(), None, resize, progress=False)

    def ours(precision: str, held: ImageCache | None) -> Contender:
        def run() -> float:
            began = time.perf_counter()
            image_cache = held or read()
            found = extract(
                encoder, image_cache, image_cache.images, None, "auto", precision=precision, batch_size=given.batch_size
            )
            return len(found) / (time.perf_counter() - began)

        return run

    return {
        "files, timm": lambda: _timm_files(encoder, folder, given),
        "files, float32": lambda: ours("float32", None),
        "files, out of the box": lambda: ours("auto", None),
        "memory, timm": lambda: _timm_memory(encoder, read(), given),
        "memory, float32": lambda: ours("float32", read()),
        "memory, out of the box": lambda: ours("auto", read()),
    }


def _timm(encoder: Encoder, given: argparse.Namespace) -> nn.Module:
    """Return timm's own model with the same weights, as its users set it up for evaluation."""
    fixed = timm.get_pretrained_cfg(given.encoder).fixed_input_size
    size = {"img_size": encoder.preprocess.size} if fixed else {}
    model: nn.Module = timm.create_model(given.encoder, num_classes=0, **size)
    model.load_state_dict(encoder.weights())
    return model.eval().to(memory_format=torch.channels_last)


def _timm_files(encoder: Encoder, folder: Path, given: argparse.Namespace) -> Contender:
    """Return the plain loop over files: ImageFolder, timm's evaluation transform, worker processes."""
    model = _timm(encoder, given)
    made = encoder.preprocess
    transform = timm.data.create_transform(
        input_size=(3, made.size, made.size), is_training=False, interpolation=made.interpolation, mean=made.mean,
        std=made.std, crop_pct=made.size / made.side,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(str(folder), transform),
        given.batch_size,
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
    )

    def run() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            parts = [model(x.contiguous(memory_format=torch.channels_last)) for x, _ in loader]
        return len(torch.cat(parts)) / (time.perf_counter() - began)

    return run


def _timm_memory(encoder: Encoder, image_cache: ImageCache, given: argparse.Namespace) -> Contender:
    """Return the plain loop over normalised float tensors."""
    model = _timm(encoder, given)
    rows = image_cache.rows(image_cache.images)
    x: Tensor = encoder.preprocess(image_cache.squares(rows, encoder.preprocess.resize)).contiguous()

    def run() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            batches = torch.split(x, given.batch_size)
            parts = [model(part.contiguous(memory_format=torch.channels_last)) for part in batches]
        return len(torch.cat(parts)) / (time.perf_counter() - began)

    return run


if __name__ == "__main__":
    main()
