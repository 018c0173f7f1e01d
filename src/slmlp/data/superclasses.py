"""Read the superclass of each class from a file or from WordNet."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from slmlp.data.dataset import ImageSet
from slmlp.runtime.errors import SlmlpError

_HEADERS = (["class", "superclass"], ["class", "superclass"])


def apply_superclasses(images: ImageSet, spec: str, senses: Sequence[str] = ()) -> ImageSet:
    """Return the images with superclasses from ``spec``: a file, or ``wordnet:N`` for N superclasses.

    The file has one class per line, ``class <tab> superclass`` or ``class,superclass``; classes not in the data are
    ignored. ``senses`` (``class=n02012849``) choose the WordNet sense of a class name.

    Raises:
        SlmlpError: names the first class without a superclass.
    """
    if spec.startswith("wordnet:"):
        number = spec.removeprefix("wordnet:")
        if not number.isdecimal() or int(number) < 2:
            raise SlmlpError(
                f"--superclasses {spec}: expected wordnet:N with a number of superclasses from 2, as wordnet:10"
            )
        from slmlp.data import wordnet

        superclasses: Mapping[str, str] = wordnet.cut(images.classes, int(number), senses)
    else:
        superclasses = read_superclasses(Path(spec).expanduser(), images.classes)
    missing = [name for name in images.classes if name not in superclasses]
    if missing:
        raise SlmlpError(
            f"--superclasses {spec} has no superclass for class {missing[0]!r} ({len(missing)} of them): add it"
        )
    return dataclasses.replace(images, superclasses=tuple(superclasses[name] for name in images.classes))


def read_superclasses(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read class -> superclass from a file; a header, blank lines and lines that start with ``#`` are skipped."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SlmlpError(f"--superclasses: cannot read {path}: {reason}") from error
    superclasses: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        # in a line with a tab, commas are part of the names
        pair = line.split("\t") if "\t" in line else next(csv.reader([line]))
        if number == 1 and [word.strip() for word in pair] in _HEADERS and "class" not in classes:
            continue
        if len(pair) != 2 or not all(word.strip() for word in pair):
            raise SlmlpError(
                f"{path}, line {number}: expected class<tab>superclass or class,superclass, found {line:.60}"
            )
        name, superclass = pair
        if superclasses.setdefault(name, superclass) != superclass:
            raise SlmlpError(
                f"{path}, line {number}: class {name!r} has two superclasses, {superclasses[name]!r} and {superclass!r}"
            )
    return superclasses
