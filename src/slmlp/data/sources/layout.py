"""Derive classes and parts from file names: ``[wrapper/][train/]class/.../image.jpg``."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from slmlp.data.decode import SUFFIXES
from slmlp.data.sources import lookalikes
from slmlp.data.sources.parts import part_kind, said, settle_parts
from slmlp.runtime.errors import SlmlpError, few

UNLABELLED = "unlabelled"
MANIFESTS = ("manifest.csv", "manifest.tsv", "manifest.jsonl")
# text files that most data sets have beside the images; skipped without a note
_QUIET = frozenset(
    [".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".rst", ".xml", ".yaml", ".yml", ".html", ".log", ".ini"]
)
_QUIET_NAMES = frozenset(["thumbs.db", "readme", "license", "licence"])
_NO_CLASS = "in no class folder"
_OUTSIDE = "outside of the folders that --parts names"
_EXPECTED = "<class>/<image> or train/<class>/<image> and test/<class>/<image>"
Steps = list[str]  # of a path


class Placed(NamedTuple):
    """An image with its class and part."""

    row: int  # index of its name in the argument of ``arrange``
    id: str
    label: str
    part: str | None


class Arranged(NamedTuple):
    """The images among file names, the (name, reason) of files left out, and what a reader should know of it."""

    placed: list[Placed]
    ignored: list[tuple[str, str]]
    notes: list[str]


def kind(name: str) -> str:
    """Return "image", "quiet" (hidden, or a text file) or "unknown", judged by the path alone."""
    folder, _, base = name.rpartition("/")
    if base.startswith(".") or lookalikes.of_system(folder) or base.lower() in _QUIET_NAMES:
        return "quiet"
    suffix = posixpath.splitext(base)[1].lower()
    return "image" if suffix in SUFFIXES else "quiet" if suffix in _QUIET else "unknown"


def is_manifest(name: str) -> bool:
    """Return whether a file's name is that of the manifest of a folder, in any case."""
    return name.lower() in MANIFESTS


