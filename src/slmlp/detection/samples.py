"""Training samples of a detector: resized and mirrored images with their boxes, labels and masks.

As in Detectron2, Pillow's bilinear filter resizes the images: it antialiases when it shrinks, the resize inside
torchvision's detectors does not. Boxes are scaled in float64. Polygons are scaled before they are filled, because
resizing a filled mask loses its edges at small sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from slmlp import config
from slmlp.data import decode
from slmlp.detection.coco import DetectionSet, Picture, learnable
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train.batches import Plan, StepDataset

MIN_EXTENT = 0.01  # pixels: so that thin boxes keep a width and a height in float32

Target = dict[str, Tensor]  # boxes (n, 4) left, top, right, bottom; labels (n,) from 1; masks (n, H, W) uint8
Batch = tuple[list[Tensor], list[Target]]


def size_of(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return height and width for this short side, reduced where the long side would exceed ``long_side``.

    >>> size_of(480, 640, 800, 1333), size_of(200, 1000, 800, 1333)
    ((800, 1067), (267, 1333))
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def image_tensor(data: DetectionSet, picture: Picture, size: tuple[int, int], mirrored: bool = False) -> Tensor:
    """Return an image as RGB float32 (3, H, W) in [0, 1], resized to ``size`` (height, width)."""
    try:
        pixels = decode.decode(data.store.read(picture.name))
    except (OSError, ValueError) as error:
        raise SlmlpError(f"{data.source}: image {picture.name} cannot be read: {error}") from error
    if pixels.shape[:2] != (picture.height, picture.width):
        raise SlmlpError(f"{data.source}: image {picture.name} changed since its annotations were checked")
    image = F.resize(Image.fromarray(pixels), list(size), F.InterpolationMode.BILINEAR)
    tensor: Tensor = F.pil_to_tensor(F.horizontal_flip(image) if mirrored else image)
    return tensor.float() / 255


def resized_image(data: DetectionSet, picture: Picture, cfg: config.Detection) -> Tensor:
    """Return an image at test size: float32 (3, H, W) in [0, 1], not mirrored."""
    return image_tensor(data, picture, size_of(picture.height, picture.width, cfg.short_side, cfg.long_side))


def target(picture: Picture, labels: dict[int, int], size: tuple[int, int], mirrored: bool, with_masks: bool) -> Target:
    """Return an image's training target at ``size`` (height, width); ``labels`` maps category id to class from 1."""
    annotations = learnable(picture)
    rows = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64).reshape(-1, 4)
    boxes = BoundingBoxes(rows, format="XYWH", canvas_size=(picture.height, picture.width))
    corners = F.clamp_bounding_boxes(F.convert_bounding_box_format(boxes, new_format=BoundingBoxFormat.XYXY))
    # F.resize would scale by float32 factors
    scale = torch.tensor([size[1] / picture.width, size[0] / picture.height] * 2, dtype=torch.float64)
    scaled = corners * scale
    scaled[:, 2:] = torch.maximum(scaled[:, 2:], scaled[:, :2] + MIN_EXTENT)
    if mirrored:
        scaled = F.horizontal_flip_bounding_boxes(scaled, BoundingBoxFormat.XYXY, size)
    result = {
        "boxes": scaled.float(),
        "labels": torch.tensor([labels[a["category_id"]] for a in annotations], dtype=torch.int64),
    }
    if with_masks:
        masks = [torch.from_numpy(mask(a["segmentation"], picture, size)) for a in annotations]
        stacked = torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.uint8)
        result["masks"] = F.horizontal_flip(stacked) if mirrored else stacked
    return result


def mask(segmentation: Any, picture: Picture, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return polygons or a run-length mask as uint8 (H, W) of ``size``."""
    from faster_coco_eval.core import mask as coco_mask

    if isinstance(segmentation, dict):
        rle = segmentation
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, *rle["size"])
        return np.array(F.resize(Image.fromarray(coco_mask.decode(rle)), list(size), F.InterpolationMode.NEAREST))
    scale = np.array([size[1] / picture.width, size[0] / picture.height])
    rings = [(np.array(ring).reshape(-1, 2) * scale).reshape(-1).tolist() for ring in segmentation]
    filled: npt.NDArray[np.uint8] = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *size)))
    return filled


def order_plan(images: int, cfg: config.Detection, total: int) -> Plan:
    """Return the order of ``total`` updates over ``images`` usable images, in consecutive whole permutations.

    Raises:
        SlmlpError: the batch is larger than the number of images.
    """
    return Plan(images, cfg.batch_size, total, cfg.seed, use="detect-order", drop_last=False)


class Samples(StepDataset[Batch]):
    """Images and targets of this rank's part of each batch; they depend on seed and step alone."""

    prefetch = 2

    def __init__(self, data: DetectionSet, plan: Plan, cfg: config.Detection, with_masks: bool, part: slice) -> None:
        super().__init__(plan, part)
        self.data, self.cfg, self.with_masks, self.usable = data, cfg, with_masks, data.usable()
        self.labels = {key: number for number, (key, _) in enumerate(data.categories, start=1)}

    def __getitem__(self, step: int) -> Batch:
        rng = seeds.numpy_generator(self.plan.seed, "detect-augment", step)
        sides = rng.choice(self.cfg.sides, size=self.plan.batch_size).tolist()
        mirrored = (rng.random(self.plan.batch_size) < 0.5).tolist()
        positions = self.plan.chosen(step).tolist()
        images, targets = [], []
        for position, side, flip in zip(positions[self.part], sides[self.part], mirrored[self.part], strict=True):
            picture = self.data.pictures[self.usable[position]]
            size = size_of(picture.height, picture.width, side, self.cfg.long_side)
            images.append(image_tensor(self.data, picture, size, flip))
            targets.append(target(picture, self.labels, size, flip, self.with_masks))
        return images, targets

    def inputs(self, batch: Batch, compute: Compute) -> tuple[list[Tensor], list[Target]]:
        """Return images and targets on the device."""
        images, targets = batch
        on_device = [{k: v.to(compute.device, non_blocking=True) for k, v in row.items()} for row in targets]
        return [image.to(compute.device, non_blocking=True) for image in images], on_device
