"""What the contents of the files say of a copy: damage, re-encodings, and images that are there twice."""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from slmlp.data import decode
from slmlp.data.dataset import ByteArray, ImageSet
from slmlp.data.published.entry import Entry
from slmlp.data.readers import BytesReader, content
from slmlp.data.splits import leak
from slmlp.runtime import work

SIDE = 16  # pixels of the thumbnails that are compared
LOSSY = ("JPEG", "WEBP")
_OF_SUFFIX = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP",
    ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip


class Found(NamedTuple):
    """One thing found in the contents."""

    check: str
    wrong: bool
    what: str
    do: str
    examples: tuple[str, ...] = ()


class Seen(NamedTuple):
    """What one pass over all images saw; arrays go by the images' order."""

    digests: list[bytes]  # SHA-256 of each file (of its pixels, where the data is an array); b"" where unreadable
    formats: list[str]  # as Pillow names them; "" of arrays and unreadable files
    sizes: list[tuple[int, int]]  # width and height
    thumbs: ByteArray  # (N, 16, 16, 3)
    good: npt.NDArray[np.bool_]  # (N,)
    problems: list[tuple[str, str]]  # (id, reason)


def look(images: ImageSet) -> Seen:
    """Read and decode every image once."""
    encoded = isinstance(images.reader, BytesReader)

    def job(index: int) -> tuple[bytes, str, tuple[int, int], ByteArray] | str:
        try:
            raw = content(images, index)
            digest = hashlib.sha256(raw).digest()
            if not encoded:
                pixels = images.read(index)
                return digest, "", (pixels.shape[1], pixels.shape[0]), decode.resize_square(pixels, SIDE)
            square = decode.decode_square(raw, SIDE)
            with Image.open(io.BytesIO(raw), formats=decode.FORMATS) as image:
                return digest, "JPEG" if image.format == "MPO" else image.format or "", image.size, square
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__

    count = len(images)
    seen = Seen([b""] * count, [""] * count, [(0, 0)] * count, np.zeros((count, SIDE, SIDE, 3), np.uint8),
                np.zeros(count, np.bool_), [])  # fmt: skip
    for i, result in work.in_threads(job, count, f"reading {images.name}"):
        if isinstance(result, str):
            seen.problems.append((images.ids[i], result))
            continue
        seen.good[i] = True
        seen.digests[i], seen.formats[i], seen.sizes[i], seen.thumbs[i] = result
    return seen


def suffixes(images: ImageSet, seen: Seen) -> Found | None:
    """Return the files whose name says another encoding than their content."""
    wrong = []
    for name, form in zip(images.ids, seen.formats, strict=True):
        said = _OF_SUFFIX.get(posixpath.splitext(name)[1].lower())
        if form and said and said != form:
            wrong.append(f"{name} is {form}")
    if not wrong:
        return None
    what = f"{len(wrong):,} files have the suffix of another encoding than theirs"
    do = "it does no harm by itself, but shows that files were renamed or re-saved: compare with the published archive"
    return Found("encoding", False, what, do, tuple(wrong))


def formats_by_class(images: ImageSet, seen: Seen) -> Found | None:
    """Return the classes or parts that mostly have another encoding than the rest, by which they could be told."""
    lines = []
    for kind, keys in (("class", [images.classes[y] for y in images.labels]), ("part", images.parts.tolist())):
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for key, form in zip(keys, seen.formats, strict=True):
            if form:
                counts[key][form] += 1
        main = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
        usual = Counter(main.values()).most_common(1)[0][0] if main else ""
        lines += [f"{kind} {key!r} is {form}, most are {usual}" for key, form in main.items() if form != usual]
    if not lines:
        return None
    what = "encodings differ between classes or parts, so that an encoder could tell these by their artefacts"
    return Found("encoding", False, what, "get all images in one encoding from where they were taken", tuple(lines))


