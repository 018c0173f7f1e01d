"""Summarise a data set: counts per class and part, what was left out, and what limits a number measured on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slmlp.data.copies import copies
from slmlp.data.dataset import ImageSet
from slmlp.data.sources.table import list_text
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import few
from slmlp.runtime.progress import say

Pairs = Sequence[tuple[str, str]]


def duplicates_across_parts(images: ImageSet) -> list[tuple[str, str]]:
    """Return (train id, test id) of each test image that equals a training image (the first one), byte for byte."""
    return copies(images.of_part("train"), images.of_part("test"))


def summary(images: ImageSet, duplicates: Pairs | None = None) -> dict[str, Any]:
    """Return counts per class and part, and of ignored and unreadable files, as JSON values.

    ``duplicates``: the result of ``duplicates_across_parts``; computed if None.
    """
    pairs = duplicates_across_parts(images) if duplicates is None else duplicates
    train, test = (np.bincount(images.labels[images.parts == p], minlength=len(images.classes)) for p in _PARTS)
    classes: dict[str, dict[str, Any]] = {
        name: {"train": int(a), "test": int(b)} for name, a, b in zip(images.classes, train, test, strict=True)
    }
    if images.superclasses is not None:
        for name, superclass in zip(images.classes, images.superclasses, strict=True):
            classes[name]["superclass"] = superclass
    return {
        "name": images.name,
        "source": images.source,
        "hash": images.hash(),
        "images": len(images),
        "parts": {"train": int(train.sum()), "test": int(test.sum())},
        "has_test_part": images.has_test_part,
        "classes": classes,
        "superclasses": None if images.superclasses is None else dict(sorted(Counter(images.superclasses).items())),
        "groups": len(set(images.groups.tolist())) if images.has_groups else None,
        "unreadable": len(images.unreadable),
        "ignored": dict(Counter(reason for _, reason in images.ignored).most_common()),
        "notes": list(images.notes),
        "duplicates_across_parts": [list(pair) for pair in pairs],
    }


def announce(images: ImageSet, folder: Path, prefix: str = "") -> list[Path]:
    """Say the summary, and write it: ``data.json`` and, where files were unreadable, ``unreadable.txt``.

    Returns the files that were written.

    Every command that reads images calls this once, after they were decoded, so that the counts are the final ones.
    ``unreadable.txt`` has a line ``id <tab> reason`` a file. The names of both begin with ``prefix``.
    """
    duplicates = duplicates_across_parts(images)
    say(describe(images, duplicates))
    counted, unreadable = folder / f"{prefix}data.json", folder / f"{prefix}unreadable.txt"
    json_files.write(counted, summary(images, duplicates))
    if not images.unreadable:
        unreadable.unlink(missing_ok=True)
        return [counted]
    files.write_text(unreadable, list_text(images.unreadable))
    return [counted, unreadable]


def without(images: ImageSet, decoded: ImageSet) -> ImageSet:
    """Return the images less those that were found unreadable when ``decoded``, a part of them, was decoded."""
    new = {name for name, _ in decoded.unreadable} - {name for name, _ in images.unreadable}
    kept = images.select(np.array([name not in new for name in images.ids])) if new else images
    return replace(kept, unreadable=decoded.unreadable)


def describe(images: ImageSet, duplicates: Pairs | None = None) -> str:
    """Return the summary as a few lines of text."""
    facts = summary(images, duplicates)
    counts = np.bincount(images.labels, minlength=len(images.classes))
    lines = [
        f"{images.name}: {len(images):,} images of {len(images.classes):,} classes (images per class: min "
        f"{counts.min():,}, median {np.median(counts):,.0f}, max {counts.max():,})",
        f"  parts: {facts['parts']['train']:,} train, {facts['parts']['test']:,} test"
        + (
            ""
            if images.has_test_part
            else f" ({'drawn here: ' if facts['parts']['test'] else ''}the data has no test part of its own)"
        ),
    ]
    if facts["superclasses"] is not None:
        sizes = facts["superclasses"].values()
        lines.append(f"  superclasses: {len(sizes)} (classes per superclass: min {min(sizes)}, max {max(sizes)})")
    if facts["groups"] is not None:
        lines.append(f"  groups: {facts['groups']:,}")
    for part in _PARTS if facts["parts"]["test"] else ():
        empty = [name for name, of in facts["classes"].items() if not of[part]]
        if empty:
            lines.append(f"  no {part} images: {few(empty, 3)}")
    lines += [f"  {note}" for note in images.notes]
    if images.unreadable:
        reasons = [": ".join(row) for row in images.unreadable]
        lines.append(f"  unreadable, left out: {len(reasons):,}: {few(reasons, 3)}")
    if images.ignored:
        examples: defaultdict[str, list[str]] = defaultdict(list)
        for name, reason in images.ignored:
            examples[reason].append(name)
        reasons = [f"{len(names):,} {reason} ({names[0]})" for reason, names in examples.items()]
        lines.append(f"  ignored: {'; '.join(reasons)}")
    if facts["duplicates_across_parts"]:
        pairs = [" = ".join(pair) for pair in facts["duplicates_across_parts"]]
        lines.append(f"  in both parts, byte for byte: {len(pairs):,} test images: {few(pairs, 3)}")
    return "\n".join(lines)


_PARTS = ("train", "test")
