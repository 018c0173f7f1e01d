"""Bootstrap COCO's average precision, which is not a mean over images.

pycocotools matches every prediction to the truth once, image by image. A bootstrap replicate of N images is then a
weight of 0, 1, 2 ... for each image, and its AP is the weighted accumulation of the same matches: the AP that COCO's
evaluation gives on the images repeated that often (tested; of equal scores, which have no order, those of one image and
class stay together here). All encoders get the same replicates, so their differences are paired.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.detection.evaluate import Kind, of_kind, with_boxes_only
from slmlp.detection.predict import Predictions
from slmlp.runtime import seeds

IOUS = np.linspace(0.5, 0.95, 10)  # T thresholds of overlap
RECALLS = np.linspace(0.0, 1.0, 101)
CELLS = 4_000_000  # most elements of a block of (replicates, predictions)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """One class's D predictions over N images, by falling score."""

    image: npt.NDArray[np.int64]  # (D,) position of the image
    true_positive: npt.NDArray[np.bool_]  # (T, D) matches an object that counts
    false_positive: npt.NDArray[np.bool_]  # (T, D) matches nothing; neither is true where it matches a crowd region
    objects: Array  # (N,) number of objects that count


def match(truth: dict[str, Any], predictions: Predictions, kind: Kind) -> list[Matches]:
    """Return pycocotools' matches of every class: all sizes, at most 100 predictions per image and class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects, detections = COCO(), COCO()
        objects.dataset = with_boxes_only(truth) if kind == "box" else truth
        rows = [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(of_kind(predictions, kind), start=1)]
        for row in rows:
            row["area"] = row["bbox"][2] * row["bbox"][3] if kind == "box" else 0.0  # not used: all sizes count
        detections.dataset = {**truth, "annotations": rows}
        objects.createIndex()
        detections.createIndex()
        evaluator = COCOeval(objects, detections, "bbox" if kind == "box" else "segm")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.evaluate()
    images = {key: i for i, key in enumerate(evaluator.params.imgIds)}
    n, per_class = len(images), []
    for k in range(len(evaluator.params.catIds)):
        cells = [cell for cell in evaluator.evalImgs[k * n : (k + 1) * n] if cell is not None]
        per_class.append(_merge(cells, images, n))
    return per_class


def _merge(cells: list[dict[str, Any]], images: dict[Any, int], n: int) -> Matches:
    """Merge one class's results on ``n`` images, and sort its predictions by falling score."""
    counts = np.zeros(n)
    for cell in cells:
        counts[images[cell["image_id"]]] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
    scores = np.concatenate([np.asarray(c["dtScores"], dtype=np.float64) for c in cells] or [np.zeros(0)])
    positions = np.concatenate([np.full(len(c["dtScores"]), images[c["image_id"]]) for c in cells] or [np.zeros(0)])
    empty = np.zeros((len(IOUS), 0))
    matched = np.concatenate([c["dtMatches"] for c in cells] or [empty], axis=1) > 0
    ignored = np.concatenate([c["dtIgnore"] for c in cells] or [empty], axis=1) > 0
    order = np.argsort(-scores, kind="mergesort")
    true_positive, false_positive = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
    return Matches(positions[order].astype(np.int64), true_positive, false_positive, counts)


def weighted(matches: list[Matches], weights: Array) -> dict[str, Array]:
    """Return ``ap`` and ``ap50`` (R,) of R replicates; ``weights`` (R, N) says how often each has each image.

    As in COCO, a replicate's mean leaves out classes that have no object; a replicate without any object is NaN.
    """
    ap_sum, ap50_sum = np.zeros(len(weights)), np.zeros(len(weights))
    classes = np.zeros(len(weights))
    for of_class in matches:
        if not of_class.objects.any():
            continue
        block = max(1, CELLS // max(1, len(of_class.image)))
        for first in range(0, len(weights), block):
            rows = slice(first, first + block)
            objects = weights[rows] @ of_class.objects  # (R,)
            ap = _class_ap(of_class, weights[rows], objects)  # (T, R)
            has_objects = objects > 0
            ap_sum[rows] += np.where(has_objects, ap.mean(axis=0), 0)
            ap50_sum[rows] += np.where(has_objects, ap[0], 0)
            classes[rows] += has_objects
    with np.errstate(invalid="ignore"):
        return {"ap": ap_sum / classes, "ap50": ap50_sum / classes}


def _class_ap(matches: Matches, weights: Array, objects: Array) -> Array:
    """Return the 101-point AP (T, R) of one class."""
    result = np.zeros((len(IOUS), len(weights)))
    copies = weights[:, matches.image]  # (R, D)
    for t in range(len(IOUS)):
        tp = np.cumsum(copies * matches.true_positive[t], axis=1)
        fp = np.cumsum(copies * matches.false_positive[t], axis=1)
        precision = tp / (tp + fp + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
        for r in np.flatnonzero(objects):
            at = np.searchsorted(tp[r] / objects[r], RECALLS, side="left")
            reached = at < tp.shape[1]
            result[t, r] = best[r, at[reached]].sum() / len(RECALLS)
    return result


def bootstrap_weights(images: int, replicates: int, seed: int = 0) -> Array:
    """Return how often each bootstrap replicate has each image, (replicates, images)."""
    rng = seeds.numpy_generator(seed, "detect-images", images)
    return rng.multinomial(images, np.full(images, 1 / images), size=replicates).astype(np.float64)
