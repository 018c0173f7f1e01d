"""Which study a folder holds: the same goes on, one that nothing was trained for is taken over, another is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from slmlp import config
from slmlp.config import adapt
from slmlp.config.flags import differing, some
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import classes as concepts
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime import files, folders, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.train.run import Run

FLAT = ("training", "data")  # groups of settings whose flags have no prefix


class Owner(TypedDict):
    """The content of owner.json: what a study's folder belongs to."""

    schema: int
    data: str
    source_hash: str
    settings: dict[str, Any]
    pixels: NotRequired[str]  # the mark of the decoded images, where they are cached
    chosen: NotRequired[dict[str, str]]  # setting that nobody gave -> value and reason


@dataclass(frozen=True)
class Place:
    """A folder, the study that it holds already, and what must be removed before another one begins there."""

    folder: Path
    owner: Owner | None
    remove: list[Path] | None = None

    @property
    def split(self) -> Path | None:
        """The split file of the study that goes on here."""
        file = self.folder / "split.json"
        return file if self.remove is None and file.exists() else None


def find(folder: Path, cfg: config.Study, images: ImageSet, *, overwrite: bool) -> Place:
    """Return the place for a study with these settings; nothing is written or removed yet.

    Raises:
        SlmlpError: the folder holds another study whose runs are worth keeping, or files that are not slmlp's.
    """
    file = folder / "owner.json"
    if not file.exists():
        return Place(folder, None)
    owner = json_files.read(file, Owner)
    found = _differing(folder, owner, cfg, images)
    if not found and not overwrite:
        return Place(folder, owner)
    if not overwrite and any(Run(path).worth_keeping for path in (folder / "runs").glob("*")):
        raise SlmlpError(
            f"{folder} holds another study: {some(found)}; give those settings to go on with it, choose another --out, "
            "or --overwrite it"
        )
    return Place(folder, None, folders.written(folder, folders.STUDY, "study"))


def _differing(folder: Path, owner: Owner, cfg: config.Study, images: ImageSet) -> list[str]:
    """Return in words what tells the study of a folder from this one."""
    training = adapt.as_before(cfg.training, owner["settings"]["training"])
    mine = files.as_json(identity(dataclasses.replace(cfg, training=training)))
    found = differing(owner["settings"], mine, FLAT)
    split = folder / "split.json"
    if found or not split.exists():
        return found
    held = ConceptSplit.load(split)
    try:
        same = concepts.apply(held, images).hash() == owner["data"]
    except SlmlpError:  # classes are gone
        same = False
    if not same:
        found.append(f"its images are others than {images.source} holds now")
    if held.source_hash != owner["source_hash"]:
        found.append("split.json holds other source classes")
    return found


def claim(
    place: Place, cfg: config.Study, images: ImageSet, split: ConceptSplit, chosen: Mapping[str, str], pixels: str
) -> dict[str, str]:
    """Record the study that a folder belongs to, and what was ``chosen`` for it; return that, or what was once.

    Another that nothing was trained for is removed. ``pixels`` is the mark of the decoded images.

    Raises:
        SlmlpError: the study was begun with other pixels under the same names and sizes.
    """
    if place.remove is not None:
        folders.remove(place.folder, place.remove)
        say(f"{place.folder}: the study that was begun there with other settings is removed")
    if place.owner is not None:
        if files.contradicts(place.owner.get("pixels"), pixels):
            raise SlmlpError(
                f"{place.folder} holds a study of other images than {images.source} holds now (the same names and "
                "sizes, other pixels); restore those, choose another --out, or --overwrite it"
            )
        return place.owner.get("chosen", {})
    owner = {"schema": 1, "data": images.hash(), "source_hash": split.source_hash, "settings": identity(cfg)}
    if pixels:
        owner["pixels"] = pixels
    json_files.write(place.folder / "owner.json", files.as_json({**owner, "chosen": dict(chosen)}), seal=True)
    return dict(chosen)


def identity(cfg: config.Study) -> dict[str, Any]:
    """Return the settings that must not change when a study goes on; methods, seeds and tasks may be added."""
    values = dataclasses.asdict(cfg) | {"rates": cfg.grid}
    for key in (
        "methods", "vary", "seeds", "curve_seeds", "layer_seeds", "parallel", "tasks", "name", "knn", "retrieval",
        "novelty",
    ):  # fmt: skip
        values.pop(key)
    if cfg.select == "source":  # which is as before the setting was there
        values.pop("select")
    values["training"] = config.identity(cfg.training)
    for key in ("threads", "device", "checkpoint_minutes", "track"):
        values["training"].pop(key)
    values["probe"].pop("memory_limit_gb")
    for key in ("memory_limit_gb", "device_memory_gb", "stream_above_gb", "workers", "cache_dir", "label_separator"):
        values["data"].pop(key)
    return values
