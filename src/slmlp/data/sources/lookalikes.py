"""Folders that look like classes and are none: a system's own, masks beside their pictures, parts under other names."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from slmlp.data.sources.parts import HINTS, part_kind

# what file servers, archivers and desktops put between other people's folders: thumbnails, deleted files, copies
SYSTEM = frozenset(
    ["__macosx", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
     "system volume information", "lost+found", "found.000", "__pycache__"]
)  # fmt: skip
_PICTURES = frozenset(["image", "images", "img", "imgs", "jpegimages", "pictures", "photos", "original", "originals"])
_DRAWN = frozenset(
    ["mask", "masks", "annotation", "annotations", "trimap", "trimaps", "segmentation", "segmentations", "label",
     "labels", "segmentationclass", "segmentationobject", "gt", "groundtruth"]
)  # fmt: skip


@functools.lru_cache(maxsize=4096)
def of_system(folder: str) -> bool:
    """Return whether a folder or one above it is of no data set: hidden, or put there by a system."""
    return any(step.startswith(".") or step.lower() in SYSTEM for step in folder.split("/"))


def masks_beside_pictures(folders: Iterable[str]) -> tuple[str, str] | None:
    """Return a folder of pictures and the one beside it of what is drawn on them, among folders of images; else None.

    >>> masks_beside_pictures(["covid/images", "covid/masks", "normal/images"])
    ('covid/images', 'covid/masks')
    """
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for folder in set(folders):
        steps = folder.split("/")
        for depth, step in enumerate(steps):
            beside["/".join(steps[:depth])].add(step)
    for above, names in sorted(beside.items()):
        pictures, drawn = ([n for n in sorted(names) if _plain(n) in words] for words in (_PICTURES, _DRAWN))
        if pictures and drawn:
            return "/".join(filter(None, (above, pictures[0]))), "/".join(filter(None, (above, drawn[0])))
    return None


def hidden_parts(tops: Iterable[str]) -> dict[str, str]:
    """Return top folder -> part where a word inside the names tells training from test, as seg_train; else none.

    >>> hidden_parts(["seg_pred", "seg_test", "seg_train"]), hidden_parts(["train_station", "bus_stop"])
    ({'seg_test': 'test', 'seg_train': 'train'}, {})
    """
    kinds = {top: kind for top in sorted(tops) if (kind := word_kind(top))}
    return kinds if "train" in kinds.values() and len(set(kinds.values())) > 1 else {}


def word_kind(name: str) -> str | None:
    """Return the part that a word of a name means: ``set1_train``, ``TestA``, ``test1``."""
    return next(filter(None, (part_kind(word, HINTS) for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name))), None)


def where_classes_begin(top: str, paths: Iterable[Sequence[str]]) -> str:
    """Return the folder inside ``top`` that holds the classes: below folders that are alone at their level.

    >>> where_classes_begin("train", [["train", "data", "cat", "1.jpg"], ["train", "data", "dog", "1.jpg"]])
    'train/data'
    """
    inside = [steps for steps in paths if steps[0] == top]
    depth = 1
    while len({steps[depth] for steps in inside}) == 1 and all(len(steps) > depth + 2 for steps in inside):
        depth += 1
    return "/".join(inside[0][:depth]) if inside else top


def below_wrappers(inside: Mapping[str, set[str]], paths: Sequence[Sequence[str]]) -> dict[str, set[str]]:
    """Return top folder -> the folders in it, behind a single one of the same name that all of them have.

    ``amazon/images/bike`` and ``dslr/images/bike`` share bike; ``cat/images`` and ``dog/images`` share nothing more.
    """
    names = {name for folders in inside.values() for name in folders}
    if len(names) > 1 or not all(len(steps) > 3 for steps in paths):
        return dict(inside)
    deeper: dict[str, set[str]] = {top: set() for top in inside}
    for steps in paths:
        deeper[steps[0]].add(steps[2])
    return below_wrappers(deeper, [(steps[0], *steps[2:]) for steps in paths])


def shared(inside: Mapping[str, set[str]]) -> set[str]:
    """Return the folders that top folders share where that makes them look like parts, else none.

    One that all have, as ``cat/images`` and ``dog/images``, is no sign. Two or more are, where they are at least half
    of what lies in two of the top folders: the third of three folds may lack a class.
    """
    counts = Counter(name for folders in inside.values() for name in folders)
    common = {name for name, n in counts.items() if n > 1}
    alike = [folders & common for folders in inside.values() if 1 < len(folders & common) >= len(folders) / 2]
    return set().union(*alike) if len(alike) > 1 else set()


def two_readings(parts: Mapping[str, str], others: Sequence[str], paths: Sequence[Sequence[str]] = ()) -> str:
    """Return what to type where folders are parts, and where they are classes.

    >>> two_readings({}, ["set1_test", "set1_train"])
    '--parts train=set1_train test=set1_test where they are parts, --parts train=. where all are classes'
    """
    names = {part: top for top, part in sorted(parts.items())}
    # a word of the name may tell: set1_train, TestA
    told = {top: word_kind(top) for top in others}
    for part in ("train", "test"):
        if part not in names and (left := sorted(set(others) - set(names.values()))):
            # the one that says so, else one that says nothing
            names[part] = min((told[top] != part, told[top] is not None, top) for top in left)[2]
    ordered = [(part, names[part]) for part in ("train", "val", "test") if part in names]
    words = " ".join(typed(part, where_classes_begin(top, paths)) for part, top in ordered)
    return f"--parts {words} where they are parts, --parts train=. where all are classes"


def typed(part: str, folder: str) -> str:
    return f"{part}={folder!r}" if " " in folder else f"{part}={folder}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
