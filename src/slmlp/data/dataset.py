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
    """Reads images by their position in the source; picklable and thread-safe."""

    def __call__(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB, uint8, (H, W, 3); raise OSError or ValueError when it cannot be read."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, sorted by id. Nothing is decoded until ``read`` is called.

    Arrays over images have length N; ``labels`` index ``classes`` (sorted names), ``parts`` is "train" or "test",
    ``groups`` names what several images may show: a patient, a video (the image's id if the data has no groups).
    """

    name: str  # short, for tables: "emoji", "tiny-imagenet"
    source: str  # as on the command line
    ids: tuple[str, ...]  # path inside the data, unique
    labels: IntArray  # (N,)
    classes: tuple[str, ...]
    parts: npt.NDArray[np.str_]  # (N,)
    groups: npt.NDArray[np.str_]  # (N,)
    sizes: IntArray  # (N,) bytes of each file (of the decoded array, for .npz)
    positions: IntArray  # (N,) arguments of ``reader``
    reader: Reader = field(repr=False, compare=False)
    superclasses: tuple[str, ...] | None = None  # the superclass of each class, aligned with ``classes``
    has_test_part: bool = True  # whether the source has a test (or val) part
    has_groups: bool = False
    unreadable: tuple[tuple[str, str], ...] = ()  # (id, reason), left out of every array
    ignored: tuple[tuple[str, str], ...] = ()  # (name, reason) of files that are not images or have no class
    notes: tuple[str, ...] = ()  # what a reader should know of how the data was understood
    fingerprint: str = ""  # of the files (content or modification time); only for cache keys

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> ByteArray:
        """Return image ``index`` as RGB uint8 (H, W, 3)."""
        return self.reader(int(self.positions[index]))

    def hash(self) -> str:
        """Return the data hash: SHA-256 over the sorted lines ``id <tab> class <tab> size in bytes``."""
        lines = (f"{i}\t{self.classes[y]}\t{s}" for i, y, s in zip(self.ids, self.labels, self.sizes, strict=True))
        return files.hash_names(lines)

    def several(self, separator: str | None) -> bool:
        """Return whether any image has several labels: a class name that contains the separator."""
        return bool(separator) and any(str(separator) in name for name in self.classes)

    def select(self, keep: npt.NDArray[np.bool_] | IntArray) -> ImageSet:
        """Return the images under a mask or at given indices; classes and superclasses are unchanged."""
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
        classes = tuple(sorted(names))
        old = {name: i for i, name in enumerate(self.classes)}
        missing = [name for name in classes if name not in old]
        if missing:
            raise KeyError(", ".join(missing))
        new = np.full(len(self.classes), -1, dtype=np.int64)
        new[[old[name] for name in classes]] = np.arange(len(classes))
        labels = new[self.labels]
        part = self.select(labels >= 0)
        superclasses = None if self.superclasses is None else tuple(self.superclasses[old[name]] for name in classes)
        return replace(part, labels=labels[labels >= 0], classes=classes, superclasses=superclasses)

    def of_part(self, part: str) -> ImageSet:
        """Return the images of part "train" or "test", or of both ("all")."""
        return self if part == "all" else self.select(self.parts == part)

    def with_parts(self, test_ids: Sequence[str]) -> ImageSet:
        """Return the same images with exactly ``test_ids`` in the test part."""
        test = set(test_ids)
        return replace(self, parts=np.array(["test" if i in test else "train" for i in self.ids]))
