"""Every export of four encoders, read again by the other tool, as a table: ``python benchmarks/exports.py``.

Weights are random, with normalisation statistics taken from the images and every normalisation layer doing something;
``--encoders`` and ``--image-size`` make it smaller. Relative is the largest difference of an output on real images over
its largest value; refused is a target that cannot hold the encoder, with the reason below the table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from slmlp.encoders import Encoder, build
from slmlp.exports import TARGETS, export
from slmlp.exports.parity import real_images
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

ENCODERS = ("resnet18", "resnet50", "efficientnet_b0", "vit_tiny_patch16_224")
SUFFIXES = {
    "torchvision": ".pth", "timm": ".safetensors", "safetensors": ".safetensors", "onnx": ".onnx", "detectron2": ".pkl",
    "hf": "", "exported-program": ".pt2",
}  # fmt: skip


def main() -> None:
    """Print a line per encoder and target, then the reasons for what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--images", type=int, default=8)
    given = parser.parse_args()
    print(f"{given.images} images of emoji, {given.image_size} px, torch {torch.__version__}, --stem standard\n")
    print("| encoder | target | outputs | largest difference | relative | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    reasons: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.encoders:
            encoder = lively(name, given.image_size)
            run = Path(folder) / name / "encoder.safetensors"
            encoder.save(run)
            for target in given.targets:
                out = run.parent / f"{target}{SUFFIXES[target]}"
                began = time.perf_counter()
                try:
                    rows = export(run, target, out, images=given.images).differences
                except SlmlpError as error:
                    reasons.append(str(error))
                    print(f"| {name} | {target} | refused ({len(reasons)}) | | | |")
                    continue
                largest, relative = max(d.largest for d in rows), max(d.relative for d in rows)
                seconds = time.perf_counter() - began
                print(
                    f"| {name} | {target} | {len(rows)} | {largest:.2g} | {relative:.2g} | {seconds:.1f} |", flush=True
                )
    print("\n" + "\n".join(f"{i}. {reason}" for i, reason in enumerate(reasons, start=1)))


def lively(name: str, size: int) -> Encoder:
    """Return a random encoder in which no normalisation layer is the identity, with statistics of real images."""
    with seeds.seeded(0, "encoder"):
        encoder = build(name, size, "standard")
        norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
        for module in encoder.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                last = not module.weight.any()  # of a residual branch, which begins at zero and stays small in training
                nn.init.uniform_(module.weight, *((0.1, 0.5) if last else (0.5, 1.5)))
                nn.init.normal_(module.bias, std=0.1)
    for norm in norms:
        norm.momentum = None  # the mean over all batches
        norm.reset_running_stats()
    x, _ = real_images(encoder, "emoji", 32)
    encoder.train()
    with torch.no_grad():
        encoder(x)
    return encoder.eval()


if __name__ == "__main__":
    main()
