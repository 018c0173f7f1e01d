"""Locate the annotations and images of each part of a COCO data set, in a folder or a tar."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slmlp.config import DataOptions
from slmlp.data.sources import archive
from slmlp.data.sources.folder import walk
from slmlp.data.sources.parts import part_kind
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.json_files import parse_object

PARTS = ("train", "val", "test")
PROBES = 50  # images of a part used to find their folder


class Store(Protocol):
    """A collection of files, read by name."""

    source: str

    def names(self) -> Sequence[str]:
        """Return the names of all files, with / between folders."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        ...


class FolderStore:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root, str(root)

    def names(self) -> list[str]:
        """Return the names of all files below the folder."""
        return sorted(file.name for file in walk(self.root, [], everything=True))

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self.root / name).read_bytes()


class TarStore:
    """The files in a tar, read in place. Every read opens the tar, so workers can share the store."""

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.plain = archive.plain(path, DataOptions())
        members, _ = archive.index(self.plain, path)
        self.members = {member.name: (member.offset, member.size) for member in members}

    def names(self) -> list[str]:
        """Return the names of all files in the tar."""
        return sorted(self.members)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        if name not in self.members:
            raise FileNotFoundError(2, "no such file in the tar", name)
        offset, size = self.members[name]
        with self.plain.open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True)
class PartFiles:
    """The annotations and the image files of one part."""

    part: str
    annotations: str  # name of the annotations file, for messages
    content: dict[str, Any]  # the annotations file, parsed
    store: Store
    folder: str  # of the images, in the store; "" is its root
    names: frozenset[str]  # of all files in the store


def open_store(source: str) -> Store:
    """Return the files of a folder or a tar."""
    path = Path(source).expanduser()
    if path.is_dir():
        return FolderStore(path)
    if path.is_file():
        return TarStore(path)
    raise SlmlpError(
        f"no data at {source}: expected a folder or a tar with annotations/instances_train*.json, "
        "instances_val*.json and their images"
    )


def find_parts(source: str | None, given: Mapping[str, tuple[str | None, str | None]]) -> dict[str, PartFiles]:
    """Return the parts that a data set has, by name; ``given`` maps a part to (annotations file, image folder)."""
    parts: dict[str, PartFiles] = {}
    names: Sequence[str] = ()
    if source is not None:
        store = open_store(source)
        names = store.names()
        for part in PARTS:
            if given.get(part, (None, None))[0] is None:
                part_files = _find_part(part, store, names)
                if part_files is not None:
                    parts[part] = part_files
    for part, (file, folder) in given.items():
        if file is not None:
            parts[part] = _given_part(part, Path(file).expanduser(), folder)
        elif folder is not None:
            raise SlmlpError(f"--{part}-images {folder} needs --{part}-json: the annotations of those images")
    if "train" not in parts:
        there = [name for name in names if name.endswith(".json")]
        found = f", found {few(there, 4)}" if there else ""
        raise SlmlpError(
            f"{source or 'no DATA'} has no training annotations: expected a JSON file named instances_train*.json (or "
            f"one in a folder named train){found}; name another with --train-json FILE --train-images FOLDER"
        )
    for part in parts.keys() - {"train"} - {key for key, (file, _) in given.items() if file is not None}:
        _refuse_images_of_training(parts["train"], parts[part])
    return parts


def _refuse_images_of_training(train: PartFiles, other: PartFiles) -> None:
    """Raise SlmlpError where a part's images are missing, and training's of the same names were found instead."""
    kinds = {kind for step in other.folder.split("/") if (kind := part_kind(step))}
    if other.store is not train.store or other.folder != train.folder or kinds != {"train"}:
        return
    mine, theirs = ({str(row.get("file_name")) for row in _rows(p.content)} for p in (other, train))
    if mine <= theirs:
        raise SlmlpError(
            f"{other.annotations}: its images were found in {other.folder} alone, where training's are, of the same "
            f"names: put back those of the {other.part} part, or name their folder, --{other.part}-json FILE "
            f"--{other.part}-images FOLDER"
        )


def _rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    rows = content.get("images")  # what else it may be is the reader's to say
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _given_part(part: str, annotations: Path, folder: str | None) -> PartFiles:
    if not annotations.is_file():
        raise SlmlpError(f"--{part}-json {annotations}: no such file")
    root = Path(folder).expanduser() if folder else annotations.parent
    if not root.is_dir():
        raise SlmlpError(f"--{part}-images {root}: no such folder")
    store = FolderStore(root)
    names = store.names()
    content = _parsed(annotations.read_bytes(), str(annotations))
    return PartFiles(part, str(annotations), content, store, _image_folder(content, store, part), frozenset(names))


def _find_part(part: str, store: Store, names: Sequence[str]) -> PartFiles | None:
    """Find a part in COCO's layout, or in a layout of one folder per part; None if the data set lacks it."""
    files = [name for name in names if name.endswith(".json") and part in _parts_of(name)]
    instances = [name for name in files if posixpath.basename(name).startswith("instances")]
    files = instances or files
    contents = [(name, _parsed(store.read(name), f"{store.source}: {name}")) for name in files]
    annotated = [(name, content) for name, content in contents if "annotations" in content]  # COCO's test has none
    if not annotated:
        return None
    if len(annotated) > 1:
        raise SlmlpError(
            f"{store.source} has {len(annotated)} annotation files for {part} "
            f"({', '.join(name for name, _ in annotated[:4])}): name one with --{part}-json FILE --{part}-images FOLDER"
        )
    name, content = annotated[0]
    return PartFiles(
        part, f"{store.source}: {name}", content, store, _image_folder(content, store, part), frozenset(names)
    )


def _parts_of(name: str) -> set[str]:
    """Return the parts that an annotations file's name mentions, or, if it mentions none, its folder's name."""
    folder, base = posixpath.split(name)
    for text in (posixpath.splitext(base)[0], posixpath.basename(folder)):
        parts = {part for token in re.split(r"[^a-z0-9]+", text.lower()) if (part := part_kind(token))}
        if parts:
            return parts
    return set()


def located(folder: str, file_name: str, known: Set[str]) -> str:
    """Return the name in the store of an annotation's file, without ``./`` and with ``/`` for Windows' own mark."""
    name = posixpath.normpath(posixpath.join(folder, file_name))
    return name if name in known or "\\" not in name else posixpath.normpath(name.replace("\\", "/"))


def _image_folder(content: dict[str, Any], store: Store, part: str) -> str:
    """Return the folder that holds most of the first images; on a tie, the one whose path names the part.

    Raises:
        SlmlpError: several folders hold as many, as thumbnails beside the images do.
    """
    file_names = [str(row.get("file_name")) for row in _rows(content)[:PROBES]]
    known = set(store.names())
    folders = {""}
    for name in known:
        folder = posixpath.dirname(name)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    hits = {folder: sum(located(folder, name, known) in known for name in file_names) for folder in folders}
    best = sorted(folder for folder, n in hits.items() if n == max(hits.values()))
    if not max(hits.values()):
        return ""  # no image is there: the reader says which
    if len(best) > 1:
        named = {folder: {kind for step in folder.split("/") if (kind := part_kind(step))} for folder in best}
        best = [folder for folder in best if named[folder] == {part}] or best
    if len(best) > 1:
        raise SlmlpError(
            f"{store.source}: {file_names[0]} and other images of the {part} part lie in {' and in '.join(best[:3])}: "
            f"name the folder of the right ones, --{part}-json FILE --{part}-images FOLDER"
        )
    return best[0]


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    expected = "a COCO file, an object with images, annotations and categories"
    return parse_object(content, name, "download or write it again", expected, nan=True)
