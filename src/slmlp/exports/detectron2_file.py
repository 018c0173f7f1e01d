"""Detectron2: the weights file that its ResNet backbones read, a matching config, and the launch line.

The file is what the converters published with MoCo and with Detectron2 write: a pickled dict of ``model`` (numpy arrays
by Detectron2's names), ``__author__`` and ``matching_heuristics``, which makes Detectron2 find each array's place
below ``backbone.bottom_up`` by the end of its name.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from slmlp.exports import detectron2_network as network
from slmlp.exports.bundle import FEATURES, Bundle, no_room_for
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

TOOL = "torch"  # what the reader computes with
LOADER = "slmlp's reader of Detectron2's names, since Detectron2 itself is not on PyPI"
SUFFIXES = (".pkl",)
DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "resnet152": 152}


def unsupported(bundle: Bundle) -> str | None:
    """Return why Detectron2's ResNets cannot hold the weights, or None."""
    spec, prepared = bundle.encoder.spec, bundle.encoder.preprocess
    if spec.name not in DEPTHS:
        return f"Detectron2's backbone is a ResNet of depth 18, 34, 50, 101 or 152, and {spec.name} is none of them"
    if spec.stem != "standard":
        return (
            "the small stem (3x3, stride 1, no max-pool) is not the one of Detectron2's ResNet, and the strides of its "
            "feature pyramid would not be 4 to 32; pretrain with --stem standard"
        )
    if min(prepared.std) <= 0:
        return "its preprocessing has no deviation to divide by"
    return no_room_for(bundle, "Detectron2")


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the pickle, and the config beside it."""
    model = {renamed(key): value.numpy() for key, value in bundle.encoder.weights().items()}
    content = {"model": model, "__author__": "slmlp", "matching_heuristics": True}
    with path.open("wb") as file:
        _Pickler(file, protocol=4).dump(content)
    config = path.with_name(f"{path.name}.yaml")
    files.write_text(config, yaml(bundle, path.name))
    return [config]


class _Pickler(pickle._Pickler):  # the one written in Python, since the other lets nobody choose a name
    """Pickles arrays for any numpy: the name that numpy 2 gives their constructor is not there before numpy 1.26."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write a function by its name; numpy's constructor by the one it has in every version."""
        above: Any = super()
        own: Any = self  # the types of the standard library do not tell these methods
        if getattr(obj, "__module__", "") != "numpy._core.multiarray":
            above.save_global(obj, name)
            return
        own.save("numpy.core.multiarray")
        own.save(obj.__name__)
        own.write(pickle.STACK_GLOBAL)
        own.memoize(obj)

    dispatch: ClassVar[dict[type, Any]] = {**pickle._Pickler.dispatch, FunctionType: save_global}


def renamed(key: str) -> str:
    """Return Detectron2's name of a tensor of a torchvision or timm ResNet.

    >>> renamed("bn1.weight"), renamed("layer1.0.bn3.bias"), renamed("layer2.0.downsample.1.running_var")
    ('stem.conv1.norm.weight', 'res2.0.conv3.norm.bias', 'res3.0.shortcut.norm.running_var')
    """
    key = re.sub(r"\bbn(\d)\b", r"conv\1.norm", key)
    key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    stage = re.match(r"layer(\d)\.", key)
    return f"res{int(stage[1]) + 1}.{key[stage.end() :]}" if stage else f"stem.{key}"


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Rebuild the network from the file's names and compare the maps of all four stages, and their pooled last."""
    depth, state = DEPTHS[bundle.encoder.spec.name], network.read(path)
    network.check(state, depth, path.name)
    with torch.inference_mode():
        rebuilt = network.stages(state, depth, x)
        expected, feature = _maps(bundle.encoder.backbone, x)
    compared = {name: (expected[name], rebuilt[name]) for name in network.STAGES}
    return {FEATURES: (feature, rebuilt["res5"].mean(dim=(2, 3))), **compared}


def usage(bundle: Bundle, name: str) -> str:
    """Return the line that starts Detectron2's training."""
    return (
        f"python tools/train_net.py --config-file {name}.yaml --num-gpus 8 "
        f"MODEL.WEIGHTS {name} OUTPUT_DIR detection-{Path(name).stem}"
    )


def yaml(bundle: Bundle, weights: str) -> str:
    """Return a config of Detectron2: Mask R-CNN with FPN, 1x, SyncBN, nothing frozen, images as here.

    It says all that ``Base-RCNN-FPN.yaml`` and ``mask_rcnn_R_50_FPN_1x.yaml`` say, so that it stands anywhere; what it
    says otherwise is what a backbone from elsewhere needs.
    """
    prepared, depth = bundle.encoder.preprocess, DEPTHS[bundle.encoder.spec.name]
    mean, std = ([round(255 * value, 4) for value in values] for values in (prepared.mean, prepared.std))
    widths = "" if depth >= 50 else "    RES2_OUT_CHANNELS: 64  # basic blocks\n"
    return f"""\
# Mask R-CNN, R{depth}-FPN, 1x (90,000 steps of 16 images), for an encoder that slmlp exported.
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHTS: "{weights}"
  MASK_ON: True
  PIXEL_MEAN: {mean}  # RGB
  PIXEL_STD: {std}
  BACKBONE:
    NAME: "build_resnet_fpn_backbone"
    FREEZE_AT: 0
  RESNETS:
    DEPTH: {depth}
{widths}    STRIDE_IN_1X1: False
    NORM: "SyncBN"
    OUT_FEATURES: ["res2", "res3", "res4", "res5"]
  FPN:
    IN_FEATURES: ["res2", "res3", "res4", "res5"]
    NORM: "SyncBN"
  ANCHOR_GENERATOR:
    SIZES: [[32], [64], [128], [256], [512]]
    ASPECT_RATIOS: [[0.5, 1.0, 2.0]]
  RPN:
    IN_FEATURES: ["p2", "p3", "p4", "p5", "p6"]
    PRE_NMS_TOPK_TRAIN: 2000
    PRE_NMS_TOPK_TEST: 1000
    POST_NMS_TOPK_TRAIN: 1000
    POST_NMS_TOPK_TEST: 1000
  ROI_HEADS:
    NAME: "StandardROIHeads"
    IN_FEATURES: ["p2", "p3", "p4", "p5"]
  ROI_BOX_HEAD:
    NAME: "FastRCNNConvFCHead"
    NUM_FC: 2
    POOLER_RESOLUTION: 7
  ROI_MASK_HEAD:
    NAME: "MaskRCNNConvUpsampleHead"
    NUM_CONV: 4
    NORM: "SyncBN"
    POOLER_RESOLUTION: 14
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
SOLVER:
  IMS_PER_BATCH: 16
  BASE_LR: 0.02
  STEPS: (60000, 80000)
  MAX_ITER: 90000
INPUT:
  FORMAT: "RGB"
  MIN_SIZE_TRAIN: (640, 672, 704, 736, 768, 800)
TEST:
  PRECISE_BN:
    ENABLED: True
VERSION: 2
"""


def _maps(backbone: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the encoder's own maps of its four stages by Detectron2's names, and its feature."""
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> RemovableHandle:
        return backbone.get_submodule(f"layer{int(name[3]) - 1}").register_forward_hook(
            lambda module, given, out: maps.__setitem__(name, out.clone())
        )

    handles = [keep(name) for name in network.STAGES]
    try:
        feature: Tensor = backbone(x)
    finally:
        for handle in handles:
            handle.remove()
    if len(maps) != len(network.STAGES):
        raise SlmlpError("detectron2: the encoder has no four stages to compare")
    return maps, feature
