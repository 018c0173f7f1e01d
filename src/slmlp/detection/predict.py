"""Predict boxes and masks for a part's images; write and read them in COCO's results format."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slmlp import config
from slmlp.detection.coco import DetectionSet
from slmlp.detection.model import Detector
from slmlp.detection.samples import resized_image
from slmlp.runtime import distributed, files, json_files
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import track
from slmlp.runtime.ranks import all_gather_object

Predictions = list[dict[str, Any]]  # image_id, category_id, bbox [left, top, width, height], score, segmentation


def predict(detector: Detector, data: DetectionSet, cfg: config.Detection, compute: Compute, name: str) -> Predictions:
    """Return the predictions on all images, in order, computed by all ranks; the detector's mode is restored.

    Batches hold one image, so padding by other images cannot change a prediction.
    """
    share = range(*distributed.share_of(len(data)).indices(len(data)))
    predictions = some(detector, data, track(share, len(share), f"{name}: {data.part}"), cfg, compute)
    return [row for part in all_gather_object(predictions) for row in part]


def some(
    detector: Detector, data: DetectionSet, indices: Iterable[int], cfg: config.Detection, compute: Compute
) -> Predictions:
    """Return the predictions on some images by this process alone; the detector's mode is restored."""
    training = detector.training
    detector.eval()
    predictions: Predictions = []
    with torch.inference_mode():
        for index in indices:
            predictions += _predict_image(detector, data, index, cfg, compute)
    detector.train(training)
    return predictions


def _predict_image(
    detector: Detector, data: DetectionSet, index: int, cfg: config.Detection, compute: Compute
) -> Predictions:
    picture = data.pictures[index]
    image = resized_image(data, picture, cfg).to(compute.device)
    with compute.autocast():
        (output,) = detector.predict([image], [(picture.height, picture.width)])
    boxes = output["boxes"].cpu().double().numpy()
    boxes[:, 2:] -= boxes[:, :2]
    rows: Predictions = [
        {
            "image_id": picture.id,
            "category_id": data.categories[label - 1][0],
            "bbox": [round(v, 2) for v in box],
            "score": round(score, 6),
        }
        for box, label, score in zip(
            boxes.tolist(), output["labels"].tolist(), output["scores"].double().tolist(), strict=True
        )
    ]
    if detector.with_masks:
        from faster_coco_eval.core import mask as coco_mask

        for row, probabilities in zip(rows, output["masks"], strict=True):
            filled = np.asfortranarray((probabilities[0] > 0.5).cpu().numpy().astype(np.uint8))
            rle = coco_mask.encode(filled)
            row["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    return rows


def write(path: Path, predictions: Predictions) -> None:
    """Write COCO results as gzipped JSON; the same predictions give the same bytes."""
    files.write_bytes(path, gzip.compress(json.dumps(predictions, separators=(",", ":")).encode(), mtime=0))


def read(path: Path) -> Predictions:
    """Read COCO results, gzipped or not."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise SlmlpError(f"{path} cannot be read as COCO results ({error}); remove it and run again") from error
    predictions = json_files.parse(content, str(path), "remove it and run again", nan=True)
    if not isinstance(predictions, list):
        raise SlmlpError(f"{path} is no COCO results file: expected a list of predictions")
    return predictions
