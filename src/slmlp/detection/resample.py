"""Bootstrap of COCO's average precision, which is no mean over images.

Every prediction is matched to the truth once, image by image, by pycocotools. A bootstrap replicate of N images is then
a weight of 0, 1, 2 ... for each image, and its AP the weighted accumulation of the same matches: what COCO's evaluation
would give with every image repeated as often (tested against exactly that; predictions of one image and class with
equal scores, which have no order, stand together here). All encoders get the same replicates, so their differences are
paired.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.detection.evaluate import Kind, of_kind, with_boxes_only
from slmlp.detection.predict import Found
from slmlp.runtime import seeds

IOUS = np.linspace(0.5, 0.95, 10)  # T thresholds of overlap
RECALLS = np.linspace(0.0, 1.0, 101)
CELLS = 4_000_000  # numbers of a block of replicates by predictions in memory at once
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """One class's predictions, surest first, D of them, over N images."""

    image: npt.NDArray[np.int64]  # (D,) position of the image
    right: npt.NDArray[np.bool_]  # (T, D) takes an object that counts
    wrong: npt.NDArray[np.bool_]  # (T, D) takes none; neither: takes a crowd region
    objects: Array  # (N,) objects that count


def match(truth: dict[str, Any], found: Found, kind: Kind) -> list[Matches]:
    """Return the matches of every class by pycocotools, all sizes, at most 100 predictions an image and class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects, guesses = COCO(), COCO()
        objects.dataset = with_boxes_only(truth) if kind == "box" else truth
        rows = [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(of_kind(found, kind), start=1)]
        for row in rows:
            row["area"] = row["bbox"][2] * row["bbox"][3] if kind == "box" else 0.0  # all sizes count here
        guesses.dataset = {**truth, "annotations": rows}
        objects.createIndex()
        guesses.createIndex()
        judge = COCOeval(objects, guesses, "bbox" if kind == "box" else "segm")
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
    images = {key: i for i, key in enumerate(judge.params.imgIds)}
    n, per_class = len(images), []
    for k in range(len(judge.params.catIds)):
        cells = [cell for cell in judge.evalImgs[k * n : (k + 1) * n] if cell is not None]
        per_class.append(_joined(cells, images, n))
    return per_class


def _joined(cells: list[dict[str, Any]], images: dict[Any, int], n: int) -> Matches:
    counts = np.zeros(n)
    for cell in cells:
        counts[images[cell["image_id"]]] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
    scores = np.concatenate([np.asarray(c["dtScores"], dtype=np.float64) for c in cells] or [np.zeros(0)])
    where = np.concatenate([np.full(len(c["dtScores"]), images[c["image_id"]]) for c in cells] or [np.zeros(0)])
    nothing = np.zeros((len(IOUS), 0))
    taken = np.concatenate([c["dtMatches"] for c in cells] or [nothing], axis=1) > 0
    ignored = np.concatenate([c["dtIgnore"] for c in cells] or [nothing], axis=1) > 0
    order = np.argsort(-scores, kind="mergesort")
    right, wrong = (taken & ~ignored)[:, order], (~taken & ~ignored)[:, order]
    return Matches(where[order].astype(np.int64), right, wrong, counts)


def weighted(matches: list[Matches], weights: Array) -> dict[str, Array]:
    """Return ``ap`` and ``ap50`` (R,) for R rows of ``weights`` (R, N), the number of times each image counts.

    A row in which a class has no object leaves the class out, as COCO does; one without any object is NaN.
    """
    sums, halves = np.zeros(len(weights)), np.zeros(len(weights))
    classes = np.zeros(len(weights))
    for one in matches:
        if not one.objects.any():
            continue
        block = max(1, CELLS // max(1, len(one.image)))
        for first in range(0, len(weights), block):
            rows = slice(first, first + block)
            objects = weights[rows] @ one.objects  # (R,)
            ap = _class_ap(one, weights[rows], objects)  # (T, R)
            counted = objects > 0
            sums[rows] += np.where(counted, ap.mean(axis=0), 0)
            halves[rows] += np.where(counted, ap[0], 0)
            classes[rows] += counted
    with np.errstate(invalid="ignore"):
        return {"ap": sums / classes, "ap50": halves / classes}


def _class_ap(one: Matches, weights: Array, objects: Array) -> Array:
    """Return the 101-point AP (T, R) of one class."""
    result = np.zeros((len(IOUS), len(weights)))
    copies = weights[:, one.image]  # (R, D)
    for t in range(len(IOUS)):
        right, wrong = np.cumsum(copies * one.right[t], axis=1), np.cumsum(copies * one.wrong[t], axis=1)
        precision = right / (right + wrong + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
        for r in np.flatnonzero(objects):
            at = np.searchsorted(right[r] / objects[r], RECALLS, side="left")
            inside = at < right.shape[1]
            result[t, r] = best[r, at[inside]].sum() / len(RECALLS)
    return result


def bootstrap_weights(images: int, replicates: int, seed: int = 0) -> Array:
    """Return how often each image is in each bootstrap replicate (replicates, images), the same for every encoder."""
    rng = seeds.numpy_generator(seed, "detect-images", images)
    return rng.multinomial(images, np.full(images, 1 / images), size=replicates).astype(np.float64)
