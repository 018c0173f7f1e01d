"""The group of each class, where the data does not say it: from a file, or from WordNet."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from slmlp.data.dataset import ImageSet
from slmlp.runtime.errors import SlmlpError

_HEADERS = (["class", "group"], ["class", "class_group"])


def apply_groups(images: ImageSet, spec: str, senses: Sequence[str] = ()) -> ImageSet:
    """Return the images with the group of each class taken from ``spec``: a file, or ``wordnet:N`` for N groups.

    The file has one class a line, ``class <tab> group`` or ``class,group``; classes that the data does not have are
    passed over. ``senses`` (``class=n02012849``) choose the WordNet sense of a class name. Raises SlmlpError naming
    the first class without a group.
    """
    if spec.startswith("wordnet:"):
        number = spec.removeprefix("wordnet:")
        if not number.isdecimal() or int(number) < 2:
            raise SlmlpError(f"--groups {spec}: expected wordnet:N with a number of groups from 2, as wordnet:10")
        from slmlp.data import wordnet

        groups: Mapping[str, str] = wordnet.cut(images.classes, int(number), senses)
    else:
        groups = read_groups(Path(spec).expanduser(), images.classes)
    missing = [name for name in images.classes if name not in groups]
    if missing:
        raise SlmlpError(f"--groups {spec} has no group for class {missing[0]!r} ({len(missing)} of them): add it")
    return dataclasses.replace(images, groups=tuple(groups[name] for name in images.classes))


def read_groups(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Return class -> group as a file says; a header ``class,group``, blank lines and lines from ``#`` are skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SlmlpError(f"--groups: cannot read {path}: {reason}") from error
    groups: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        # with a tab in the line commas belong to the names
        pair = line.split("\t") if "\t" in line else next(csv.reader([line]))
        if number == 1 and [word.strip() for word in pair] in _HEADERS and "class" not in classes:
            continue
        if len(pair) != 2 or not all(word.strip() for word in pair):
            raise SlmlpError(f"{path}, line {number}: expected class<tab>group or class,group, found {line:.60}")
        name, group = pair
        if groups.setdefault(name, group) != group:
            raise SlmlpError(f"{path}, line {number}: class {name!r} has two groups, {groups[name]!r} and {group!r}")
    return groups
