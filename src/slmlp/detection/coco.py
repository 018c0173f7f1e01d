"""COCO annotations, checked: every id, box and image file that does not fit is counted and named in one line.

What COCO itself allows is taken as COCO takes it: crowd regions are never learnt from and are ignored when AP is
measured; boxes without width or height are not learnt from and stay in the truth that AP is measured against.
"""

from __future__ import annotations

import io
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from slmlp.detection.layout import Place, Store
from slmlp.runtime import files, work
from slmlp.runtime.errors import SlmlpError

SLACK = 2.0  # pixels that a box may reach over the edge; COCO's own do by rounding
SHOWN = 3  # examples in an error


@dataclass(frozen=True)
class Picture:
    """An image of a part."""

    id: int
    name: str  # in the store
    width: int  # pixels
    height: int
    annotations: tuple[dict[str, Any], ...]  # as the file has them, with area and iscrowd filled in


@dataclass(frozen=True)
class DetectionSet:
    """One part of a COCO data set."""

    part: str
    source: str
    pictures: tuple[Picture, ...]
    categories: tuple[tuple[int, str], ...]  # (id, name), by id; class k of a detector is entry k - 1, 0 is background
    store: Store

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pictures)

    def usable(self) -> tuple[int, ...]:
        """Return the positions of the images with something to learn from; others are left out of training."""
        return tuple(i for i, picture in enumerate(self.pictures) if learnable(picture))

    @property
    def masks(self) -> bool:
        """Whether every annotation that is learnt from has a mask."""
        return all(has_mask(a) for picture in self.pictures for a in learnable(picture))

    def without_masks(self) -> int:
        """Return how many annotations that are learnt from have no mask."""
        return sum(not has_mask(a) for picture in self.pictures for a in learnable(picture))

    def truth(self) -> dict[str, Any]:
        """Return a COCO dictionary. Annotations' ids count from 1: pycocotools takes an id of 0 for none."""
        rows = [{**a, "image_id": picture.id} for picture in self.pictures for a in picture.annotations]
        return {
            "images": [{"id": p.id, "width": p.width, "height": p.height} for p in self.pictures],
            "annotations": [{**row, "id": number} for number, row in enumerate(rows, start=1)],
            "categories": [{"id": key, "name": name} for key, name in self.categories],
        }

    def hash(self) -> str:
        """Return the SHA-256 over annotations and image files' names (their bytes are not read)."""
        return files.hash_json([self.truth(), [posixpath.basename(p.name) for p in self.pictures]])

    def describe(self) -> str:
        """Return one line for people."""
        boxes = [a for p in self.pictures for a in p.annotations]
        crowd = sum(int(a["iscrowd"]) for a in boxes)
        empty = sum(not a["iscrowd"] and min(a["bbox"][2:]) <= 0 for a in boxes)
        idle = len(self) - len(self.usable())
        notes = [
            f"{n:,} {words}"
            for n, words in (
                (crowd, "crowd regions"), (empty, "boxes without extent, which are not learnt from"),
                (idle, "images with nothing to learn from"),
            )
            if n
        ]  # fmt: skip
        return (
            f"{self.part}: {len(self):,} images, {len(boxes):,} {'masks' if self.masks else 'boxes'} of "
            f"{len({a['category_id'] for a in boxes})} classes" + (f"; {', '.join(notes)}" if notes else "")
        )


def learnable(picture: Picture) -> list[dict[str, Any]]:
    """Return the annotations that training uses: no crowd, and a width and a height inside the image."""
    kept = []
    for a in picture.annotations:
        left, top, width, height = a["bbox"]
        inside = min(left + width, picture.width) > max(left, 0) and min(top + height, picture.height) > max(top, 0)
        if not a["iscrowd"] and width > 0 and height > 0 and inside:
            kept.append(a)
    return kept


