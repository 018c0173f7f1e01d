"""Which column of a manifest is which: names are read without case, and the usual ones of other tools are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from slmlp.data.sources.parts import HINTS, SOME, part_kind
from slmlp.runtime.errors import SlmlpError

NAMES = {
    "path": "path file filename filepath image imagepath imagefile img imgpath relativepath relpath",
    "label": "label labels class classname category categoryname target",
    "part": "part split subset partition set usage splitname partname traintest traintestsplit",
    "superclass": "superclass supercategory coarselabel",
    "group": "group groupid unit unitid patient patientid subject subjectid person personid individual individualid "
    "case caseid lesion lesionid participant participantid donor donorid animal animalid video videoid "
    "session sessionid sequence sequenceid slide slideid scene sceneid specimen specimenid",
}
_ROLES = {name: role for role, names in NAMES.items() for name in names.split()}
EXPECTED = "path,label and, if wanted, part,superclass,group"


def roles(columns: Sequence[str], required: Sequence[str], where: str) -> tuple[dict[str, str], list[str]]:
    """Return role -> column, and notes on columns that are used under another name or not at all.

    A column of a role's own name is taken before others of the same meaning.

    Raises:
        SlmlpError: a required role has no column, a column comes twice, or two columns may be the same role.

    >>> roles(["File_Name", "Class", "split", "width"], ["path", "label"], "x.csv")[0]
    {'path': 'File_Name', 'label': 'Class', 'part': 'split'}
    """
    twice = next((column for i, column in enumerate(columns) if column and column in columns[:i]), None)
    if twice:
        raise SlmlpError(f"{where}: column {twice!r} comes twice: rename or remove one")
    candidates: dict[str, list[str]] = {role: [] for role in NAMES}
    for column in columns:
        role = _ROLES.get(_bare(column))
        if role:
            candidates[role].append(column)
    chosen: dict[str, str] = {}
    for role, names in candidates.items():
        exact = [name for test in (str, str.lower) for name in names if test(name.strip()) == role]
        if len(names) > 1 and not exact:
            raise SlmlpError(
                f"{where}: columns {' and '.join(map(repr, names))} may both be the {role}: name the right one {role!r}"
            )
        if names:
            chosen[role] = (exact or names)[0]
        elif role in required:
            raise SlmlpError(
                f"{where}: column {role!r} is missing: expected {EXPECTED}, found {','.join(columns) or 'nothing'}"
            )
    return chosen, _notes(columns, chosen)


def check_array_names(names: Iterable[str], read: Iterable[str], where: str) -> None:
    """Raise SlmlpError for an array that means what one of ``read`` means, by another name, where that one is missing.

    >>> check_array_names(["x", "y", "split"], ["x", "y", "part"], "f.npz")
    Traceback (most recent call last):
    slmlp.runtime.errors.SlmlpError: f.npz: the array 'split' is not read: name it part, or remove it
    """

    def role(name: str) -> str | None:
        return _ROLES.get(_bare(name)) or _ROLES.get(_bare(name).removesuffix("s"))

    names, meant = list(names), {role(name): name for name in read}
    for name in names:
        right = meant.get(role(name)) if role(name) in ("part", "group", "superclass") else None
        if right is not None and right not in names:
            raise SlmlpError(f"{where}: the array {name!r} is not read: name it {right}, or remove it")


def check_part_columns(unused: Mapping[str, Iterable[object]], where: str) -> None:
    """Raise SlmlpError for a column that tells training from test and is none of those that are read as parts.

    Without it the images that are marked as test would be trained on. ``unused``: its values by the name of a column.
    """
    for column, values in unused.items():
        words = {str(value).strip().lower() for value in values if value is not None} - {""}
        kinds = {word: part_kind(word, HINTS) for word in words}
        if "train" in kinds.values() and len(set(kinds.values()) - {None}) > 1:  # "unused" may stand beside them
            parts = ", ".join(sorted(words, key=lambda word: (kinds[word] is None, word))[:SOME])
            raise SlmlpError(
                f"{where}: column {column!r} holds {parts} and is not read as the part: name it part, or remove it"
            )
        kind = part_kind(re.sub(r"^(is|in|for)(?=[^a-z]|[A-Z])", "", column.strip()))
        if kind and len(words) == 2 and words <= _YES_NO:
            raise SlmlpError(
                f"{where}: column {column!r} holds {' and '.join(sorted(words))} and is not read as the part: write a "
                "column part with train and test, or remove it"
            )


_YES_NO = {"0", "1", "0.0", "1.0", "true", "false", "yes", "no", "t", "f", "y", "n"}


def _notes(columns: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    renamed = [f"{column} as {role}" for role, column in chosen.items() if column != role]
    unused = [column for column in columns if column and column not in chosen.values()]
    return [f"columns taken: {', '.join(renamed)}"] * bool(renamed) + [f"columns not used: {', '.join(unused)}"] * bool(
        unused
    )


def _bare(column: str) -> str:
    """Return a column's name in lower case, letters only: ``Patient ID``, ``patient_id`` and ``PatientId`` are one."""
    return re.sub(r"[\W_]+", "", column).lower()
