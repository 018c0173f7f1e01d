"""Judge one COCO annotation, and bring it into one form, or say what is wrong with it.

Masks follow Detectron2: rings of fewer than three points or of no area are taken out of a polygon, and an object whose
mask is then empty is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SLACK = 2.0  # pixels that a box may reach over the edge; COCO's own do by rounding
FEWEST = 6  # numbers of a ring: three corners


class BadAnnotationError(Exception):
    """What is wrong with an annotation."""


def judged(row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return an annotation with ``bbox``, ``area``, ``iscrowd`` and, where there is one, ``segmentation``.

    Args:
        row: the annotation as in the file.
        size: height and width of its picture in pixels.

    Raises:
        BadAnnotationError: a box that is none or lies outside, a crowd flag that is none, or a mask that cannot be
            drawn or lies beside the box.
    """
    box = _box(row.get("bbox"), size)
    crowd = row.get("iscrowd") or 0
    if crowd not in (0, 1) or isinstance(crowd, str):
        raise BadAnnotationError(f"iscrowd is {crowd!r:.20}, expected 0 or 1")
    area: Any = row.get("area")
    good = _numbers([area]) and math.isfinite(area) and area >= 0
    form = {**row, "bbox": box, "area": float(area) if good else float(box[2] * box[3]), "iscrowd": int(crowd)}
    mask = _mask(row.get("segmentation"), size, box)
    if mask is None:
        form.pop("segmentation", None)
        return form
    return {**form, "segmentation": mask}


def _box(value: Any, size: tuple[int, int]) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not _numbers(value) or not all(map(math.isfinite, value)):
        raise BadAnnotationError(f"box {value!s:.40} is not [left, top, width, height] in pixels")
    left, top, width, height = value
    if width < 0 or height < 0:
        raise BadAnnotationError(f"box {value} has a negative width or height: expected [left, top, width, height]")
    if max(-left, -top, left + width - size[1], top + height - size[0]) > SLACK:
        raise BadAnnotationError(
            f"box {value} reaches more than {SLACK:g} pixels out of its picture of {size[1]} x {size[0]} (expected "
            "[left, top, width, height], neither corners nor a centre)"
        )
    return value


def _mask(value: Any, size: tuple[int, int], box: Sequence[float]) -> Any:
    """Return rings of a polygon, or a run-length mask; None where there is none."""
    if value is None or value == [] or value == [[]]:
        return None
    if isinstance(value, dict):
        return _runs(value, size)
    if not isinstance(value, list):
        raise BadAnnotationError(f"segmentation is a {type(value).__name__}, expected polygons or a run-length mask")
    problems, rings = [], []
    for ring in value:
        problem = _ring_problem(ring)
        if problem is None:
            rings.append(ring)
        else:
            problems.append(problem)
    if not rings:
        raise BadAnnotationError(f"its mask has no ring that can be drawn: {problems[0]}")
    points = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    apart = max(left - (box[0] + box[2]), box[0] - right, top - (box[1] + box[3]), box[1] - bottom)
    if apart > SLACK and box[2] > 0 and box[3] > 0:
        raise BadAnnotationError(
            f"its mask (from {left:.6g}, {top:.6g} to {right:.6g}, {bottom:.6g}) lies beside its box {box}"
        )
    return rings


def _ring_problem(ring: Any) -> str | None:
    """Return why a ring [x, y, x, y ...] cannot be drawn, or None."""
    if not isinstance(ring, list) or not _numbers(ring):
        return f"{ring!s:.40} is no list of numbers"
    if len(ring) % 2:
        return f"a ring of {len(ring)} numbers, which are no pairs"
    if len(ring) < FEWEST:
        return f"a ring of {len(ring) // 2} points"
    points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        return "a ring with NaN or infinity"
    if np.abs(points).max() > 1e6:
        return f"a ring that reaches to {np.abs(points).max():.3g} pixels"
    x, y = (points - points[0]).T
    if abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) < 1e-9:
        return "a ring without area"
    return None


def _runs(value: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return a run-length mask whose runs are exactly the picture's pixels."""
    if list(value.get("size") or ()) != [*size]:
        raise BadAnnotationError(f"its mask is {value.get('size')}, its picture {[*size]} (height, width)")
    counts = value.get("counts")
    if isinstance(counts, list):
        runs = counts if all(type(run) is int and run >= 0 for run in counts) else None
    else:
        runs = _unpacked(counts) if isinstance(counts, str) else None
    if runs is None:
        raise BadAnnotationError("the runs of its mask are no whole numbers of 0 and more, nor COCO's text of them")
    if sum(runs) != size[0] * size[1]:
        raise BadAnnotationError(f"its mask has {sum(runs):,} pixels, its picture {size[0] * size[1]:,}")
    return {"size": [*size], "counts": counts}


def _unpacked(text: str) -> list[int] | None:
    """Return the runs of a packed mask, None where the text is none.

    Five bits a character, least first, the sixth says that more follow; from the fourth run on, the difference to the
    run before the last (pycocotools, common/maskApi.c). The C++ code that draws masks trusts its text.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            return None
        value = shift = 0
    return runs if shift == 0 else None


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