def wrapper(names: Sequence[str]) -> str:
    """Return the prefix ("" or "mydata/") of wrapping folders: each the only one at its level, with folders in it."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :].split("/") for name in names if name.startswith(prefix)]
        tops = {steps[0] for steps in rest if len(steps) > 1}
        inside = [steps for steps in rest if len(steps) > 1]
        manifest = any(len(steps) == 1 and is_manifest(steps[0]) for steps in rest)
        below = any(len(steps) > 2 or is_manifest(steps[-1]) for steps in inside)
        if manifest or len(tops) != 1 or not below or part_kind(next(iter(tops))):
            return prefix
        prefix += next(iter(tops)) + "/"


def arrange(
    names: Sequence[str], where: str, *, labelled: bool = True, named: Mapping[str, str] | None = None
) -> Arranged:
    """Return class and part of every image among ``names`` (POSIX paths).

    Ids are names without the wrapping folder. With ``labelled`` False every image counts, in any folder. ``named`` are
    the folders of the parts as the user says them (folder -> "train", "val" or "test"); else they are recognised by
    their names, and what could be read in two ways is refused.

    Raises:
        SlmlpError: no image, no image in a class folder, a part without one, or folders that may be classes or parts;
            names ``where``.
    """
    kinds = [kind(name) for name in names]
    images = [i for i, k in enumerate(kinds) if k == "image"]
    unknown = [name for name, k in zip(names, kinds, strict=True) if k == "unknown"]
    if not images:
        reasons = _reasons([(name, _suffix_words(name)) for name in unknown])
        raise SlmlpError(f"{where} contains no images: expected {_EXPECTED}, found {reasons}")
    if not labelled:
        _refuse_masks({names[i].rpartition("/")[0] for i in images}, where)
        ignored = [(name, _suffix_words(name)) for name in unknown]
        return Arranged([Placed(i, names[i], UNLABELLED, None) for i in images], ignored, [])
    prefix = wrapper([names[i] for i in images])
    below = {i: names[i][len(prefix) :].split("/") for i in images if names[i].startswith(prefix)}
    layout = _told(named, prefix, where) if named else _recognised([s for s in below.values() if len(s) > 1], where)
    placed, ignored = [], [(names[i], _NO_CLASS) for i in images if i not in below]
    for i, steps in below.items():
        place = layout.place(steps)
        if place is None:
            outside = named and layout.folder(steps) is None
            ignored.append(("/".join(steps), _OUTSIDE if outside else _NO_CLASS))
        else:
            placed.append(Placed(i, "/".join(steps), *place))
    if not placed:
        raise SlmlpError(
            f"{where} has images but no class folders: expected {_EXPECTED}, found {ignored[0][0]}; where a .csv "
            "says the classes, give it as a manifest with the columns path and label; for a method that uses no "
            "labels pass --unlabelled"
        )
    folders = {image.id.rpartition("/")[0] for image in placed}
    _refuse_masks(folders, where)
    layout.check([below[image.row] for image in placed], list(below.values()), where)
    classes = {image.label for image in placed}
    for name in unknown:  # a class all of whose files are of an unknown kind would be lost in silence
        place = layout.place(name[len(prefix) :].split("/")) if name.startswith(prefix) else None
        lost = f", and class {place[0]!r} has no image" if place and place[0] not in classes else ""
        ignored.append((name, _suffix_words(name) + lost))
    return Arranged(placed, ignored, [*layout.notes, *_deeper(folders, layout)])


def _refuse_masks(folders: Iterable[str], where: str) -> None:
    """Raise SlmlpError where masks would be taken for images."""
    found = lookalikes.masks_beside_pictures(folders)
    if found:
        raise SlmlpError(
            f"{where}: {found[1]} lies beside {found[0]}, so that it holds what is drawn on the images, and no images "
            "of a class: move it away, or rename it where it is a class"
        )


def _deeper(folders: Iterable[str], layout: _Layout) -> list[str]:
    """Return a note on folders of images inside the class folders: their names are not read."""
    split = {folder: [*folder.split("/"), ""] for folder in folders}
    folders = {folder for folder, steps in split.items() if len(steps) > layout.depth(steps) + 2}
    if len({folder.rpartition("/")[2] for folder in folders}) < 2:
        return []
    return [f"folders below the class folders, whose names are not read: {few(sorted(folders), 3)}"]


@dataclass(frozen=True)
class _Layout:
    """Where class and part stand in a path."""

    parts: Mapping[str, str | None] = field(default_factory=dict)  # folder -> part; none: classes are at the top
    part_below_class: bool = False  # <class>/<part>/<image> instead of <part>/<class>/<image>
    notes: list[str] = field(default_factory=list)

    def folder(self, steps: Steps) -> str | None:
        """Return the part's folder that a path lies in."""
        folders = ("/".join(steps[:n]) for n in range(len(steps) - 1, -1, -1))
        return next((folder for folder in folders if folder in self.parts), None)

    def depth(self, steps: Steps) -> int:
        """Return how many folders stand above the class folder, or between it and the images."""
        folder = self.folder(steps)
        return 1 if self.part_below_class else len(folder.split("/")) if folder else 0

    def place(self, steps: Steps) -> tuple[str, str | None] | None:
        """Return the class and the part of a path, None where it lies in no class folder."""
        if not self.parts:
            return (steps[0], None) if len(steps) > 1 else None
        if self.part_below_class:
            # every image's folder is a part; one that holds only files of another kind may be none
            return (steps[0], self.parts.get(steps[1])) if len(steps) > 2 else None
        folder = self.folder(steps)
        depth = len(folder.split("/")) if folder else 0
        return None if folder is None or len(steps) < depth + 2 else (steps[depth], self.parts[folder])

    def check(self, placed: Sequence[Steps], images: Sequence[Steps], where: str) -> None:
        """Raise SlmlpError for a part without a labelled image, or none of whose classes is one of training."""
        if not self.parts or self.part_below_class:
            return
        classes: defaultdict[str, set[str]] = defaultdict(set)
        for steps in placed:
            folder, place = self.folder(steps), self.place(steps)
            assert folder is not None
            assert place is not None
            classes[folder].add(place[0])
        training = set().union(*(classes[name] for name, part in self.parts.items() if part != "test"))
        for name, part in self.parts.items():
            if not classes[name]:
                first = next(("/".join(steps) for steps in images if self.folder(steps) == name), "no image")
                raise SlmlpError(
                    f"{where}: part {name or '.'} has no image in a class folder (expected "
                    f"{posixpath.join(name, '<class>/<image>')}, "
                    f"found {first}): add the class folders, or name the parts to use{_TELL_TRAIN}"
                )
            if part == "test" and not classes[name] & training:
                raise SlmlpError(
                    f"{where}: no class folder of {name} ({few(sorted(classes[name]), 3)}) is one of training "
                    f"({few(sorted(training), 3)}): name the class folders alike, or name the parts to use"
                    f"{self._told(images)}"
                )

    def _told(self, images: Sequence[Steps]) -> str:
        """Return what to type; the folders inside the parts where the classes begin deeper."""
        inside = {name: lookalikes.where_classes_begin(name, images) for name in self.parts if "/" not in name}
        words = [lookalikes.typed(part or "train", inside[name]) for name, part in self.parts.items() if name in inside]
        return f": --parts {' '.join(words)}" if any(a != b for a, b in inside.items()) else _TELL_TRAIN


