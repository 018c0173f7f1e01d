"""Describe a published data set: its files, labels and parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Folders:
    """Class folders, as ``<class>/<image>`` or ``train/<class>/<image>``."""

    inside: str = ""
    """Folder of the archive that contains the classes; the root of the data if there is none of this name."""
    depth: int = 1
    """Number of nested folders that name a class: 2 is ``alphabet/character``."""
    parts: bool = False
    """Whether the classes are in folders `train` and `test`."""
    skip: tuple[str, ...] = ()
    """Folders beside the classes that are not classes."""


@dataclass(frozen=True)
class Labels:
    """A table with one line per image; images are found by file name, in any folder."""

    files: tuple[str, ...]
    """Possible names of the table."""
    image: str
    """Column that names the image file."""
    label: tuple[str, ...]
    """Columns that label it."""
    kind: Literal["name", "one-hot", "joined"] = "name"
    """`name`: one column with the class; `one-hot`: a column per class; `joined`: columns whose words form the name."""
    keep: tuple[str, ...] = ()
    """Labels that are used as classes; lines with other labels are left out. Empty: all."""
    words: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(column, value) -> word of the class, for `joined`."""
    part: str | None = None
    """Column that names the part; lines that are neither `train` nor `test` are left out."""
    suffix: str = ""
    """Suffix to add to a name in the table to get a file name."""
    folders: tuple[str, ...] = ()
    """Folders of the images, the preferred one first where there are copies of other sizes."""


@dataclass(frozen=True)
class Lists:
    """Text files with one image path per line, ``/a/abbey/sun_1.jpg``; the folders of a path name the class."""

    train: str
    test: str
    skip: int = 0
    """Leading folders that are not part of the class."""


@dataclass(frozen=True)
class Torchvision:
    """Read by torchvision's class (``data/sources/torchvision_sets.py``), which knows the published parts."""

    name: str
    """torchvision's class."""
    at: str
    """Path of the data below torchvision's root; the user's folder may be any of its last steps."""
    marks: tuple[str, ...]
    """Files and folders that must exist in it."""


Layout = Folders | Labels | Lists | Torchvision


@dataclass(frozen=True)
class Draw:
    """Random parts, class by class: one NumPy RandomState(seed) shuffles the images of each class in turn."""

    percent: int | None = None
    """Percentage of each class, rounded down, that are training images."""
    number: int | None = None
    """Number of training images of each class."""
    seed: int = 0

    def train(self, images: int) -> int:
        """Return the number of training images of a class of ``images`` images.

        >>> Draw(percent=70).train(700), Draw(percent=70).train(20), Draw(number=30).train(31)
        (490, 14, 30)
        """
        return images * self.percent // 100 if self.percent is not None else min(self.number or 0, images)


@dataclass(frozen=True)
class Fetch:
    """A download whose checksums torchvision pins."""

    name: str
    """torchvision's class."""
    calls: tuple[Mapping[str, Any], ...] = ({},)
    """Arguments of the calls that download everything."""
    folder: str = ""
    """Folder that torchvision downloads to, where its class does not read the data here."""
    again: bool = False
    """Whether an interrupted download starts over: torchvision does not unpack an archive it has."""
    terms: str = ""
    """Terms to accept first; empty where the licence has none."""


@dataclass(frozen=True)
class Entry:
    """One data set under one protocol."""

    name: str
    title: str
    suite: Literal["islam2021", "ericsson2021-trex", "other"]
    classes: int
    images: int
    """Images that the protocol uses."""
    layout: Layout
    on_disk: str
    """The files after unpacking, in words."""
    draw: Draw | None
    """How the parts are drawn; None where the data has parts."""
    protocol: str
    """The parts and their source, in words."""
    where: str
    """Where to get it."""
    licence: str
    source: str
    """Source of the facts on the layout."""
    train: int | None = None
    """Number of training images, where it does not follow from ``draw`` and the class counts."""
    test: int | None = None
    per_class: Mapping[str, int] | None = None
    """Images of each class, by its name on disk."""
    each: int | None = None
    """Images of every class, where all have the same number."""
    metric: Literal["accuracy", "mean_class_accuracy"] = "accuracy"
    aliases: tuple[str, ...] = ()
    """Other names of its folder."""
    fetch: Fetch | None = None
    incomplete: bool = False
    """Whether some published files are no longer available, so that missing files are no error of a copy."""
    notes: tuple[str, ...] = ()
    """Notes for readers of its numbers."""
    unconfirmed: tuple[str, ...] = ()
    """Facts above that no source confirms."""
    run_on_archive: str | None = None
    """The copy of the real archive that this entry was tested on, and when; miniatures do not count."""

    def drawn(self) -> tuple[int, int] | None:
        """Return the numbers of training and test images, or None if they depend on unknown class counts."""
        if self.train is not None and self.test is not None:
            return self.train, self.test
        each = [] if self.each is None else [self.each] * self.classes
        counts = each if self.per_class is None else list(self.per_class.values())
        if self.draw is None or not counts:
            return None
        train = sum(map(self.draw.train, counts))
        return train, self.images - train


def names(*words: str, each: int) -> dict[str, int]:
    """Return ``each`` for every one of the names."""
    return {name: each for text in words for name in text.split()}
