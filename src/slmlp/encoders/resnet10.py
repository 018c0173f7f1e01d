"""A lean residual network for small images and few cores."""

from __future__ import annotations

from timm.models.resnet import BasicBlock, downsample_conv
from torch import Tensor, nn

WIDTHS = (32, 64, 128, 256)
STRIDES = (2, 1, 2, 2)


class ResNet10(nn.Module):
    """Convolution 3x3, then four basic blocks; D = 256, 0.10 GFLOPs at 32 pixels. Names follow torchvision's ResNets.

    The standard stem has stride 2 and max-pool, for images above 64 pixels.
    """

    def __init__(self, small_stem: bool = True) -> None:
        super().__init__()
        width = WIDTHS[0]
        self.conv1 = nn.Conv2d(3, width, 3, stride=1 if small_stem else 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (planes, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True), start=1):
            shortcut = downsample_conv(width, planes, 1, stride) if stride != 1 or planes != width else None
            self.add_module(f"layer{stage}", nn.Sequential(BasicBlock(width, planes, stride, shortcut)))
            width = planes
        # in the words of timm: where the stages end
        self.feature_info = [{"module": "act1", "num_chs": WIDTHS[0], "reduction": 1 if small_stem else 2}] + [
            {"module": f"layer{stage}", "num_chs": planes, "reduction": (1 if small_stem else 4) * 2 ** (stage - 1)}
            for stage, planes in enumerate(WIDTHS, start=1)
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return which names belong to which layer, as timm asks for it (``coarse`` changes nothing here)."""
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d+)"}

    def forward(self, x: Tensor) -> Tensor:
        """Return pooled features (N, 256)."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        # flat, so that the gradient comes back in the layout of the channels-last maps: the same mean, a quicker step
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)