def has_mask(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation has polygons of three corners, or a run-length mask."""
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        return "counts" in found and "size" in found
    return isinstance(found, list) and any(isinstance(ring, list) and len(ring) >= 6 for ring in found)


def load(place: Place) -> DetectionSet:
    """Return the part, or one line with everything of the first kind that does not fit."""
    where, content = place.annotations, place.content
    rows: dict[str, list[dict[str, Any]]] = {}
    for key in ("images", "annotations", "categories"):
        found = content.get(key)
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise SlmlpError(f"{where} is no COCO file: expected a list of objects under {key!r}")
        rows[key] = found
    if not rows["images"] or not rows["categories"]:
        raise SlmlpError(f"{where} holds {len(rows['images'])} images and {len(rows['categories'])} categories")
    _check_ids(rows, where)
    _check_boxes(rows, where)
    of: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in rows["images"]}
    for a in rows["annotations"]:
        area = a.get("area")
        filled = float(area) if isinstance(area, int | float) else float(a["bbox"][2] * a["bbox"][3])
        of[a["image_id"]].append({**a, "area": filled, "iscrowd": int(a.get("iscrowd") or 0)})
    pictures = tuple(
        Picture(
            row["id"], posixpath.join(place.folder, row["file_name"]), row["width"], row["height"], tuple(of[row["id"]])
        )
        for row in rows["images"]
    )
    _check_files(pictures, place)
    categories = tuple(sorted((int(row["id"]), str(row.get("name", row["id"]))) for row in rows["categories"]))
    return DetectionSet(place.part, where, pictures, categories, place.store)


def same_categories(train: DetectionSet, other: DetectionSet) -> None:
    """Refuse a part whose categories are not those trained on."""
    mine, theirs = dict(train.categories), dict(other.categories)
    differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    if differing:
        key = differing[0]
        raise SlmlpError(
            f"{other.source} has other categories than {train.source}: {len(differing)} differ, first id {key} "
            f"({theirs.get(key)!r} there, {mine.get(key)!r} in training)"
        )


def _check_ids(rows: dict[str, list[dict[str, Any]]], where: str) -> None:
    for key in rows:
        if key != "annotations":  # whose own ids are not used: they are numbered anew
            odd = [
                f"entry {i} ({row.get('id')!r})" for i, row in enumerate(rows[key]) if type(row.get("id")) is not int
            ]
            _refuse(where, f"entries of {key} have no whole number as id", odd)
        double = [i for i, n in Counter(str(row.get("id")) for row in rows[key] if "id" in row).items() if n > 1]
        _refuse(where, f"ids of {key} are there twice", double)
    for key, name in (("images", "image_id"), ("categories", "category_id")):
        known = {row["id"] for row in rows[key]}
        lost = [
            f"{a.get('id')} ({name} {a.get(name)!r})"
            for a in rows["annotations"]
            if type(a.get(name)) is not int or a[name] not in known
        ]
        _refuse(where, f"annotations name {key} that are not there", lost)


def _check_boxes(rows: dict[str, list[dict[str, Any]]], where: str) -> None:
    sizes: dict[Any, tuple[int, int]] = {}
    for row in rows["images"]:
        size: Any = row.get("width"), row.get("height")
        sizes[row["id"]] = size if all(type(v) is int and v > 0 for v in size) else (0, 0)
    _refuse(
        where, "images have no width and height in whole pixels", [key for key, size in sizes.items() if not size[0]]
    )
    _refuse(
        where, "images have no file_name", [r["id"] for r in rows["images"] if not isinstance(r.get("file_name"), str)]
    )
    odd: list[str] = []
    outside: list[str] = []
    unlike: list[str] = []
    for a in rows["annotations"]:
        box = _box(a.get("bbox"))
        if box is None:
            odd.append(f"{a.get('id')} ({a.get('bbox')})")
            continue
        width, height = sizes[a["image_id"]]
        over = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
        if over > SLACK:
            outside.append(f"{a.get('id')} ({box} in {width} x {height})")
        mask = a.get("segmentation")
        if isinstance(mask, dict) and list(mask.get("size") or ()) != [height, width]:
            unlike.append(f"{a.get('id')} ({mask.get('size')} for {height} x {width})")
    _refuse(where, "masks are of another height and width than their images", unlike)
    _refuse(where, "boxes are not [left, top, width, height] in pixels, sizes 0 or more", odd)
    _refuse(where, f"boxes reach more than {SLACK:g} pixels out of their images", outside)


def _check_files(pictures: Sequence[Picture], place: Place) -> None:
    """Look at every image file's header, in threads."""
    missing = [picture.name for picture in pictures if picture.name not in place.names]
    _refuse(place.annotations, f"image files are not in {place.store.source}", missing)

    def problem(i: int) -> str | None:
        picture = pictures[i]
        try:
            with Image.open(io.BytesIO(place.store.read(picture.name))) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
                size = (image.height, image.width) if turned else image.size
        except (OSError, ValueError, SyntaxError) as error:
            return f"{picture.name} (cannot be read: {str(error)[:60]})"
        if size != (picture.width, picture.height):
            return f"{picture.name} ({size[0]} x {size[1]}, annotated as {picture.width} x {picture.height})"
        return None

    told = work.in_threads(problem, len(pictures), f"checking {place.part} images")
    _refuse(place.annotations, "image files do not fit their annotations", [text for _, text in told if text])


def _refuse(where: str, what: str, found: Sequence[Any]) -> None:
    if found:
        shown = ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
        raise SlmlpError(f"{where}: {len(found):,} {what}: {shown}; correct the file, or leave them out of it")


def _box(found: Any) -> list[float] | None:
    """Return x, y, width and height as they stand in the file, or None where they are no box."""
    if not isinstance(found, list) or len(found) != 4 or not all(isinstance(v, int | float) for v in found):
        return None
    return found if all(math.isfinite(v) for v in found) and found[2] >= 0 and found[3] >= 0 else None
