"""Which column of a manifest is which: names are read without case, and the usual ones of other tools are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from slmlp.runtime.errors import SlmlpError

NAMES = {
    "path": "path file filename filepath image imagepath imagefile img imgpath relativepath relpath",
    "label": "label labels class classname category categoryname target",
    "part": "part split subset partition set",
    "superclass": "superclass supercategory coarselabel",
    "group": "group groupid unit unitid patient patientid subject subjectid person personid individual individualid "
    "case caseid video videoid session sessionid sequence sequenceid slide slideid scene sceneid specimen specimenid",
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


def _notes(columns: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    renamed = [f"{column} as {role}" for role, column in chosen.items() if column != role]
    unused = [column for column in columns if column and column not in chosen.values()]
    return [f"columns taken: {', '.join(renamed)}"] * bool(renamed) + [f"columns not used: {', '.join(unused)}"] * bool(
        unused
    )


def _bare(column: str) -> str:
    """Return a column's name in lower case, letters only: ``Patient ID``, ``patient_id`` and ``PatientId`` are one."""
    return re.sub(r"[\W_]+", "", column).lower()
