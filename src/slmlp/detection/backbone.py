"""The stages C2 to C5 of an encoder, strides 4, 8, 16 and 32, with the encoder's own weights: what an FPN stands on."""

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
PROBE = 128  # pixels of the image that the strides are measured on
TAKEN = "detection takes ResNets, and timm convnets whose features_only stages have strides 4, 8, 16 and 32"


class Stages(nn.Module):
    """A backbone that returns C2, C3, C4, C5 of images (N, 3, H, W); what is fixed stays in evaluation mode."""

    widths: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        self.fixed_norms = False  # BatchNorms with the statistics and parameters that they came with
        self.fixed = False  # everything

    def fix(self, *, norms: bool, everything: bool) -> None:
        """Leave BatchNorms, or all weights, as they are from now on."""
        self.fixed_norms, self.fixed = norms, everything
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                if everything or (norms and isinstance(module, _BatchNorm)):
                    parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Stages:
        """Set the mode of what is not fixed."""
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
        found = []
        for name in RESNET[3:]:
            x = self.get_submodule(name)(x)
            found.append(x)
        return found


class TimmStages(Stages):
    """The stages of a timm convnet as its ``features_only`` form gives them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            first = network.eval()(torch.zeros(1, 3, PROBE, PROBE))[0]
        self.channels_behind = tuple(first.shape[1:3]) == (PROBE // STRIDES[0],) * 2  # (N, H, W, C)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return C2 to C5."""
        found: list[Tensor] = list(self.network(x))
        return [one.permute(0, 3, 1, 2) for one in found] if self.channels_behind else found


def stages(encoder: Encoder) -> Stages:
    """Return the encoder's stages, which share no memory with it where they had to be built anew.

    Raises SlmlpError for a stem that was made for small images, and for networks without such stages.
    """
    name = encoder.spec.name
    if encoder.spec.stem == "small":
        raise SlmlpError(
            f"encoder {name} has the small-image stem (stride 1, no max-pool): its stages have strides 1, 2, 4 and 8 "
            "and not the 4, 8, 16 and 32 that an FPN and its anchors are made for; pretrain with --stem standard"
        )
    try:
        if all(isinstance(getattr(encoder.backbone, part, None), nn.Module) for part in RESNET):
            made: Stages = ResNetStages(encoder.backbone)
        else:
            made = TimmStages(_features_only(encoder))
        made.widths = _widths(made, name)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SlmlpError(f"encoder {name} takes no images of other sizes than its own: {TAKEN}") from error
    return made


def _features_only(encoder: Encoder) -> nn.Module:
    """Return timm's network of the stages with the encoder's weights; every key of it must be found."""
    name = encoder.spec.name.partition("@")[0].removeprefix("timm:")
    if not timm.is_model(name):
        raise SlmlpError(f"encoder {name} has no stages that an FPN can stand on: {TAKEN}")
    try:
        reductions = list(timm.create_model(name, features_only=True).feature_info.reduction())
        picked = [max((i for i, r in enumerate(reductions) if r == stride), default=-1) for stride in STRIDES]
        if -1 in picked:
            raise SlmlpError(
                f"encoder {name} has no stages that an FPN can stand on (strides {_listed(sorted(set(reductions)))}): "
                f"{TAKEN}"
            )
        network: nn.Module = timm.create_model(name, features_only=True, out_indices=tuple(picked))
    except (RuntimeError, AttributeError, AssertionError, ValueError, TypeError) as error:
        raise SlmlpError(f"encoder {name} has no stages that an FPN can stand on: {TAKEN}") from error
    weights = encoder.weights()
    # timm flattens "stages.0.blocks" to "stages_0.blocks" here, and to "model.stages.0.blocks" there
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
            f"the stages of encoder {name} ask for {len(missing)} weights that it has not under that name "
            f"({', '.join(missing[:4])}): nothing was loaded"
        )
    network.load_state_dict(state, strict=True)
    return network


def _widths(made: Stages, name: str) -> tuple[int, ...]:
    """Return the channels of the stages, measured on an image of zeros, and refuse other strides."""
    with torch.no_grad():
        shapes = [tuple(m.shape) for m in made.eval()(torch.zeros(1, 3, PROBE, PROBE))]
    wanted = [(PROBE // stride, PROBE // stride) for stride in STRIDES]
    if [shape[2:] for shape in shapes] != wanted:
        found = _listed([PROBE // shape[2] if len(shape) == 4 and shape[2] else 0 for shape in shapes])
        raise SlmlpError(f"the stages of encoder {name} have strides {found}, and not 4, 8, 16 and 32: {TAKEN}")
    return tuple(shape[1] for shape in shapes)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
