"""The detector: torchvision's Mask R-CNN or Faster R-CNN, built as Detectron2's R50-FPN config says.

docs/detection.md lists each difference that torchvision's options cannot remove.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from slmlp import config
from slmlp.detection.backbone import Stages, stages
from slmlp.detection.samples import Target
from slmlp.encoders import Encoder
from slmlp.runtime import seeds

WIDTH = 256  # channels of the FPN and of the mask head
HIDDEN = 1024  # of the box head
LEVELS = ["0", "1", "2", "3"]


class Pyramid(nn.Module):
    """FPN: computes P2 to P6, each of ``WIDTH`` channels, from C2 to C5."""

    def __init__(self, body: Stages, norm: Callable[..., nn.Module] | None) -> None:
        super().__init__()
        self.body, self.out_channels = body, WIDTH
        self.fpn = FeaturePyramidNetwork(list(body.widths), WIDTH, LastLevelMaxPool(), norm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps P2 to P6 by name, the largest first."""
        x = x.contiguous(memory_format=torch.channels_last)
        levels: dict[str, Tensor] = self.fpn(OrderedDict(zip(LEVELS, self.body(x), strict=True)))
        return levels


def _no_resize(image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
    """Replace torchvision's resize: ``Samples`` and ``predict`` have resized the images already."""
    return image, target


class Detector(nn.Module):
    """A torchvision detector: ``forward`` returns training losses, ``predict`` detections."""

    def __init__(self, network: FasterRCNN, with_masks: bool) -> None:
        super().__init__()
        self.network, self.with_masks = network, with_masks

    @property
    def body(self) -> Stages:
        """The encoder's stages."""
        body = self.network.backbone.body
        assert isinstance(body, Stages)
        return body

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses by name, scalars."""
        losses: dict[str, Tensor] = self.network(images, targets)
        return losses

    def predict(self, images: list[Tensor], originals: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Return boxes, labels, scores and masks of images, in pixels of the ``originals`` (height, width)."""
        network = self.network
        batch, _ = network.transform(images)
        features = network.backbone(batch.tensors)
        proposals, _ = network.rpn(batch, features)
        outputs, _ = network.roi_heads(features, proposals, batch.image_sizes)
        outputs = [{k: v.float() if v.is_floating_point() else v for k, v in one.items()} for one in outputs]
        detections: list[dict[str, Tensor]] = network.transform.postprocess(outputs, batch.image_sizes, originals)
        return detections


def build(encoder: Encoder, classes: int, with_masks: bool, cfg: config.Detection, freeze: bool) -> Detector:
    """Return a detector of ``classes`` classes on the encoder; ``cfg.seed`` initialises the new layers."""
    body = stages(encoder)
    norm_layer = {"group": partial(nn.GroupNorm, 32), "frozen": None}.get(cfg.norm, nn.BatchNorm2d)
    prepare = encoder.preprocess
    with seeds.seeded(cfg.seed, "detector"):
        shared: dict[str, Any] = {
            "backbone": Pyramid(body, norm_layer),
            "rpn_post_nms_top_n_train": 1000,
            "box_roi_pool": MultiScaleRoIAlign(LEVELS, 7, sampling_ratio=0),
            "box_head": TwoMLPHead(WIDTH * 7 * 7, HIDDEN),
            "box_predictor": FastRCNNPredictor(HIDDEN, classes + 1),
            "box_batch_size_per_image": cfg.roi_batch_size,
            "box_detections_per_img": cfg.detections,
        }
        if with_masks:
            network: FasterRCNN = MaskRCNN(
                **shared,
                mask_roi_pool=MultiScaleRoIAlign(LEVELS, 14, sampling_ratio=0),
                mask_head=MaskRCNNHeads(WIDTH, [WIDTH] * 4, 1, norm_layer=norm_layer),
                mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, classes + 1),
            )
        else:
            network = FasterRCNN(**shared)
        _initialise(network)
    for head in (network.rpn.head, network.roi_heads.box_predictor, network.roi_heads.mask_predictor):
        if head is not None:
            head.register_forward_hook(_to_float32)
    network.rpn.anchor_generator.register_forward_pre_hook(_as_float32)
    network.transform = GeneralizedRCNNTransform(cfg.short_side, cfg.long_side, list(prepare.mean), list(prepare.std))
    network.transform.resize = _no_resize
    detector = Detector(network, with_masks)
    body.fix(norms=cfg.norm in ("frozen", "group"), everything=freeze)
    return detector.train()


def _to_float32(_: nn.Module, __: Any, output: Any) -> Any:
    """Cast a head's output to float32 (a forward hook).

    torchvision computes boxes, ground truth included, in the dtype of the predicted offsets. In bfloat16 a coordinate
    of 190 is rounded to whole pixels, one of 1,300 to multiples of eight, and a thin box loses its width.
    """
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_to_float32(_, __, part) for part in output)


def _as_float32(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the anchor generator float32 maps of the same shapes: it reads only their sizes and dtype (a pre-hook)."""
    images, maps = given
    return images, [m.new_zeros((), dtype=torch.float32).expand(m.shape) for m in maps]


def _initialise(network: FasterRCNN) -> None:
    """Initialise the fully connected layers and the last layer of each head as Detectron2 does."""
    heads = network.roi_heads
    for layer in (heads.box_head.fc6, heads.box_head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    last = [(heads.box_predictor.cls_score, 0.01), (heads.box_predictor.bbox_pred, 0.001)]
    if heads.mask_predictor is not None:
        last.append((heads.mask_predictor.mask_fcn_logits, 0.001))
        nn.init.zeros_(heads.mask_predictor.conv5_mask.bias)
    for layer, deviation in last:
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)


def parameter_groups(detector: nn.Module, cfg: config.Detection) -> list[dict[str, Any]]:
    """Return weights and biases with weight decay, and normalisation parameters without."""
    norms = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
    no_decay = {id(p) for m in detector.modules() if isinstance(m, norms) for p in m.parameters(recurse=False)}
    trainable = [p for p in detector.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if id(p) not in no_decay], "weight_decay": cfg.weight_decay},
        {"params": [p for p in trainable if id(p) in no_decay], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@torch.no_grad()
def calibrate(detector: Detector, batches: Iterable[list[Tensor]]) -> None:
    """Set the BatchNorm statistics of a random backbone, needed where they are not trained, from images.

    ``batches`` are lists of images (3, H, W) in [0, 1]. Statistics are unweighted means over the batches.
    """
    norms = [m for m in detector.body.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for images in batches:
        batch, _ = detector.network.transform(list(images))
        detector.body(batch.tensors)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    detector.train(detector.training)
