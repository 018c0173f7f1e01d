"""``ImageSet``: ids, labels, parts, superclasses and groups of images, and how to open one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from slmlp.runtime import files

IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


class Reader(Protocol):
    """Opens images by their position in the data as it was loaded; picklable, safe to call from threads."""

    def __call__(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB, uint8, (H, W, 3); raise OSError or ValueError when it cannot be read."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, sorted by id. Nothing is decoded until ``read`` is called.

    Arrays over images have length N; ``labels`` index ``classes`` (sorted names), ``parts`` holds "train" or "test",
    ``groups`` the patient, video or drawing an image belongs to (its own id where the data names none).
    """

    name: str  # short, for tables: "emoji", "tiny-imagenet"
    source: str  # what the user typed
    ids: tuple[str, ...]  # path inside the data, unique
    labels: IntArray  # (N,)
    classes: tuple[str, ...]
    parts: npt.NDArray[np.str_]  # (N,)
    groups: npt.NDArray[np.str_]  # (N,)
    sizes: IntArray  # (N,) bytes of each file (of the decoded array, for .npz)
    positions: IntArray  # (N,) what to hand to ``reader``
    reader: Reader = field(repr=False, compare=False)
    superclasses: tuple[str, ...] | None = None  # the superclass of each class, aligned with ``classes``
    has_test_part: bool = True  # whether the data came with a test (or val) part of its own
    has_groups: bool = False
    unreadable: tuple[tuple[str, str], ...] = ()  # (id, reason), left out of every array
    ignored: tuple[tuple[str, str], ...] = ()  # (name, reason), files that are no images or stand in no class
    fingerprint: str = ""  # of the bytes behind the images (content or modification time): for keys of caches only

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def read(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB uint8 (H, W, 3)."""
        return self.reader(int(self.positions[index]))

    def hash(self) -> str:
        """Return the data hash: SHA-256 over the sorted lines ``id <tab> class <tab> size in bytes``."""
        lines = (f"{i}\t{self.classes[y]}\t{s}" for i, y, s in zip(self.ids, self.labels, self.sizes, strict=True))
        return files.hash_names(lines)

    def several(self, separator: str | None) -> bool:
        """Return whether images have several labels: names of classes are lists, split at the separator."""
        return bool(separator) and any(str(separator) in name for name in self.classes)

    def select(self, keep: npt.NDArray[np.bool_] | IntArray) -> ImageSet:
        """Return the images under a mask or at given positions; classes and superclasses stay as they are."""
        index = np.flatnonzero(keep) if keep.dtype == np.bool_ else np.asarray(keep)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            labels=self.labels[index],
            parts=self.parts[index],
            groups=self.groups[index],
            sizes=self.sizes[index],
            positions=self.positions[index],
        )

    def of_classes(self, names: Sequence[str]) -> ImageSet:
        """Return the images of the named classes, relabelled 0..len(names)-1 in sorted order of the names."""
        kept = tuple(sorted(names))
        old = {name: i for i, name in enumerate(self.classes)}
        missing = [name for name in kept if name not in old]
        if missing:
            raise KeyError(", ".join(missing))
        new = np.full(len(self.classes), -1, dtype=np.int64)
        new[[old[name] for name in kept]] = np.arange(len(kept))
        labels = new[self.labels]
        part = self.select(labels >= 0)
        superclasses = None if self.superclasses is None else tuple(self.superclasses[old[name]] for name in kept)
        return replace(part, labels=labels[labels >= 0], classes=kept, superclasses=superclasses)

    def of_part(self, part: str) -> ImageSet:
        """Return the images of "train", of "test", or of both ("all")."""
        return self if part == "all" else self.select(self.parts == part)

    def with_parts(self, test_ids: Sequence[str]) -> ImageSet:
        """Return the same images with exactly ``test_ids`` in the test part."""
        test = set(test_ids)
        return replace(self, parts=np.array(["test" if i in test else "train" for i in self.ids]))
