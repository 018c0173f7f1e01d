"""torchvision: a state dict that its own network loads with ``load_state_dict(strict=True)``.

timm's ResNets have torchvision's names. Its EfficientNets b0 to b4 are the networks that torchvision's weights were
first trained in, with other names but their layers in the same order, so that tensors are renamed by their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from slmlp.exports import weights_file
from slmlp.exports.bundle import FEATURES, Bundle, no_room_for
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

TOOL, LOADER = "torchvision", "load_state_dict(strict=True) of torchvision's own network"
SUFFIXES = weights_file.SUFFIXES
SAME_NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
)  # fmt: skip
SAME_ORDER = ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4")


def unsupported(bundle: Bundle) -> str | None:
    """Return why torchvision has no such network, or None."""
    spec = bundle.encoder.spec
    if spec.name == "resnet10":
        return "resnet10 is slmlp's own network, which torchvision does not have"
    if spec.name not in (*SAME_NAMES, *SAME_ORDER):
        return (
            f"torchvision has no network that is known to be timm's {spec.name}; this export knows "
            f"{', '.join(SAME_NAMES)} and {SAME_ORDER[0]} to {SAME_ORDER[-1][-2:]}"
        )
    if spec.stem != "standard":
        return (
            "the small stem (3x3, stride 1, no max-pool) is no option of torchvision's networks, which would compute "
            "something else with these weights; pretrain with --stem standard"
        )
    return no_room_for(bundle, "torchvision", classifier=True)


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the state dict, with a fresh classifier where one was asked for."""
    with seeds.seeded(0, "classifier"):
        network = _network(bundle)
    state, mine = bundle.encoder.weights(), dict(network.state_dict())
    if bundle.encoder.spec.name in SAME_ORDER:
        names = [name for name in mine if not name.startswith("classifier.")]
        if len(names) != len(state):
            raise SlmlpError(
                f"torchvision's {bundle.encoder.spec.name} has {len(names)} tensors, expected {len(state)}"
            )
        state = dict(zip(names, state.values(), strict=True))
    for name in mine.keys() - state.keys():  # the classifier's; anything else is missing when it is loaded
        if name.startswith(("fc.", "classifier.")):
            state[name] = mine[name].detach().clone()
    weights_file.write(path, state)
    return []


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Load the file into torchvision's network, strictly, and compare what its classifier would read."""
    network = _network(bundle)
    network.load_state_dict(weights_file.read(path), strict=True)
    _without_classifier(network.eval())
    with torch.inference_mode():
        return {FEATURES: (bundle.expected(x)[FEATURES], network(x))}


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the file."""
    kind, head = bundle.encoder.spec.name, "fc" if bundle.encoder.spec.name in SAME_NAMES else "classifier"
    safe = name.endswith(weights_file.SAFE)
    read = f'safetensors.torch.load_file("{name}")' if safe else f'torch.load("{name}", weights_only=True)'
    lines = ["import safetensors.torch, torch, torchvision" if safe else "import torch, torchvision", ""]
    if bundle.classes is None:
        lines += [f"model = torchvision.models.{kind}()", f"model.{head} = torch.nn.Identity()"]
    else:
        lines += [f"model = torchvision.models.{kind}(num_classes={bundle.classes})"]
    return "\n".join([*lines, f"model.load_state_dict({read}, strict=True)"])


def _network(bundle: Bundle) -> nn.Module:
    """Return torchvision's network, with a classifier where one was asked for."""
    network: nn.Module = torchvision.models.get_model(
        bundle.encoder.spec.name, weights=None, num_classes=bundle.classes or 1
    )
    if bundle.classes is None:
        _without_classifier(network)
    return network


def _without_classifier(network: nn.Module) -> None:
    setattr(network, "fc" if hasattr(network, "fc") else "classifier", nn.Identity())
