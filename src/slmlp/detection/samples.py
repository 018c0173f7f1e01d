"""From an image and its annotations to what a detector learns from: resized, perhaps mirrored, boxes and masks with it.

Images are resized on their bytes by Pillow's bilinear filter, which smooths when it shrinks, as Detectron2 does; the
resizing inside torchvision's detectors does not, and at small sides that would be another image.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from slmlp.runtime.errors import SlmlpError

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


@dataclass(frozen=True)
class Plan:
    """Which images each update sees: whole permutations one after the other, cut into batches."""

    indices: tuple[int, ...]  # positions of the usable images
    batch_size: int
    total: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse a batch that would hold an image twice."""
        if self.batch_size > len(self.indices):
            raise SlmlpError(
                f"--batch-size {self.batch_size} is more than the {len(self.indices)} training images with something "
                "to learn from; choose at most that"
            )

    def chosen(self, step: int) -> list[int]:
        """Return the positions of the images of a step."""
        n, found = len(self.indices), []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            epoch, inside = divmod(place, n)
            found.append(self.indices[self._order(epoch)[inside]])
        return found

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        held: dict[int, npt.NDArray[np.int64]] = self.__dict__.setdefault("_orders", {})
        if epoch not in held:
            for old in [key for key in held if key < epoch - 1]:
                del held[old]
            held[epoch] = seeds.numpy_generator(self.seed, "detect-order", epoch).permutation(len(self.indices))
        return held[epoch]


class Samples(torch.utils.data.Dataset[Batch]):
    """Images and targets of a step, of this process's part of the batch: a function of seed and step alone."""

    def __init__(self, data: DetectionSet, plan: Plan, cfg: config.Detection, with_masks: bool, part: slice) -> None:
        self.data, self.plan, self.cfg, self.with_masks, self.part = data, plan, cfg, with_masks, part
        self.labels = {key: number for number, (key, _) in enumerate(data.categories, start=1)}

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.plan.total

    def __getitem__(self, step: int) -> Batch:
        """Return images and targets."""
        rng = seeds.numpy_generator(self.plan.seed, "detect-augment", step)
        sides = rng.choice(self.cfg.sides, size=self.plan.batch_size).tolist()
        mirrored = (rng.random(self.plan.batch_size) < 0.5).tolist()
        images, targets = [], []
        for index, side, flip in zip(
            self.plan.chosen(step)[self.part], sides[self.part], mirrored[self.part], strict=True
        ):
            picture = self.data.pictures[index]
            size = size_of(picture.height, picture.width, side, self.cfg.long_side)
            images.append(image_tensor(self.data, picture, size, flip))
            targets.append(target(picture, self.labels, size, flip, self.with_masks))
        return images, targets

    def iterate(self, start: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to the end."""
        steps: Sequence[int] = range(start, len(self))
        if self.cfg.workers == 0:
            yield from (self[step] for step in steps)
            return
        yield from torch.utils.data.DataLoader(
            self, batch_size=None, sampler=steps, num_workers=self.cfg.workers, worker_init_fn=_worker
        )


def _worker(_: int) -> None:
    torch.set_num_threads(1)
    # a launcher signals whole process groups: training decides when to stop, and ends its workers itself
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
