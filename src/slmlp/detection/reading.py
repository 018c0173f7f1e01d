"""Read one part of a COCO data set: every picture and annotation judged once, what is bad listed and left out.

As in COCO, crowd regions are not trained on and AP ignores them; boxes of zero width or height are not trained on but
count in AP.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from slmlp import config
from slmlp.data import decode
from slmlp.data.scratch import scratch
from slmlp.data.sources import missing
from slmlp.detection.annotations import SLACK, BadAnnotationError, judged
from slmlp.detection.coco import DetectionSet, Picture, learnable
from slmlp.detection.layout import PartFiles, located
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.plain import short
from slmlp.runtime.threads import in_threads

TOLERATED = 0.01  # share of pictures, and of annotations, that may be bad without --allow-unreadable
FEW_MASKS = 0.001  # share of objects with a mask below which the data counts as boxes
EXAMPLES = 3  # entries that an error names
LOOKED_AT = 1000  # boxes with polygons, to see in which form boxes are
Rows = list[dict[str, Any]]
LeftOut = list[tuple[str, str]]  # (picture or annotation, reason)


_DEFAULT = config.Detection()


def load(part_files: PartFiles, cfg: config.Detection = _DEFAULT) -> DetectionSet:
    """Return the part without bad pictures and annotations, which are listed in ``left_out``.

    Raises:
        SlmlpError: no COCO file, ids that are missing or doubled, boxes as shares of the picture, or more than 1 % of
            the pictures or of the annotations bad, unless ``cfg.allow_unreadable``.
    """
    where = part_files.annotations
    rows = _lists(part_files.content, where)
    _check_ids(rows, where)
    pictures, bad_pictures, digests = _pictures(rows["images"], part_files)
    _tolerate(bad_pictures, len(rows["images"]), "pictures", where, cfg)
    by_image, bad_annotations = _annotations(rows, pictures, cfg)
    _tolerate(bad_annotations, len(rows["annotations"]), "annotations", where, cfg)
    kept = tuple(
        Picture(key, located(part_files.folder, row["file_name"], part_files.names), row["width"], row["height"],
                tuple(by_image[key]))
        for key, row in pictures.items()
    )  # fmt: skip
    categories = tuple(sorted((int(row["id"]), str(row.get("name", row["id"]))) for row in rows["categories"]))
    left_out = (*bad_pictures, *bad_annotations)
    part = DetectionSet(part_files.part, where, kept, categories, part_files.store, left_out, digests)
    _check_units(part)
    return part


def _lists(content: dict[str, Any], where: str) -> dict[str, Rows]:
    rows: dict[str, Rows] = {}
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SlmlpError(f"{where} is no COCO file: expected a list of objects under {key!r}")
        rows[key] = entries
    if not rows["images"] or not rows["categories"]:
        raise SlmlpError(f"{where} holds {len(rows['images'])} images and {len(rows['categories'])} categories")
    return rows


def _check_ids(rows: dict[str, Rows], where: str) -> None:
    for key in rows:
        if key != "annotations":  # annotations are renumbered, so their ids need not be valid
            invalid = [
                f"entry {i} ({row.get('id')!r:.30})"
                for i, row in enumerate(rows[key])
                if type(row.get("id")) is not int
            ]
            _raise_if_any(where, f"entries of {key} have no whole number as id", invalid)
        doubled = [i for i, n in Counter(str(row.get("id")) for row in rows[key] if "id" in row).items() if n > 1]
        _raise_if_any(where, f"ids of {key} are there twice", doubled)


def _pictures(rows: Rows, part_files: PartFiles) -> tuple[dict[int, dict[str, Any]], LeftOut, tuple[bytes, ...]]:
    """Return the good pictures by id, the bad ones, and a digest of each good one's file; files are read in threads."""

    def check(i: int) -> tuple[str | None, bytes]:
        return _picture_problem(rows[i], part_files)

    results = dict(in_threads(check, len(rows), f"checking {part_files.part} images"))
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        if results[i][0] is None:
            name = located(part_files.folder, row["file_name"], part_files.names)
            other = first.setdefault(name, row["id"])
            if other != row["id"]:
                results[i] = f"it is listed twice, as ids {other} and {row['id']}: its objects belong together", b""
    good = {rows[i]["id"]: rows[i] for i, (problem, _) in results.items() if problem is None}
    bad = [
        (f"image {rows[i].get('file_name') or rows[i]['id']}", problem)
        for i, (problem, _) in results.items()
        if problem
    ]
    return good, bad, tuple(digest for problem, digest in results.values() if problem is None)


def _picture_problem(row: dict[str, Any], part_files: PartFiles) -> tuple[str | None, bytes]:
    """Return why a picture cannot be used, or None, and the digest of its file."""
    size: Any = row.get("width"), row.get("height")
    if not all(type(value) is int and value > 0 for value in size):
        return f"its width and height are {size[0]!r:.20} and {size[1]!r:.20}, expected whole pixels", b""
    if not isinstance(row.get("file_name"), str):
        return "it has no file_name", b""
    name = located(part_files.folder, row["file_name"], part_files.names)
    if name not in part_files.names:
        meant = missing.among(row["file_name"], part_files.names)
        return f"there is no file {name} in {part_files.store.source}{f'; there is {meant}' if meant else ''}", b""
    try:
        content = part_files.store.read(name)
        there = decode.size_of(content)
    except (OSError, ValueError) as error:
        return f"it cannot be read: {short(error, 80)}", b""
    if there != size:
        aside = there == size[::-1] and decode.turned(content)
        why = " (its EXIF tag turns it: save it turned and without the tag, or annotate it as it is shown)" * aside
        return f"it is {there[0]} x {there[1]}, annotated as {size[0]} x {size[1]}{why}", b""
    return None, hashlib.blake2b(content, digest_size=16).digest()


