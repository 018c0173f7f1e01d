"""Which part of the data a word means: the name of a folder, a value of a part column, or a user's ``--parts``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from slmlp.runtime.errors import SlmlpError

PARTS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# words that hint at a test part: not taken as one, and not passed over where training stands beside them
HINTS = {**PARTS, **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), "test")}
SOME = 6  # values of a column that an error names
# words beside a part's name that change nothing: "Training Images", "test_set"
_FILLERS = frozenset(
    ["set", "split", "part", "image", "images", "img", "imgs", "picture", "pictures", "photos", "data", "dataset"]
)


def part_kind(word: str, known: Mapping[str, str] = PARTS) -> str | None:
    """Return "train", "val" or "test" for a word that names a part in a usual way, else None.

    >>> [part_kind(word) for word in ("Training Images", "test_set", "train2017", "Valset", "trains", "contest")]
    ['train', 'test', 'train', 'val', None, None]
    """
    words = [_bare(step) for step in re.split(r"[\s_.\-]+", word.lower())]
    words = [step for step in words if step and step not in _FILLERS]
    return known.get(words[0]) if len(words) == 1 else None


def _bare(step: str) -> str:
    """Return a word without a year and without "set" or "data" at its end."""
    step = re.sub(r"(19|20)\d\d$", "", step)
    for end in ("set", "data"):
        if step.removesuffix(end) in PARTS:
            return step.removesuffix(end)
    return step


def settle_parts(kinds: Mapping[str, str], where: str) -> dict[str, str | None]:
    """Return the part, "train" or "test", of each word, given its kind, "train", "val" or "test".

    ``val`` is the test part if there is no ``test``, else it joins the training part. If all mean training, the data
    has no parts (None).
    """
    val = "train" if "test" in kinds.values() else "test"
    parts = {word: val if kind == "val" else kind for word, kind in kinds.items()}
    if kinds and "train" not in parts.values():
        raise SlmlpError(
            f"{where} has a test part ({', '.join(sorted(parts))}) but no training part: add train/, name the parts "
            "(--parts train=... test=...), or name the folder inside to use its images without parts"
        )
    return dict(parts) if "test" in parts.values() else dict.fromkeys(parts)


def said(parts: Mapping[str, str | None]) -> list[str]:
    """Return a note where words other than train and test are taken as parts, or several as one part."""
    plain = all(word.strip().lower() in ("train", "training", "test", "testing") for word in parts)
    if plain and len(set(parts.values())) == len(parts):
        return []
    return [f"taken as parts: {', '.join(f'{word} as ' + (part or 'train') for word, part in sorted(parts.items()))}"]


def parts_of_words(words: Iterable[str], named: Sequence[str], where: str) -> dict[str, str | None]:
    """Return the part of each value of a part column, by the user's ``--parts`` where there are any.

    Raises:
        SlmlpError: a value that means no part, or one that ``--parts`` does not name.
    """
    part_of = parse(named)
    values = list(dict.fromkeys(words))
    kinds = {word: part_of.get(word) if part_of else part_kind(word) for word in values}
    unknown = [word for word, kind in kinds.items() if kind is None]
    if unknown and part_of:
        raise SlmlpError(f"{where}: --parts says nothing of {unknown[0]!r}: name every value of the part column")
    if unknown:
        typed = " ".join(f"{kinds[value] or '...'}={value}" for value in values[:SOME])
        raise SlmlpError(
            f"{where}: part must be one of {', '.join(PARTS)}, found {unknown[0]!r}: correct it, or say what each "
            f"value is, --parts {typed}{' ...' * (len(values) > SOME)}"
        )
    missing = sorted(set(part_of) - set(values))
    if missing:
        raise SlmlpError(f"{where}: --parts names {missing[0]!r}, and the values are {', '.join(sorted(values))}")
    return settle_parts({word: kind for word, kind in kinds.items() if kind is not None}, where)


def parse(named: Sequence[str]) -> dict[str, str]:
    """Return folder or value -> "train", "val" or "test", from the words of ``--parts``.

    >>> parse(["train=a/b/", "train=c", "test=d"])
    {'a/b': 'train', 'c': 'train', 'd': 'test'}
    """
    part_of: dict[str, str] = {}
    for word in named:
        kind, equals, folder = word.partition("=")
        if not equals or not folder or kind not in ("train", "val", "test"):
            raise SlmlpError(f"--parts takes train=DIR, val=DIR and test=DIR, found {word!r}")
        folder = posixpath.normpath(folder)
        if part_of.setdefault(folder, kind) != kind:
            raise SlmlpError(f"--parts names {folder} as {part_of[folder]} and as {kind}: it can be one of them")
    if part_of and "train" not in part_of.values():
        raise SlmlpError("--parts names no training part: add train=DIR")
    return part_of
