"""Check a copy of a data set for wrong counts, unreadable files and duplicates."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slmlp.config import DataOptions
from slmlp.data import load
from slmlp.data.dataset import ImageSet
from slmlp.data.published import opening
from slmlp.data.published.entry import Entry
from slmlp.data.published.registry import spelling
from slmlp.data.readers import content
from slmlp.data.sources.row import Row
from slmlp.data.sources.table import build
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.threads import in_threads

EXAMPLES = 5  # of a finding that are printed; JSON has all


@dataclass(frozen=True)
class Finding:
    """A problem or note, with what to do about it."""

    check: str
    level: Literal["wrong", "note"]
    what: str
    do: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidationReport:
    """The findings on one data set."""

    name: str
    path: str
    images: int
    classes: int
    parts: tuple[int, int]  # training and test images; all are "train" where there is no test part
    checked: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no finding is of level "wrong"."""
        return not any(finding.level == "wrong" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def check(path: Path, options: DataOptions, entry: Entry | None = None, *, quick: bool = False) -> ValidationReport:
    """Check the data in ``path``, against an entry if given. Reads every file once.

    ``quick`` reads the first bytes of each file only, so it misses later damage and duplicates.
    """
    options = dataclasses.replace(
        options, allow_unreadable=True, images_per_class=None, superclasses=None, unlabelled=False
    )
    checked = ["layout", "classes and parts"]
    findings: list[Finding] = []
    rows: Sequence[Row] = ()
    extra: Sequence[tuple[str, str]] = ()
    name = entry.name if entry else path.resolve().name
    try:
        if entry is None:
            images = load(str(path), options)
        else:
            table, extra = opening.read(entry, path, options)
            rows = table.rows
            findings += _counts(entry, rows)
            images = build(table, options)
            checked.append(
                "counts of each class" if entry.per_class or entry.each else "the total (no counts by class)"
            )
    except SlmlpError as error:
        findings.append(Finding("layout", "wrong", str(error), "correct what the line names, then check again"))
        return ValidationReport(name, str(path), len(rows), 0, (0, 0), tuple(checked), tuple(findings))
    findings += _files(entry, images, extra) + _classes(entry, images)
    if not quick:
        checked += ["every file to its end", "duplicates, byte for byte"]
        findings += _contents(images)
    parts = (int((images.parts == "train").sum()), int((images.parts == "test").sum()))
    findings.sort(key=lambda finding: finding.level == "note")
    return ValidationReport(name, str(path), len(images), len(images.classes), parts, tuple(checked), tuple(findings))


def _contents(images: ImageSet) -> list[Finding]:
    """Decode every file; return findings on unreadable files and duplicates."""

    def digest(index: int) -> tuple[bytes, str]:
        try:
            images.read(index)
            return hashlib.sha256(content(images, index)).digest(), ""
        except (OSError, ValueError) as error:
            return b"", str(error) or type(error).__name__

    unreadable: list[str] = []
    by_digest: defaultdict[bytes, list[int]] = defaultdict(list)
    for i, (hashed, problem) in in_threads(digest, len(images), f"reading {images.name}"):
        if problem:
            unreadable.append(f"{images.ids[i]}: {problem}")
        else:
            by_digest[hashed].append(i)
    overlap: list[str] = []
    other_class: list[str] = []
    repeated: list[str] = []
    for copies in (copies for copies in by_digest.values() if len(copies) > 1):
        train = next((i for i in copies if images.parts[i] == "train"), None)
        first: dict[tuple[int, str], int] = {}  # (class, part) -> the first copy in it
        for i in copies:
            label = int(images.labels[i])
            if train is not None and images.parts[i] == "test":
                overlap.append(f"{images.ids[i]} = {images.ids[train]}")
            if label != images.labels[copies[0]]:
                names = f"{images.classes[label]}, {images.classes[images.labels[copies[0]]]}"
                other_class.append(f"{images.ids[i]} = {images.ids[copies[0]]} ({names})")
            earlier = first.setdefault((label, str(images.parts[i])), i)
            if earlier != i:
                repeated.append(f"{images.ids[i]} = {images.ids[earlier]}")
    share = 100 * len(overlap) / max(1, int((images.parts == "test").sum()))
    table: tuple[tuple[str, Literal["wrong", "note"], list[str], str, str], ...] = (
        ("unreadable", "wrong", unreadable, "images cannot be decoded",
         "unpack or download these again (they are left out of runs; more than 1 % stops a run)"),
        ("overlap", "wrong", overlap, f"test images ({share:.1f} %) are also training images, byte for byte",
         "remove them from one part; if many, unpack the published parts again"),
        ("two classes", "wrong", other_class, "images are also in another class, byte for byte",
         "remove each from the class that it does not belong to"),
        ("repeated", "note", repeated, "images are in their class twice", "remove one of each; they count twice"),
    )  # fmt: skip
    return [
        Finding(check, level, f"{len(examples):,} {what}", do, tuple(examples))
        for check, level, examples, what, do in table
        if examples
    ]


def _counts(entry: Entry, rows: Sequence[Row]) -> list[Finding]:
    wrong = opening.differences(entry, rows)
    if not wrong:
        return []
    lines = tuple(f"{what}: expected {expected:,}, found {found:,}" for what, expected, found in wrong)
    do = "unpack the published archive again into an empty folder; a copy with other counts gives other numbers"
    return [Finding("counts", "wrong", f"{len(lines):,} counts are not the published ones", do, lines)]


def _files(entry: Entry | None, images: ImageSet, extra: Sequence[tuple[str, str]]) -> list[Finding]:
    findings = []
    missing = [name for name, reason in images.unreadable if reason.startswith("missing")]
    damaged = [f"{name}: {reason}" for name, reason in images.unreadable if not reason.startswith("missing")]
    if missing:
        known = entry is not None and entry.incomplete
        do = (
            "they are no longer available: runs need --allow-unreadable where more than 1 % are missing"
            if known
            else "fetch the missing files; the parts of the other images do not change"
        )
        what = f"{len(missing):,} listed images are missing" + (" (some are no longer available)" if known else "")
        findings.append(Finding("missing", "note" if known else "wrong", what, do, tuple(missing)))
    if damaged:
        what = f"{len(damaged):,} files are no images"
        findings.append(Finding("unreadable", "wrong", what, "unpack or download these again", tuple(damaged)))
    unused = tuple(f"{name}: {reason}" for name, reason in (extra if entry is not None else images.ignored))
    if unused:
        what = f"{len(unused):,} files are not part of the data set and are ignored"
        findings.append(Finding("extra", "note", what, "remove them, or move them to their class", unused))
    return findings


def _classes(entry: Entry | None, images: ImageSet) -> list[Finding]:
    findings = []
    if entry is not None and entry.per_class is not None and set(images.classes) != set(entry.per_class):
        lines = [_nearest(name, entry.per_class) for name in images.classes if name not in entry.per_class]
        lines += [f"{name!r} is missing" for name in entry.per_class if name not in images.classes]
        what = "class names are not the published ones"
        findings.append(Finding("class names", "wrong", what, "rename the folders as published", tuple(lines)))
    if not images.has_test_part:
        counts = np.bincount(images.labels, minlength=len(images.classes))
        single = tuple(images.classes[y] for y in np.flatnonzero(counts == 1))
        if single:
            what = f"{len(single):,} classes have one image, too few to train and test on"
            findings.append(Finding("classes", "wrong", what, "add images, or remove these classes", single))
        return findings
    by_part = {p: np.bincount(images.labels[images.parts == p], minlength=len(images.classes)) for p in _PARTS}
    for part, other in (_PARTS, _PARTS[::-1]):
        alone = [images.classes[y] for y in np.flatnonzero((by_part[part] > 0) & (by_part[other] == 0))]
        if alone:
            others = [images.classes[y] for y in np.flatnonzero(by_part[other] > 0)]
            names = tuple(_spelled_alike(name, others) for name in alone)
            what = f"{len(alone):,} classes have {part} images and no {other} images"
            findings.append(
                Finding("parts", "wrong", what, f"add {other} images, or correct the names of the folders", names)
            )
    return findings


_PARTS = ("train", "test")


def _nearest(name: str, known: Sequence[str] | dict[str, int] | Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"{name!r} is no published class" + (f"; did you mean {near[0]!r}?" if near else "")


def _spelled_alike(name: str, others: Sequence[str]) -> str:
    same = next((other for other in others if spelling(other) == spelling(name)), None)
    return name if same is None else f"{name!r} (the other part has {same!r})"
