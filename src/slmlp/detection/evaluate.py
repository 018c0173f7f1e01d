"""Compute COCO's average precision with faster-coco-eval, which equals pycocotools'."""

from __future__ import annotations

import copy
from typing import Any, Literal

from slmlp.detection.predict import Predictions

Kind = Literal["box", "mask"]
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # the first six of COCO's twelve


def average_precision(truth: dict[str, Any], predictions: Predictions, kind: Kind) -> dict[str, float]:
    """Return AP (0 to 1) by metric, ``box_ap`` ...; a metric with no object, as of small ones, is left out.

    ``truth`` is a COCO dictionary, ``predictions`` are COCO results. A mask's size is its own area, not its box's.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    objects = COCO(with_boxes_only(truth) if kind == "box" else copy.deepcopy(truth))
    evaluator = COCOeval_faster(
        objects,
        objects.loadRes(of_kind(predictions, kind)),
        "bbox" if kind == "box" else "segm",
        print_function=_silent,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = [float(v) for v in evaluator.stats[: len(METRICS)]]
    return {f"{kind}_{name}": value for name, value in zip(METRICS, values, strict=True) if value >= 0}


def with_boxes_only(truth: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the truth without masks: pycocotools fails on the empty ones that some files have."""
    rows = [{k: v for k, v in row.items() if k != "segmentation"} for row in truth["annotations"]]
    return {**truth, "annotations": rows}


def of_kind(predictions: Predictions, kind: Kind) -> Predictions:
    """Return copies of the predictions with only their boxes, or only their masks."""
    drop = "segmentation" if kind == "box" else "bbox"
    return [{k: copy.copy(v) for k, v in row.items() if k != drop} for row in predictions]


def _silent(*_: object) -> None:
    """Print nothing."""