_TELL_TRAIN = ", as --parts train=DIR (--parts train=. where the top folders are classes)"


def _told(named: Mapping[str, str], prefix: str, where: str) -> _Layout:
    """Return the layout that the user says; folders may be named with the wrapping folder or without."""
    kinds = {}
    for folder, part in named.items():
        inside = f"{folder}/".removeprefix(prefix).strip("/")
        kinds["" if inside == "." else inside] = part
    return _Layout(settle_parts(kinds, where))


def _recognised(paths: Sequence[Steps], where: str) -> _Layout:
    """Return the layout that the names of the folders show; ``paths`` have a folder each.

    Raises:
        SlmlpError: the folders may be parts or classes.
    """
    inside: dict[str, set[str]] = {steps[0]: set() for steps in paths}  # top folder -> folders in it
    for steps in paths:
        if len(steps) > 2:
            inside[steps[0]].add(steps[1])
    kinds = {top: part_kind(top) for top in inside}
    parts = {top: part for top, part in kinds.items() if part is not None}
    others = sorted(set(inside) - set(parts))
    if parts and not others:
        settled = settle_parts(parts, where)
        return _Layout(settled, notes=said(settled))
    if parts:
        # "train" is a vehicle where it holds images alone; a test part, or one with classes inside, is no class
        alone = [top.lower() for top in parts] == ["train"] and len(inside[next(iter(parts))]) < 2
        if alone and len(others) > 1 and not lookalikes.hidden_parts(inside):
            return _Layout()
        raise SlmlpError(
            f"{where} has both part folders ({', '.join(sorted(parts))}) and others ({few(others, 3)}): move the "
            f"others away, or say what they are: {lookalikes.two_readings(parts, others, paths)}"
        )
    hidden = lookalikes.hidden_parts(inside)
    if hidden:
        raise SlmlpError(
            f"{where}: the top folders ({few(others, 3)}) have names of parts, and may be parts or classes: "
            f"{lookalikes.two_readings({}, others, paths)}"
        )
    if len(inside) < 2 or any(len(steps) < 3 for steps in paths):
        return _Layout()
    below = {name: part_kind(name) for folders in inside.values() for name in folders}
    known = {name: part for name, part in below.items() if part is not None}
    if len(known) == len(below):
        settled = settle_parts(known, where)
        return _Layout(settled, True, [f"parts below the class folders: {', '.join(sorted(known))}"])
    shared = lookalikes.shared(lookalikes.below_wrappers(inside, paths))
    if shared:
        raise SlmlpError(
            f"{where}: the top folders ({few(others, 3)}) share folders of the same names ({few(sorted(shared), 3)}): "
            f"they may be parts or classes: {lookalikes.two_readings({}, others, paths)}"
        )
    return _Layout()


def _suffix_words(name: str) -> str:
    suffix = posixpath.splitext(name)[1].lower()
    return f"unknown suffix {suffix}" if suffix else "no suffix"


def _reasons(ignored: Sequence[tuple[str, str]]) -> str:
    counts = Counter(reason for _, reason in ignored)
    return ", ".join(f"{n} files with {reason}" for reason, n in counts.most_common(3)) or "no files"
