"""Read COCO annotations and check ids, boxes, masks and image files; report invalid entries in one line.

As in COCO, crowd regions are not trained on and AP ignores them; boxes of zero width or height are not trained on but
count in AP.
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

from slmlp.detection.layout import PartFiles, Store
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import in_threads

SLACK = 2.0  # pixels that a box may reach over the edge; COCO's own do by rounding
EXAMPLES = 3  # invalid entries that an error names


@dataclass(frozen=True)
class Picture:
    """An image of a part."""

    id: int
    name: str  # in the store
    width: int  # pixels
    height: int
    annotations: tuple[dict[str, Any], ...]  # as in the file, with area and iscrowd filled in


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
        """Return the positions of the images that have an annotation to train on."""
        return tuple(i for i, picture in enumerate(self.pictures) if learnable(picture))

    @property
    def masks(self) -> bool:
        """Whether every annotation that training uses has a mask."""
        return all(has_mask(a) for picture in self.pictures for a in learnable(picture))

    def without_masks(self) -> int:
        """Return how many annotations that training uses have no mask."""
        return sum(not has_mask(a) for picture in self.pictures for a in learnable(picture))

    def truth(self) -> dict[str, Any]:
        """Return a COCO dictionary. Annotation ids count from 1: pycocotools takes an id of 0 for no match."""
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
        """Return a one-line summary: numbers of images, annotations and classes."""
        boxes = [a for p in self.pictures for a in p.annotations]
        crowd = sum(int(a["iscrowd"]) for a in boxes)
        empty = sum(not a["iscrowd"] and min(a["bbox"][2:]) <= 0 for a in boxes)
        unused = len(self) - len(self.usable())
        notes = [
            f"{n:,} {words}"
            for n, words in (
                (crowd, "crowd regions"), (empty, "boxes without extent (not trained on)"),
                (unused, "images with no annotation to train on"),
            )
            if n
        ]  # fmt: skip
        return (
            f"{self.part}: {len(self):,} images, {len(boxes):,} {'masks' if self.masks else 'boxes'} of "
            f"{len({a['category_id'] for a in boxes})} classes" + (f"; {', '.join(notes)}" if notes else "")
        )


def learnable(picture: Picture) -> list[dict[str, Any]]:
    """Return the annotations that training uses: not a crowd, with a positive area inside the image."""
    annotations = []
    for a in picture.annotations:
        left, top, width, height = a["bbox"]
        inside = min(left + width, picture.width) > max(left, 0) and min(top + height, picture.height) > max(top, 0)
        if not a["iscrowd"] and width > 0 and height > 0 and inside:
            annotations.append(a)
    return annotations


def has_mask(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation has a polygon of at least three corners, or a run-length mask."""
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        return "counts" in mask and "size" in mask
    return isinstance(mask, list) and any(isinstance(ring, list) and len(ring) >= 6 for ring in mask)


def load(part_files: PartFiles) -> DetectionSet:
    """Return the part.

    Raises:
        SlmlpError: invalid annotations; names the first kind of problem, its count and examples.
    """
    where, content = part_files.annotations, part_files.content
    rows: dict[str, list[dict[str, Any]]] = {}
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SlmlpError(f"{where} is no COCO file: expected a list of objects under {key!r}")
        rows[key] = entries
    if not rows["images"] or not rows["categories"]:
        raise SlmlpError(f"{where} holds {len(rows['images'])} images and {len(rows['categories'])} categories")
    _check_ids(rows, where)
    _check_boxes(rows, where)
    by_image: dict[Any, list[dict[str, Any]]] = {row["id"]: [] for row in rows["images"]}
    for a in rows["annotations"]:
        area = a.get("area")
        area = float(area) if isinstance(area, int | float) else float(a["bbox"][2] * a["bbox"][3])
        by_image[a["image_id"]].append({**a, "area": area, "iscrowd": int(a.get("iscrowd") or 0)})
    pictures = tuple(
        Picture(
            row["id"],
            posixpath.join(part_files.folder, row["file_name"]),
            row["width"],
            row["height"],
            tuple(by_image[row["id"]]),
        )
        for row in rows["images"]
    )
    _check_files(pictures, part_files)
    categories = tuple(sorted((int(row["id"]), str(row.get("name", row["id"]))) for row in rows["categories"]))
    return DetectionSet(part_files.part, where, pictures, categories, part_files.store)


