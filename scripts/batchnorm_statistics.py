"""Take the weights of one encoder and the BatchNorm statistics of another place: which of the two does the harm?

    python scripts/batchnorm_statistics.py lite0.safetensors --of RUN/encoder.safetensors --out swapped.safetensors
    python scripts/batchnorm_statistics.py lite0.safetensors --network tf_efficientnet_lite0 --data tiny-imagenet.tar
        --split RUN/split.json --size 64 --images-per-class 50 --out anew.safetensors

The first takes the running means and variances of another file of the same network, and prints by how much the weight
matrices of the two differ. The second computes them over the evaluation views of a split's source training images.
Both write a file for ``timm:NAME@FILE``; the table of "Does a projector protect pretrained weights?" in docs/results.md
is made of such files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from slmlp import data
from slmlp.config import DataOptions
from slmlp.config.encoders import PreprocessFlags
from slmlp.data.cache import ImageCache
from slmlp.data.splits.classes import ConceptSplit, apply
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.encoders.sources import open_encoder

Tensors = dict[str, Tensor]


def is_statistic(name: str) -> bool:
    """Return whether a tensor is a running mean or variance, or counts the batches that they are of."""
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def with_statistics(weights: Tensors, other: Tensors) -> Tensors:
    """Return the weights with the statistics of ``other``, which has all that there are."""
    return {name: (other[name] if is_statistic(name) else value).contiguous() for name, value in weights.items()}


def largest_change(weights: Tensors, other: Tensors) -> float:
    """Return the largest relative difference of a weight matrix or kernel of the two, by the Frobenius norm."""
    common = [name for name in weights if name in other and weights[name].dim() > 1]
    return max(float((other[name] - weights[name]).norm() / weights[name].norm()) for name in common)


def computed(args: argparse.Namespace) -> Tensors:
    """Return the statistics of a split's source training images at the size given."""
    encoder = open_encoder(f"timm:{args.network}@{args.weights}", overrides=PreprocessFlags(size=args.size))
    options = DataOptions(images_per_class=args.images_per_class)
    split = ConceptSplit.load(args.split)
    images = apply(split, data.load(args.data, options)).of_classes(split.source).of_part("train")
    calibrate_norms(encoder, ImageCache.of_small(images, options, None, encoder.preprocess.resize, True), images)
    state: Tensors = encoder.backbone.state_dict()
    return state


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--of", type=Path)
    parser.add_argument("--network")
    parser.add_argument("--data")
    parser.add_argument("--split", type=Path)
    parser.add_argument("--size", type=int)
    parser.add_argument("--images-per-class", type=int)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    weights = load_file(args.weights)
    other = load_file(args.of) if args.of else computed(args)
    if args.of:
        print(f"largest relative difference of a weight matrix: {largest_change(weights, other):.4f}")
    save_file(with_statistics(weights, other), args.out)
    print(args.out)


if __name__ == "__main__":
    main()
