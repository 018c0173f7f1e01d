"""Point out names of classes and groups that may not be meant so: almost equal, of nothing, of several labels."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from slmlp.data.sources.row import Row
from slmlp.runtime.errors import few

KINDS = {"label": "classes", "superclass": "superclasses", "group": "groups"}
# what programs write where there is no value
_NOTHING = frozenset(["nan", "none", "null", "na", "n/a", "<na>", "nat", "-1", "-1.0", "?", "undefined", "unlabelled",
                      "unlabeled"])  # fmt: skip
_JOINTS = re.compile(r"\s*[|;,]\s*")


def notes(rows: Sequence[Row], separator: str | None = None) -> list[str]:
    """Return a note on each kind of odd names among classes, superclasses and groups; ``separator`` is of labels."""
    several = [] if separator else _joined(_names(rows, "label"))
    return [*near_equal(rows), *_of_nothing(rows), *several]


def near_equal(rows: Sequence[Row]) -> list[str]:
    """Return a note on names of classes, superclasses and groups that differ in spaces, case or form only.

    >>> near_equal([Row("a", "Cat", 1), Row("b", "cat ", 1), Row("c", "7", 1), Row("d", "07", 1)])
    ["classes that differ in case, spaces, Unicode form or the form of a number only: '07' and '7', 'Cat' and 'cat '"]
    """
    notes = []
    for what, kind in KINDS.items():
        alike: defaultdict[str, set[str]] = defaultdict(set)
        for name in _names(rows, what):
            alike[_same(name)].add(name)
        several = [
            " and ".join(_shown(name, names) for name in sorted(names)) for names in alike.values() if len(names) > 1
        ]
        if several:
            words = few(sorted(several), 3)
            notes.append(f"{kind} that differ in case, spaces, Unicode form or the form of a number only: {words}")
    return notes


def _shown(name: str, others: Iterable[str]) -> str:
    """Return a name in quotes, with the codes of its characters where another one looks the same."""
    alike = [other for other in others if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name)]
    return ascii(name) if len(alike) > 1 else repr(name)


def _same(name: str) -> str:
    """Return what two ways to write one name have in common."""
    name = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
    if re.fullmatch(r"[+-]?\d{1,300}(\.0*)?", name):
        return str(int(name.partition(".")[0]))
    return name


def _of_nothing(rows: Sequence[Row]) -> list[str]:
    """Return notes on names that mean that there is none.

    >>> _of_nothing([Row("a", "cat", 1, group="nan"), Row("b", "-1", 1, group="p")])
    ["classes whose names mean that there is none: '-1'", "groups whose names mean that there is none: 'nan'"]
    """
    found = {what: [n for n in _names(rows, what) if n.strip().lower() in _NOTHING] for what in KINDS}
    return [
        f"{KINDS[what]} whose names mean that there is none: {few(sorted(map(repr, names)), 3)}"
        for what, names in found.items()
        if names
    ]


def _joined(classes: set[str]) -> list[str]:
    r"""Return a note on classes that are several labels in one text.

    >>> _joined({"cat", "dog", "cat|dog", "maillot", "maillot, tank suit"})
    ["classes that look like several labels: 'cat|dog' (for those, --label-separator '|')"]
    >>> _joined({"[cat, dog]", "[dog]"})[0][:66]
    "classes that look like several labels: '[cat, dog]', '[dog]' (for "
    """
    pieces = {name: set(_JOINTS.split(name.strip())) for name in classes}
    counts = Counter(piece for each in pieces.values() for piece in each)
    joined = [name for name, each in pieces.items() if len(each) > 1 and all(counts[piece] > 1 for piece in each)]
    lists = [name for name in classes if re.fullmatch(r"\s*\[.*\]\s*", name, re.DOTALL)]
    if not joined and not lists:
        return []
    mark = next((mark for mark in "|;," if joined and mark in min(joined)), "|")
    words = few(sorted(map(repr, joined + lists)), 3)
    return [f"classes that look like several labels: {words} (for those, --label-separator {mark!r})"]


def _names(rows: Sequence[Row], what: str) -> set[str]:
    return {getattr(row, what) for row in rows} - {None}