def same_categories(train: DetectionSet, other: DetectionSet) -> None:
    """Raise SlmlpError unless both parts have the same categories."""
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
        if key != "annotations":  # annotations are renumbered, so their ids need not be valid
            invalid = [
                f"entry {i} ({row.get('id')!r})" for i, row in enumerate(rows[key]) if type(row.get("id")) is not int
            ]
            _raise_if_any(where, f"entries of {key} have no whole number as id", invalid)
        duplicates = [i for i, n in Counter(str(row.get("id")) for row in rows[key] if "id" in row).items() if n > 1]
        _raise_if_any(where, f"ids of {key} are there twice", duplicates)
    for key, name in (("images", "image_id"), ("categories", "category_id")):
        known = {row["id"] for row in rows[key]}
        unknown = [
            f"{a.get('id')} ({name} {a.get(name)!r})"
            for a in rows["annotations"]
            if type(a.get(name)) is not int or a[name] not in known
        ]
        _raise_if_any(where, f"annotations name {key} that are not there", unknown)


def _check_boxes(rows: dict[str, list[dict[str, Any]]], where: str) -> None:
    sizes: dict[Any, tuple[int, int]] = {}
    for row in rows["images"]:
        size: Any = row.get("width"), row.get("height")
        sizes[row["id"]] = size if all(type(v) is int and v > 0 for v in size) else (0, 0)
    _raise_if_any(
        where, "images have no width and height in whole pixels", [key for key, size in sizes.items() if not size[0]]
    )
    _raise_if_any(
        where, "images have no file_name", [r["id"] for r in rows["images"] if not isinstance(r.get("file_name"), str)]
    )
    malformed: list[str] = []
    outside: list[str] = []
    wrong_size: list[str] = []
    for a in rows["annotations"]:
        box = _box(a.get("bbox"))
        if box is None:
            malformed.append(f"{a.get('id')} ({a.get('bbox')})")
            continue
        width, height = sizes[a["image_id"]]
        over = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
        if over > SLACK:
            outside.append(f"{a.get('id')} ({box} in {width} x {height})")
        mask = a.get("segmentation")
        if isinstance(mask, dict) and list(mask.get("size") or ()) != [height, width]:
            wrong_size.append(f"{a.get('id')} ({mask.get('size')} for {height} x {width})")
    _raise_if_any(where, "masks are of another height and width than their images", wrong_size)
    _raise_if_any(where, "boxes are not [left, top, width, height] in pixels, sizes 0 or more", malformed)
    _raise_if_any(where, f"boxes reach more than {SLACK:g} pixels out of their images", outside)


def _check_files(pictures: Sequence[Picture], part_files: PartFiles) -> None:
    """Compare every image file's header with its annotation, in threads."""
    missing = [picture.name for picture in pictures if picture.name not in part_files.names]
    _raise_if_any(part_files.annotations, f"image files are not in {part_files.store.source}", missing)

    def problem(i: int) -> str | None:
        picture = pictures[i]
        try:
            with Image.open(io.BytesIO(part_files.store.read(picture.name))) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
                size = (image.height, image.width) if turned else image.size
        except (OSError, ValueError, SyntaxError) as error:
            return f"{picture.name} (cannot be read: {str(error)[:60]})"
        if size != (picture.width, picture.height):
            return f"{picture.name} ({size[0]} x {size[1]}, annotated as {picture.width} x {picture.height})"
        return None

    results = in_threads(problem, len(pictures), f"checking {part_files.part} images")
    problems = [text for _, text in results if text]
    _raise_if_any(part_files.annotations, "image files do not fit their annotations", problems)


def _raise_if_any(where: str, what: str, problems: Sequence[Any]) -> None:
    if problems:
        examples = ", ".join(map(str, problems[:EXAMPLES])) + (", ..." if len(problems) > EXAMPLES else "")
        raise SlmlpError(f"{where}: {len(problems):,} {what}: {examples}; correct the file, or leave them out of it")


def _box(value: Any) -> list[float] | None:
    """Return [left, top, width, height], or None where the value is not a finite box of sizes 0 or more."""
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(v, int | float) for v in value):
        return None
    return value if all(math.isfinite(v) for v in value) and value[2] >= 0 and value[3] >= 0 else None
