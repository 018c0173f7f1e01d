"""What a detector finds in a part's images, as COCO's results format has it, and the file that keeps it."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slmlp import config
from slmlp.detection.coco import DetectionSet
from slmlp.detection.model import Detector
from slmlp.detection.samples import resized_image
from slmlp.runtime import distributed, files, work
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.ranks import all_gather_object

Found = list[dict[str, Any]]  # image_id, category_id, bbox [left, top, width, height], score, segmentation


def predict(detector: Detector, data: DetectionSet, cfg: config.Detection, compute: Compute, name: str) -> Found:
    """Return what is found in all images, in their order; several processes share them. The mode is left as it was.

    An image alone at a time: predictions do not depend on the company an image is in.
    """
    training = detector.training
    detector.eval()
    share = range(*distributed.share_of(len(data)).indices(len(data)))
    mine: Found = []
    with torch.inference_mode():
        for index in work.track(share, len(share), f"{name}: {data.part}"):
            mine += _of_image(detector, data, index, cfg, compute)
    detector.train(training)
    return [row for part in all_gather_object(mine) for row in part]


def _of_image(detector: Detector, data: DetectionSet, index: int, cfg: config.Detection, compute: Compute) -> Found:
    picture = data.pictures[index]
    image = resized_image(data, picture, cfg).to(compute.device)
    with compute.autocast():
        (found,) = detector.predict([image], [(picture.height, picture.width)])
    boxes = found["boxes"].cpu().double().numpy()
    boxes[:, 2:] -= boxes[:, :2]
    rows: Found = [
        {
            "image_id": picture.id,
            "category_id": data.categories[label - 1][0],
            "bbox": [round(v, 2) for v in box],
            "score": round(score, 6),
        }
        for box, label, score in zip(
            boxes.tolist(), found["labels"].tolist(), found["scores"].double().tolist(), strict=True
        )
    ]
    if detector.with_masks:
        from faster_coco_eval.core import mask as coco_mask

        for row, drawn in zip(rows, found["masks"], strict=True):
            filled = np.asfortranarray((drawn[0] > 0.5).cpu().numpy().astype(np.uint8))
            packed = coco_mask.encode(filled)
            row["segmentation"] = {"size": list(packed["size"]), "counts": packed["counts"].decode()}
    return rows


def write(path: Path, found: Found) -> None:
    """Write COCO results as gzipped JSON; the same predictions give the same bytes."""
    files.write_bytes(path, gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0))


def read(path: Path) -> Found:
    """Read what ``write`` wrote, or COCO results that are not compressed."""
    try:
        content = path.read_bytes()
        found = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise SlmlpError(f"{path} cannot be read as COCO results ({error}); remove it and run again") from error
    if not isinstance(found, list):
        raise SlmlpError(f"{path} is no COCO results file: expected a list of predictions")
    return found
