"""From an image and its annotations to what a detector learns from: resized, perhaps mirrored, boxes and masks with it.

Images are resized on their bytes by Pillow's bilinear filter, which smooths when it shrinks, as Detectron2 does; the
resizing inside torchvision's detectors does not, and at small sides that would be another image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from slmlp import config
from slmlp.data import decode
from slmlp.detection.coco import DetectionSet, Picture, learnable
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train.batches import Plan, StepDataset

LEAST = 0.01  # pixels: a box thinner than float32 can tell stays a box

Target = dict[str, Tensor]  # boxes (n, 4) left, top, right, bottom; labels (n,) from 1; masks (n, H, W) uint8
Batch = tuple[list[Tensor], list[Target]]


def size_of(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return height and width with the short side as asked, smaller where the long side would be too long.

    >>> size_of(480, 640, 800, 1333), size_of(200, 1000, 800, 1333)
    ((800, 1067), (267, 1333))
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def image_tensor(data: DetectionSet, picture: Picture, size: tuple[int, int], mirrored: bool = False) -> Tensor:
    """Return an image as RGB float32 (3, H, W) in [0, 1]."""
    try:
        pixels = decode.decode(data.store.read(picture.name))
    except (OSError, ValueError) as error:
        raise SlmlpError(f"{data.source}: image {picture.name} cannot be read: {error}") from error
    if pixels.shape[:2] != (picture.height, picture.width):
        raise SlmlpError(f"{data.source}: image {picture.name} changed while it was used")
    resized = np.array(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    if mirrored:
        resized = np.ascontiguousarray(resized[:, ::-1])
    return torch.from_numpy(resized).permute(2, 0, 1).float() / 255


def target(picture: Picture, labels: dict[int, int], size: tuple[int, int], mirrored: bool, with_masks: bool) -> Target:
    """Return what is to be learnt of an image at ``size``; ``labels`` is category id -> class from 1."""
    rows = learnable(picture)
    down, across = size[0] / picture.height, size[1] / picture.width
    boxes = np.zeros((len(rows), 4), dtype=np.float64)
    for i, row in enumerate(rows):
        left, top, width, height = row["bbox"]
        right, bottom = min(left + width, picture.width), min(top + height, picture.height)
        boxes[i] = max(left, 0) * across, max(top, 0) * down, right * across, bottom * down
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + LEAST)
    if mirrored:
        boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
    made = {
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
        "labels": torch.tensor([labels[row["category_id"]] for row in rows], dtype=torch.int64),
    }
    if with_masks:
        masks = [mask(row["segmentation"], picture, size) for row in rows]
        stacked = np.stack(masks) if masks else np.zeros((0, *size), dtype=np.uint8)
        made["masks"] = torch.from_numpy(np.ascontiguousarray(stacked[:, :, ::-1] if mirrored else stacked))
    return made


def mask(segmentation: Any, picture: Picture, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return polygons or a run-length mask as uint8 (H, W) of ``size``: polygons are scaled before they are filled."""
    from faster_coco_eval.core import mask as coco_mask

    if isinstance(segmentation, dict):
        packed = segmentation
        if isinstance(packed["counts"], list):
            packed = coco_mask.frPyObjects(packed, *packed["size"])
        whole = Image.fromarray(coco_mask.decode(packed))
        return np.array(whole.resize(size[::-1], Image.Resampling.NEAREST))
    scale = np.array([size[1] / picture.width, size[0] / picture.height])
    rings = [(np.array(ring).reshape(-1, 2) * scale).reshape(-1).tolist() for ring in segmentation if len(ring) >= 6]
    filled: npt.NDArray[np.uint8] = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *size)))
    return filled


def order_plan(images: int, cfg: config.Detection, total: int) -> Plan:
    """Return the order of ``total`` updates over ``images`` usable images: whole permutations, one after the other.

    Raises:
        SlmlpError: a batch larger than the images.
    """
    return Plan(images, cfg.batch_size, total, cfg.seed, use="detect-order", drop_last=False)


class Samples(StepDataset[Batch]):
    """Images and targets of an update, of this process's part of the batch: a function of seed and step alone."""

    prefetch = 2

    def __init__(self, data: DetectionSet, plan: Plan, cfg: config.Detection, with_masks: bool, part: slice) -> None:
        super().__init__(plan, part)
        self.data, self.cfg, self.with_masks, self.usable = data, cfg, with_masks, data.usable()
        self.labels = {key: number for number, (key, _) in enumerate(data.categories, start=1)}

    def __getitem__(self, step: int) -> Batch:
        """Return images and targets."""
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