def _annotations(
    rows: dict[str, Rows], pictures: Mapping[int, dict[str, Any]], cfg: config.Detection
) -> tuple[dict[int, Rows], LeftOut]:
    """Return the good annotations of every good picture, and the bad ones; those of bad pictures go with these."""
    images, categories = ({row["id"] for row in rows[key]} for key in ("images", "categories"))
    by_image: dict[int, Rows] = {key: [] for key in pictures}
    bad: LeftOut = []
    for i, row in enumerate(rows["annotations"]):
        name = f"annotation {row.get('id', f'number {i}')}"
        image, category = row.get("image_id"), row.get("category_id")
        if type(image) is not int or image not in images:
            bad.append((name, f"its image_id {image!r:.30} is no image of the file{_whole(image)}"))
        elif type(category) is not int or category not in categories:
            bad.append((name, f"its category_id {category!r:.30} is no category of the file{_whole(category)}"))
        elif image in pictures:
            picture = pictures[image]
            if cfg.boxes_only:
                row = {key: value for key, value in row.items() if key != "segmentation"}
            try:
                by_image[image].append(judged(row, (picture["height"], picture["width"])))
            except BadAnnotationError as error:
                bad.append((name, str(error)))
    return by_image, [*bad, *_of_one_kind(by_image)]


def _whole(value: object) -> str:
    return "" if type(value) is int else ", whose ids are whole numbers"


def _of_one_kind(by_image: dict[int, Rows]) -> LeftOut:
    """Take out the objects without a mask where others have one, and return them; or the masks, where few have one."""
    objects = [row for rows in by_image.values() for row in rows if not row["iscrowd"] and min(row["bbox"][2:]) > 0]
    lacking = [row for row in objects if "segmentation" not in row]
    if len(objects) - len(lacking) <= FEW_MASKS * len(objects):
        for row in objects:
            row.pop("segmentation", None)
        return []
    without = set(map(id, lacking))
    for key, rows in by_image.items():
        by_image[key] = [row for row in rows if id(row) not in without]
    return [
        (f"annotation {row.get('id')}", "it has no mask, and others have one (or pass --boxes-only)") for row in lacking
    ]


def _tolerate(bad: LeftOut, total: int, what: str, where: str, cfg: config.Detection) -> None:
    """Raise SlmlpError, after the list is written, where more than 1 % is bad."""
    if not bad or cfg.allow_unreadable or len(bad) <= TOLERATED * total:
        return
    path = scratch(config.DataOptions()) / "unreadable.txt"
    files.write_text(path, "".join(f"{entry}\t{reason}\n" for entry, reason in bad))
    examples = few((f"{entry}: {reason}" for entry, reason in bad), EXAMPLES, "; ")
    raise SlmlpError(
        f"{where}: {len(bad):,} of {total:,} {what} cannot be used, more than 1 % ({examples}; all: {path}): correct "
        "the file, or leave them out with --allow-unreadable"
    )


def _check_units(part: DetectionSet) -> None:
    """Raise SlmlpError where boxes are shares of the picture instead of pixels, or corners by what their masks show."""
    boxes = [a["bbox"] for picture in part.pictures for a in learnable(picture)]
    if boxes and max(max(left + width, top + height) for left, top, width, height in boxes) <= 1:
        raise SlmlpError(
            f"{part.source}: all {len(boxes):,} boxes lie within 0 and 1, so they look like shares of the picture: "
            "multiply them by its width and height, for COCO counts in pixels"
        )
    drawn = (a for p in part.pictures for a in learnable(p) if isinstance(a.get("segmentation"), list))
    polygons = list(islice(drawn, LOOKED_AT))
    corners = sum(_agrees(a, corners=True) and not _agrees(a, corners=False) for a in polygons)
    if 2 * corners > len(polygons):
        raise SlmlpError(
            f"{part.source}: {corners:,} of the first {len(polygons):,} boxes are [left, top, right, bottom] by their "
            "masks: write [left, top, width, height]"
        )


def _agrees(annotation: dict[str, Any], *, corners: bool) -> bool:
    """Return whether a box, read as two corners or as corner and size, is the one around the rings of its mask."""
    points = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in annotation["segmentation"]])
    start, end = points.min(axis=0), points.max(axis=0)
    box = np.array([*start, *(end if corners else end - start)])
    return bool(np.abs(box - annotation["bbox"]).max() <= SLACK)


def _raise_if_any(where: str, what: str, problems: Sequence[Any]) -> None:
    if problems:
        examples = few(problems, EXAMPLES)
        raise SlmlpError(f"{where}: {len(problems):,} {what}: {examples}; correct the file, or leave them out of it")