def published_format(entry: Entry, images: ImageSet, seen: Seen) -> Found | None:
    """Return the images that are not encoded as published."""
    if entry.format is None:
        return None
    other = [i for i, form in enumerate(seen.formats) if form and form != entry.format]
    if not other:
        return None
    lossy = [i for i in other if seen.formats[i] in LOSSY]
    found = ", ".join(f"{n:,} {form}" for form, n in Counter(seen.formats[i] for i in other).most_common())
    examples = tuple(f"{images.ids[i]} is {seen.formats[i]}" for i in lossy or other)
    if lossy:
        what = f"published as {entry.format}, found {found}: {len(lossy):,} images were re-saved with loss"
        return Found("re-encoded", True, what, "get the published files: lossy copies cost accuracy", examples)
    what = f"published as {entry.format}, found {found}: converted without loss"
    return Found("re-encoded", False, what, "pixels may be the same; say so where you report numbers", examples)


def published_size(entry: Entry, images: ImageSet, seen: Seen) -> Found | None:
    """Return the images that have another size than all published ones."""
    other = [i for i in np.flatnonzero(seen.good).tolist() if entry.size is not None and seen.sizes[i] != entry.size]
    if not other or entry.size is None:
        return None
    examples = tuple(f"{images.ids[i]} is {seen.sizes[i][0]}x{seen.sizes[i][1]}" for i in other)
    what = f"{len(other):,} images are not {entry.size[0]}x{entry.size[1]} pixels as published: a resized copy"
    return Found("resized", True, what, "get the published files", examples)


def across_parts(images: ImageSet, seen: Seen) -> Found | None:
    """Return the test images whose very bytes are also a training image."""
    train: dict[bytes, str] = {}
    for i in np.flatnonzero(seen.good & (images.parts == "train")).tolist():
        train.setdefault(seen.digests[i], images.ids[i])
    pairs = [
        f"{images.ids[i]} = {train[seen.digests[i]]}"
        for i in np.flatnonzero(seen.good & (images.parts == "test")).tolist()
        if seen.digests[i] in train
    ]
    if not pairs:
        return None
    share = 100 * len(pairs) / max(1, int((images.parts == "test").sum()))
    what = f"{len(pairs):,} test images ({share:.1f} %) are also training images, byte for byte"
    if share > 10:
        what += ": the parts overlap"
    return Found(
        "overlap", True, what, "remove them from one part; if many, unpack the published parts again", tuple(pairs)
    )


def across_classes(images: ImageSet, seen: Seen) -> Found | None:
    """Return the images that are in two classes, byte for byte."""
    first: dict[bytes, int] = {}
    pairs = []
    for i in np.flatnonzero(seen.good).tolist():
        other = first.setdefault(seen.digests[i], i)
        if images.labels[other] != images.labels[i]:
            names = (images.classes[images.labels[j]] for j in (i, other))
            pairs.append(f"{images.ids[i]} = {images.ids[other]} ({' and '.join(names)})")
    if not pairs:
        return None
    what = f"{len(pairs):,} images are also in another class, byte for byte"
    return Found("two classes", True, what, "remove each from the class that it is not of", tuple(pairs))


def repeated(images: ImageSet, seen: Seen) -> Found | None:
    """Return the images that one class has twice in one part."""
    first: dict[tuple[bytes, str, int], int] = {}
    pairs = []
    for i in np.flatnonzero(seen.good).tolist():
        key = (seen.digests[i], str(images.parts[i]), int(images.labels[i]))
        other = first.setdefault(key, i)
        if other != i:
            pairs.append(f"{images.ids[i]} = {images.ids[other]}")
    if not pairs:
        return None
    what = f"{len(pairs):,} images are in their class twice"
    return Found("repeated", False, what, "remove one of each; they count twice", tuple(pairs))


def alike(images: ImageSet, seen: Seen) -> Found | None:
    """Return the test images that look nearly like a training image and are not the same file (concepts/leak.py)."""
    sides = [np.flatnonzero(seen.good & (images.parts == part)) for part in ("train", "test")]
    if not all(map(len, sides)):
        return None
    near = leak.near_duplicates(seen.thumbs[sides[0]], seen.thumbs[sides[1]])
    pairs = []
    for a, b, distance in near:
        i, j = int(sides[0][a]), int(sides[1][b])
        if seen.digests[i] != seen.digests[j]:
            pairs.append(f"{images.ids[j]} ~ {images.ids[i]} (distance {distance:.3f})")
    if not pairs:
        return None
    what = f"{len(pairs):,} test images look nearly like a training image at {SIDE}x{SIDE} pixels"
    do = "look at some: copies of one picture inflate every number; where a protocol splits so, it is part of it"
    return Found("near-identical", False, what, do, tuple(pairs))
