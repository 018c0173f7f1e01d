"""Say of a listed file that is not there what it may be: its name in another case, form or folder."""

from __future__ import annotations

import functools
import itertools
import unicodedata
import urllib.parse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath


def drive_words(path: str) -> str | None:
    """Return what is wrong with a path that no folder of this machine has, None for another path."""
    if path[1:3] in (":\\", ":/") and path[:1].isalpha():
        return f"a path on drive {path[0]}: of Windows; write it relative to the manifest"
    if "://" in path:
        return "an address and no path; fetch the images, and write where they lie, relative to the manifest"
    if path.startswith(("\\\\", "//")):
        return "a path on a share of Windows; write it relative to the manifest"
    return None


def problem(path: str, why: str, folder: Path) -> str:
    """Return why a listed path cannot be read: ``why``, and the file that may be meant.

    Args:
        path: as it is listed.
        why: what the system says.
        folder: the manifest's.
    """
    words = drive_words(path)
    if words or "\0" in path:
        return words or why
    path = path.strip().replace("\\", "/")
    found = _alike(folder, path)
    return f"{why}; there is {found[0]}: {found[1]}" if found else why


def among(path: str, names: frozenset[str]) -> str | None:
    """Return the one of ``names`` that a path may mean: of another folder, in another case or form, with ``%20``."""
    plain = urllib.parse.unquote(path.replace("\\", "/"))
    found = _by_base(names).get(_form(plain.rpartition("/")[2]), ())
    steps = _form(plain).split("/")
    return max(found, key=lambda name: _shared_end(_form(name).split("/"), steps), default=None)


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@functools.lru_cache(maxsize=4)
def _by_base(names: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
    """Return files by the form of their last step."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[_form(name.rpartition("/")[2])].append(name)
    return {base: tuple(each) for base, each in found.items()}


def _alike(folder: Path, path: str) -> tuple[str, str] | None:
    """Return the file that may be meant, and what to do."""
    plain = urllib.parse.unquote(path)
    if plain != path and (folder / plain).is_file():
        return plain, "write the path without codes such as %20"
    steps = PurePosixPath(path).parts
    for start in range(1, len(steps)):  # of another machine, or relative to another folder
        tail = "/".join(steps[start:])
        if (folder / tail).is_file():
            return tail, "write paths relative to the manifest"
    above, _, name = path.rpartition("/")
    there = _names(str(folder / above))
    meant = there.get(_form(name))
    if meant is not None:
        same = unicodedata.normalize("NFC", meant) == unicodedata.normalize("NFC", name)
        shown = meant.encode("ascii", "backslashreplace").decode() if same else meant
        return f"{above}/{shown}".lstrip("/"), f"write it so, in the same {'Unicode form' if same else 'case'}"
    longer = there.get(f"{_form(name)}.") if name else None
    return (f"{above}/{longer}".lstrip("/"), "write the suffix too") if longer else None


@functools.lru_cache(maxsize=64)
def _names(folder: str) -> Mapping[str, str]:
    """Return the files of a folder by what their names have in common with others', and by that without a suffix."""
    try:
        names = sorted(file.name for file in Path(folder).iterdir())
    except OSError:
        return {}
    return {f"{_form(name.rpartition('.')[0])}.": name for name in names} | {_form(name): name for name in names}


def _form(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
