"""Build the FPN's input from an encoder: its stages C2 to C5 (strides 4, 8, 16, 32), with its own weights."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.encoders import Encoder
from slmlp.runtime.errors import SlmlpError

STRIDES = (4, 8, 16, 32)
RESNET = ("conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4")
PROBE = 128  # side in pixels of the image that strides are measured on
SUPPORTED = "detection takes ResNets, and timm convnets whose features_only stages have strides 4, 8, 16 and 32"


class Stages(nn.Module):
    """A backbone that returns C2, C3, C4, C5 of images (N, 3, H, W); fixed modules stay in evaluation mode."""

    widths: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        self.fixed_norms = False  # BatchNorms keep their pretrained statistics and parameters
        self.fixed = False  # all modules do

    def fix(self, *, norms: bool, everything: bool) -> None:
        """Freeze the BatchNorms, or all weights, for all further training."""
        self.fixed_norms, self.fixed = norms, everything
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                if everything or (norms and isinstance(module, _BatchNorm)):
                    parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Stages:
        """Set the mode of the modules that are not fixed."""
        super().train(mode and not self.fixed)
        if self.fixed_norms:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


class ResNetStages(Stages):
    """The stages of a ResNet of torchvision, timm or slmlp, in its own modules under their own names."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        for name in RESNET:
            self.add_module(name, resnet.get_submodule(name))
        activation = getattr(resnet, "act1", getattr(resnet, "relu", None))
        self.act1 = activation if isinstance(activation, nn.Module) else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return C2 to C5."""
        x = self.get_submodule("bn1")(self.get_submodule("conv1")(x))
        x = self.get_submodule("maxpool")(F.relu(x) if self.act1 is None else self.act1(x))
        maps = []
        for name in RESNET[3:]:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps


class TimmStages(Stages):
    """The stages of a timm convnet as its ``features_only`` form gives them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            first = network.eval()(torch.zeros(1, 3, PROBE, PROBE))[0]
        self.channels_last = tuple(first.shape[1:3]) == (PROBE // STRIDES[0],) * 2  # (N, H, W, C)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return C2 to C5."""
        maps: list[Tensor] = list(self.network(x))
        return [feature_map.permute(0, 3, 1, 2) for feature_map in maps] if self.channels_last else maps


def stages(encoder: Encoder) -> Stages:
    """Return the encoder's stages: a ResNet's own modules, else a copy in timm's ``features_only`` form.

    Raises:
        SlmlpError: the encoder has the small-image stem, or no stages of strides 4, 8, 16 and 32.
    """
    name = encoder.spec.name
    if encoder.spec.stem == "small":
        raise SlmlpError(
            f"encoder {name} has the small-image stem (stride 1, no max-pool): its stages have strides 1, 2, 4 and 8 "
            "and not the 4, 8, 16 and 32 that an FPN needs; pretrain with --stem standard"
        )
    try:
        if all(isinstance(getattr(encoder.backbone, part, None), nn.Module) for part in RESNET):
            result: Stages = ResNetStages(encoder.backbone)
        else:
            result = TimmStages(_features_only(encoder))
        result.widths = _widths(result, name)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SlmlpError(f"encoder {name} takes images of one size only: {SUPPORTED}") from error
    return result


def _features_only(encoder: Encoder) -> nn.Module:
    """Return timm's network of the stages with the encoder's weights; every key of it must be found."""
    name = encoder.spec.name.partition("@")[0].removeprefix("timm:")
    if not timm.is_model(name):
        raise SlmlpError(f"encoder {name} has no stages that an FPN can stand on: {SUPPORTED}")
    try:
        reductions = list(timm.create_model(name, features_only=True).feature_info.reduction())
        indices = [max((i for i, r in enumerate(reductions) if r == stride), default=-1) for stride in STRIDES]
        if -1 in indices:
            raise SlmlpError(
                f"encoder {name} has no stages that an FPN can stand on (strides {_listed(sorted(set(reductions)))}): "
                f"{SUPPORTED}"
            )
        network: nn.Module = timm.create_model(name, features_only=True, out_indices=tuple(indices))
    except (RuntimeError, AttributeError, AssertionError, ValueError, TypeError) as error:
        raise SlmlpError(f"encoder {name} has no stages that an FPN can stand on: {SUPPORTED}") from error
    weights = encoder.weights()
    # timm renames "stages.0.blocks" to "stages_0.blocks" in some networks, to "model.stages.0.blocks" in others
    flat = {key.replace(".", "_"): key for key in weights}
    state, missing = {}, []
    for key in network.state_dict():
        source = flat.get(key.removeprefix("model.").replace(".", "_"))
        if source is None:
            missing.append(key)
        else:
            state[key] = weights[source]
    if missing or len(flat) < len(weights):
        raise SlmlpError(
            f"the stages of encoder {name} need {len(missing)} weights that it lacks under that name "
            f"({', '.join(missing[:4])}): nothing was loaded"
        )
    network.load_state_dict(state, strict=True)
    return network


def _widths(backbone: Stages, name: str) -> tuple[int, ...]:
    """Return each stage's number of channels, measured on an image of zeros; reject other strides."""
    with torch.no_grad():
        shapes = [tuple(m.shape) for m in backbone.eval()(torch.zeros(1, 3, PROBE, PROBE))]
    expected = [(PROBE // stride, PROBE // stride) for stride in STRIDES]
    if [shape[2:] for shape in shapes] != expected:
        strides = _listed([PROBE // shape[2] if len(shape) == 4 and shape[2] else 0 for shape in shapes])
        raise SlmlpError(f"the stages of encoder {name} have strides {strides}, and not 4, 8, 16 and 32: {SUPPORTED}")
    return tuple(shape[1] for shape in shapes)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
