"""COCO's average precision of predictions, by faster-coco-eval, which gives pycocotools' numbers."""

from __future__ import annotations

import copy
from typing import Any, Literal

from slmlp.detection.predict import Found

Kind = Literal["box", "mask"]
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # the first six of COCO's twelve


def average_precision(truth: dict[str, Any], found: Found, kind: Kind) -> dict[str, float]:
    """Return AP (0 to 1) by metric, ``box_ap`` ...; those without any object to be found (no small ones, say) lack.

    ``truth`` is a COCO dictionary, ``found`` COCO results. A mask's area is its own, not that of its box.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    objects = COCO(with_boxes_only(truth) if kind == "box" else copy.deepcopy(truth))
    judge = COCOeval_faster(
        objects, objects.loadRes(of_kind(found, kind)), "bbox" if kind == "box" else "segm", print_function=_silent
    )
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    values = [float(v) for v in judge.stats[: len(METRICS)]]
    return {f"{kind}_{name}": value for name, value in zip(METRICS, values, strict=True) if value >= 0}


def with_boxes_only(truth: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the truth without masks: some files have an empty one, which readers trip over."""
    rows = [{k: v for k, v in row.items() if k != "segmentation"} for row in truth["annotations"]]
    return {**truth, "annotations": rows}


def of_kind(found: Found, kind: Kind) -> Found:
    """Return copies of the predictions with what one kind is judged by: a box, or a mask."""
    drop = "segmentation" if kind == "box" else "bbox"
    return [{k: copy.copy(v) for k, v in row.items() if k != drop} for row in found]


def _silent(*_: object) -> None:
    """Say nothing."""
