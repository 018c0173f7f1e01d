"""One part of a COCO data set, as detectors train on it and AP is computed from it."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slmlp.detection.layout import Store
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError


@dataclass(frozen=True)
class Picture:
    """An image of a part."""

    id: int
    name: str  # in the store
    width: int  # pixels
    height: int
    annotations: tuple[dict[str, Any], ...]  # of one form: ``annotations.judged``


@dataclass(frozen=True)
class DetectionSet:
    """One part of a COCO data set."""

    part: str
    source: str
    pictures: tuple[Picture, ...]
    categories: tuple[tuple[int, str], ...]  # (id, name), by id; class k of a detector is entry k - 1, 0 is background
    store: Store
    left_out: tuple[tuple[str, str], ...] = ()  # (picture or annotation, reason)
    digests: tuple[bytes, ...] = field(default=(), repr=False)  # of each picture's file

    def __len__(self) -> int:
        return len(self.pictures)

    def usable(self) -> tuple[int, ...]:
        """Return the positions of the images that have an annotation to train on."""
        return tuple(i for i, picture in enumerate(self.pictures) if learnable(picture))

    @property
    def masks(self) -> bool:
        """Whether every annotation that training uses has a mask."""
        return all("segmentation" in a for picture in self.pictures for a in learnable(picture))

    @property
    def objects(self) -> int:
        """How many annotations AP counts: those that are no crowd."""
        return sum(not a["iscrowd"] for picture in self.pictures for a in picture.annotations)

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
        keys = Counter((p.id, a["category_id"], *a["bbox"]) for p in self.pictures for a in p.annotations)
        names = Counter(name.strip().casefold() for _, name in self.categories)
        notes = [
            f"{n:,} {words}"
            for n, words in (
                (crowd, "crowd regions"), (empty, "boxes without extent (not trained on)"),
                (unused, "images with no annotation to train on"),
                (sum(n - 1 for n in keys.values()), "annotations of a class and box that an image has already"),
                (sum(n for n in names.values() if n > 1), "categories of a name that another one has"),
                (len(self.left_out), "bad images and annotations left out"),
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


def copies_of_training(parts: Mapping[str, DetectionSet], name: str) -> list[tuple[str, str]]:
    """Return (training picture, picture) of each of a part that equals one of training byte for byte.

    None for the training part itself. Of several equal pictures of training the first is named. Where the parts' images
    were named as folders of their own, the names begin with them: train/0.png and val/0.png would both be 0.png.
    """
    if name == "train":
        return []
    sets = [parts["train"], parts[name]]
    apart = sets[0].store.source != sets[1].store.source
    training, mine = ([f"{s.store.source}/{p.name}" if apart else p.name for p in s.pictures] for s in sets)
    first: dict[bytes, str] = {}
    for digest, picture in zip(sets[0].digests, training, strict=True):
        first.setdefault(digest, picture)
    of_part = zip(sets[1].digests, mine, strict=True)
    return [(first[digest], picture) for digest, picture in of_part if digest in first]


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
