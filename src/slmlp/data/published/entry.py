"""The description of a published data set: its files, labels and parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Folders:
    """Class folders, as ``<class>/<image>`` or ``train/<class>/<image>``."""

    inside: str = ""
    """Folder of the archive that holds the classes; where it is not found, the root of the data does."""
    depth: int = 1
    """Folders that name a class together: 2 is ``alphabet/character``."""
    parts: bool = False
    """Whether folders `train` and `test` stand above the classes."""
    skip: tuple[str, ...] = ()
    """Folders beside the classes that are no class."""


@dataclass(frozen=True)
class Labels:
    """A table with one line an image; its images are found by name, in whatever folder they lie."""

    files: tuple[str, ...]
    """Names that the table goes by."""
    image: str
    """Column that names the image file."""
    label: tuple[str, ...]
    """Columns that label it."""
    kind: Literal["name", "one-hot", "joined"] = "name"
    """One column that holds the class; a column a class, 1 in the right one; columns whose words make the class."""
    keep: tuple[str, ...] = ()
    """Labels that are classes here: lines with any other one are left out; empty keeps all."""
    words: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(column, value) -> word of the class, for `joined`."""
    part: str | None = None
    """Column that names the part; lines that are neither `train` nor `test` are left out."""
    suffix: str = ""
    """What a name in the table lacks to be a file name."""
    folders: tuple[str, ...] = ()
    """Folders that the images lie in, the wanted one first where copies of other sizes lie beside it."""


@dataclass(frozen=True)
class Lists:
    """Text files with the path of one image a line, ``/a/abbey/sun_1.jpg``; the folders of a path name the class."""

    train: str
    test: str
    skip: int = 0
    """Leading folders that are no part of the class."""


@dataclass(frozen=True)
class Torchvision:
    """Read by torchvision's class (``data/torchvision_sets.py``), which knows the published parts."""

    name: str
    """Its name there."""
    at: str
    """Where below its root torchvision looks; the user's folder may be any of the last steps of it."""
    marks: tuple[str, ...]
    """Files and folders that must lie there."""


Layout = Folders | Labels | Lists | Torchvision


@dataclass(frozen=True)
class Draw:
    """Parts drawn class by class: one NumPy RandomState(seed) shuffles the images of each class in turn."""

    percent: int | None = None
    """The first so many in a hundred of each class, rounded down, are training images."""
    number: int | None = None
    """The first so many of each class are."""
    seed: int = 0

    def train(self, images: int) -> int:
        """Return how many of a class of so many images are training images.

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
    """Settings of the calls that download all of it."""
    folder: str = ""
    """Where torchvision puts it, where its class is not what reads it here."""
    again: bool = False
    """Whether an interrupted download starts from nothing: torchvision does not unpack an archive that it has."""
    terms: str = ""
    """Terms to be agreed to first; empty where the licence lets anybody have the data."""


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
    """What a user has after unpacking, in words."""
    draw: Draw | None
    """How the parts are drawn; None where the data gives them."""
    protocol: str
    """Parts, and whose protocol they are."""
    where: str
    """Where to get it."""
    licence: str
    source: str
    """Where the facts of the layout are from."""
    train: int | None = None
    """Training images, where they do not follow from the draw and the images of each class."""
    test: int | None = None
    per_class: Mapping[str, int] | None = None
    """Images of each class, by its name on disk."""
    each: int | None = None
    """Images of every class, where all have the same number."""
    metric: Literal["accuracy", "mean_class_accuracy"] = "accuracy"
    aliases: tuple[str, ...] = ()
    """Other spellings of its folder's name."""
    fetch: Fetch | None = None
    incomplete: bool = False
    """Whether files of the published lists can no longer be had, so that missing ones say nothing against a copy."""
    notes: tuple[str, ...] = ()
    """What to know before reading its numbers."""
    unconfirmed: tuple[str, ...] = ()
    """Facts above that no source at hand confirms."""
    run_on_archive: str | None = None
    """Which copy of the real archive this entry has read, and when; miniatures of its layout do not count."""

    def drawn(self) -> tuple[int, int] | None:
        """Return the training and test images of the protocol, None where a draw's follow from unknown counts."""
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
