"""Draw predictions beside the truth: one PNG per image, with a panel for the truth and one per encoder."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from slmlp.data import decode
from slmlp.detection.coco import DetectionSet, Picture
from slmlp.detection.predict import Predictions
from slmlp.detection.samples import mask
from slmlp.runtime import files

PANEL = 320  # pixels, the long side of a panel
HEAD = 18  # pixels above a panel for its name
GAP = 6
MASK_ALPHA = 0.4


def draw(folder: Path, data: DetectionSet, predictions: Mapping[str, Predictions], count: int) -> list[dict[str, str]]:
    """Write up to ``count`` pictures of evenly spaced images; return each one's file name and caption.

    For each encoder, the predictions of highest score are drawn, as many as the image has objects: after a short
    training scores are low, and a fixed threshold would draw nothing.
    """
    number = min(count, len(data))
    indices = sorted({round(i * (len(data) - 1) / max(1, number - 1)) for i in range(number)})
    written = []
    for index in indices:
        picture = data.pictures[index]
        objects = sum(not a["iscrowd"] for a in picture.annotations)
        panels = [("truth", [dict(a) for a in picture.annotations if not a["iscrowd"]])]
        for name, rows in predictions.items():
            by_score = sorted((row for row in rows if row["image_id"] == picture.id), key=lambda row: -row["score"])
            panels.append((name, by_score[:objects]))
        name = f"{Path(picture.name).stem}.png"
        folder.mkdir(parents=True, exist_ok=True)
        with files.atomic(folder / name) as temporary:
            _sheet(data, picture, panels).save(temporary, format="PNG")
        counts = ", ".join(f"{len(rows)} of {row_name}" for row_name, rows in panels[1:])
        written.append(
            {"file": name, "words": f"{Path(picture.name).name}: {objects} objects; predictions shown: {counts}"}
        )
    return written


def _sheet(data: DetectionSet, picture: Picture, panels: Sequence[tuple[str, list[dict[str, Any]]]]) -> Image.Image:
    scale = PANEL / max(picture.width, picture.height)
    size = max(1, round(picture.height * scale)), max(1, round(picture.width * scale))
    pixels = pil_to_tensor(Image.fromarray(decode.decode(data.store.read(picture.name))).resize(size[::-1]))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    width, height = size[1] + GAP, size[0] + HEAD + GAP
    sheet = Image.new("RGB", (across * width - GAP, down * height - GAP), "white")
    for number, (name, rows) in enumerate(panels):
        left, top = number % across * width, number // across * height
        ImageDraw.Draw(sheet).text((left, top + 3), name, fill="black", font=ImageFont.load_default(size=11))
        sheet.paste(_panel(pixels, data, picture, rows, size), (left, top + HEAD))
    return sheet


def _panel(
    pixels: Tensor, data: DetectionSet, picture: Picture, rows: Sequence[dict[str, Any]], size: tuple[int, int]
) -> Image.Image:
    """Draw masks, boxes and names of annotations or predictions on uint8 pixels (3, H, W)."""
    names = dict(data.categories)
    order = {key: i for i, key in enumerate(names)}
    colours = [_colour(order[row["category_id"]], len(order)) for row in rows]
    masks = {i: mask(row["segmentation"], picture, size) for i, row in enumerate(rows) if row.get("segmentation")}
    if masks:
        stacked = torch.from_numpy(np.stack(list(masks.values()))).bool()
        pixels = draw_segmentation_masks(pixels, stacked, MASK_ALPHA, [colours[i] for i in masks])
    if rows:
        boxes = box_convert(torch.tensor([row["bbox"] for row in rows]), "xywh", "xyxy") * size[1] / picture.width
        labels = [names[row["category_id"]] + (f" {row['score']:.2f}" if "score" in row else "") for row in rows]
        pixels = draw_bounding_boxes(
            pixels, boxes, labels, colours, width=2, label_colors="white", label_background_colors=colours,
            fill_labels=True,
        )  # fmt: skip
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _colour(index: int, count: int) -> tuple[int, int, int]:
    """Return class ``index``'s colour of ``count`` distinct ones, dark enough for white letters."""
    red, green, blue = colorsys.hsv_to_rgb(index / max(count, 1), 0.85, 0.72)
    return round(255 * red), round(255 * green), round(255 * blue)
