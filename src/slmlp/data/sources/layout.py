"""Derive classes and parts from file names: ``[wrapper/][train/]class/.../image.jpg``."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from slmlp.data.decode import SUFFIXES
from slmlp.runtime.errors import SlmlpError

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
UNLABELLED = "unlabelled"
MANIFESTS = ("manifest.csv", "manifest.tsv", "manifest.jsonl")
# text files that most data sets have beside the images; skipped without a note
_QUIET = frozenset(
    [".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".rst", ".xml", ".yaml", ".yml", ".html", ".log", ".ini"]
)
_QUIET_NAMES = frozenset(["thumbs.db", "readme", "license", "licence"])


class Placed(NamedTuple):
    """An image with its class and part."""

    row: int  # index of its name in the argument of ``arrange``
    id: str
    label: str
    part: str | None


def kind(name: str) -> str:
    """Return "image", "quiet" (hidden, or a text file) or "unknown", judged by the path alone."""
    steps = name.split("/")
    if any(step.startswith(".") or step == "__MACOSX" for step in steps) or steps[-1].lower() in _QUIET_NAMES:
        return "quiet"
    suffix = posixpath.splitext(steps[-1])[1].lower()
    return "image" if suffix in SUFFIXES else "quiet" if suffix in _QUIET else "unknown"


def settle_parts(words: Sequence[str], where: str) -> dict[str, str | None]:
    """Return the part, "train" or "test", of each part name in the data, such as "val" or "Training".

    ``val`` is the test part if there is no ``test``, else it joins the training part. If all names mean training, the
    data has no parts (None). Case is ignored.
    """
    kinds = {word: PARTS[word.lower()] for word in words}
    val = "train" if "test" in kinds.values() else "test"
    parts = {word: val if kind == "val" else kind for word, kind in kinds.items()}
    if "train" not in parts.values():
        raise SlmlpError(
            f"{where} has a test part ({', '.join(sorted(parts))}) but no training part: add train/, or name the "
            "folder inside to use its images without parts"
        )
    return dict(parts) if "test" in parts.values() else dict.fromkeys(parts)


def wrapper(names: Sequence[str]) -> str:
    """Return the prefix ("" or "mydata/") of wrapping folders: each the only one at its level, with folders in it."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :].split("/") for name in names if name.startswith(prefix)]
        tops = {steps[0] for steps in rest if len(steps) > 1}
        inside = [steps for steps in rest if len(steps) > 1]
        manifest = any(len(steps) == 1 and steps[0] in MANIFESTS for steps in rest)
        below = any(len(steps) > 2 or steps[-1] in MANIFESTS for steps in inside)
        if manifest or len(tops) != 1 or not below or next(iter(tops)).lower() in PARTS:
            return prefix
        prefix += next(iter(tops)) + "/"


def arrange(names: Sequence[str], where: str, *, labelled: bool = True) -> tuple[list[Placed], list[tuple[str, str]]]:
    """Return class and part of every image among ``names`` (POSIX paths), and (name, reason) of ignored files.

    Ids are names without the wrapping folder. With ``labelled`` False every image counts, in any folder.

    Raises:
        SlmlpError: no image, or no image in a class folder; names ``where``.
    """
    kinds = [kind(name) for name in names]
    images = [i for i, k in enumerate(kinds) if k == "image"]
    ignored = [(name, _suffix_words(name)) for name, k in zip(names, kinds, strict=True) if k == "unknown"]
    if not images:
        raise SlmlpError(f"{where} contains no images: expected {_EXPECTED}, found {_reasons(ignored)}")
    if not labelled:
        return [Placed(i, names[i], UNLABELLED, None) for i in images], ignored
    prefix = wrapper([names[i] for i in images])
    placed: list[tuple[int, str, list[str]]] = []
    for i in images:
        steps = names[i][len(prefix) :].split("/") if names[i].startswith(prefix) else [names[i]]
        if len(steps) > 1:
            placed.append((i, "/".join(steps), steps))
        else:
            ignored.append((names[i], _NO_CLASS))
    parts = _part_folders({steps[0] for _, _, steps in placed}, where)
    if parts:
        ignored += [(name, _NO_CLASS) for _, name, steps in placed if len(steps) < 3]
        placed = [row for row in placed if len(row[2]) > 2]
    if not placed:
        first = next(name for name, reason in ignored if reason == _NO_CLASS)
        raise SlmlpError(
            f"{where} has images but no class folders: expected {_EXPECTED}, found {first}; for a "
            "method that uses no labels pass --unlabelled"
        )
    depth = 1 if parts else 0
    return [Placed(i, name, steps[depth], parts.get(steps[0])) for i, name, steps in placed], ignored


_NO_CLASS = "in no class folder"
_EXPECTED = "<class>/<image> or train/<class>/<image> and test/<class>/<image>"


def _part_folders(tops: set[str], where: str) -> dict[str, str | None]:
    """Return the part of each top folder; empty if these are classes ("train" may be one: a vehicle)."""
    words = {top for top in tops if top.lower() in PARTS}
    if words and words == tops:
        return settle_parts(sorted(words), where)
    if len({PARTS[word.lower()] for word in words}) > 1:
        others = ", ".join(sorted(tops - words)[:3])
        raise SlmlpError(
            f"{where} has both part folders ({', '.join(sorted(words))}) and others ({others}): move the others away, "
            "or list the images in a manifest.csv with columns path,label,part"
        )
    return {}


def _suffix_words(name: str) -> str:
    suffix = posixpath.splitext(name)[1].lower()
    return f"unknown suffix {suffix}" if suffix else "no suffix"


def _reasons(ignored: list[tuple[str, str]]) -> str:
    counts = Counter(reason for _, reason in ignored)
    return ", ".join(f"{n} files with {reason}" for reason, n in counts.most_common(3)) or "no files"
