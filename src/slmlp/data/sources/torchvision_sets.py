"""Read torchvision's classification data sets, ``torchvision:NAME``, into a ``Table``.

torchvision is imported on use, because it is slow to import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slmlp.config import DataOptions
from slmlp.config.sources import TORCHVISION
from slmlp.data.readers import ArrayReader, FileReader
from slmlp.data.sources import manifest
from slmlp.data.sources.arrays import row_table
from slmlp.data.sources.row import Row
from slmlp.data.sources.table import Table
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import short

PREFIX = TORCHVISION
Settings = tuple[dict[str, Any], ...]
Parts = tuple[Settings, Settings]


@dataclass(frozen=True)
class Spec:
    """How to open and read one data set."""

    at: str  # path of its files below torchvision's root
    read: Callable[[Any], tuple[Any, Iterable[Any]]]  # data set -> (array or paths of images, labels)
    train: Settings  # arguments of the constructor, per call
    test: Settings  # empty where the set has no test part
    named: bool = True  # whether ``classes`` has the names of the labels
    axes: tuple[int, ...] | None = None  # permutation of the array's axes to (N, H, W[, C])


def _fields(images: str, labels: str) -> Callable[[Any], tuple[Any, Iterable[Any]]]:
    return lambda data: (getattr(data, images), getattr(data, labels))


def _pairs(samples: str) -> Callable[[Any], tuple[Any, Iterable[Any]]]:
    return lambda data: ([path for path, _ in getattr(data, samples)], [label for _, label in getattr(data, samples)])


def _caltech101(data: Any) -> tuple[Any, Iterable[Any]]:
    folders = [Path(data.root) / "101_ObjectCategories" / data.categories[y] for y in data.y]
    data.classes = data.categories
    return [folder / f"image_{i:04d}.jpg" for folder, i in zip(folders, data.index, strict=True)], data.y


def _caltech256(data: Any) -> tuple[Any, Iterable[Any]]:
    folders = [Path(data.root) / "256_ObjectCategories" / data.categories[y] for y in data.y]
    data.classes = data.categories
    names = [f"{y + 1:03d}_{i:04d}.jpg" for y, i in zip(data.y, data.index, strict=True)]
    return [folder / name for folder, name in zip(folders, names, strict=True)], data.y


_ARRAY, _FILES = _fields("data", "targets"), _fields("_image_files", "_labels")
# (train, test): arguments of the constructor calls of each part
_SPLIT: Parts = (({"split": "train"},), ({"split": "test"},))
_FLAG: Parts = (({"train": True},), ({"train": False},))
_BALANCED: Parts = (({"split": "balanced", "train": True},), ({"split": "balanced", "train": False},))
_VAL_TOO: Parts = (({"split": "train"}, {"split": "val"}), ({"split": "test"},))
_VALID_TOO: Parts = (({"split": "train"}, {"split": "valid"}), ({"split": "test"},))
_VAL_ONLY: Parts = (({"split": "train"},), ({"split": "val"},))
_TRAINVAL: Parts = (({"split": "trainval"},), ({"split": "test"},))
_ALONE: Parts = (({},), ())

SETS: dict[str, Spec] = {
    "CIFAR10": Spec("cifar-10-batches-py/", _ARRAY, *_FLAG),
    "CIFAR100": Spec("cifar-100-python/", _ARRAY, *_FLAG),
    "Caltech101": Spec("caltech101/101_ObjectCategories/", _caltech101, *_ALONE),
    "Caltech256": Spec("caltech256/256_ObjectCategories/", _caltech256, *_ALONE),
    "Country211": Spec("country211/", _pairs("samples"), *_VALID_TOO),
    "DTD": Spec("dtd/dtd/", _FILES, *_VAL_TOO),
    "EMNIST": Spec("EMNIST/raw/", _ARRAY, *_BALANCED, axes=(0, 2, 1)),  # its files hold the letters mirrored
    "EuroSAT": Spec("eurosat/2750/", _pairs("samples"), *_ALONE),
    "FGVCAircraft": Spec("fgvc-aircraft-2013b/", _FILES, *_TRAINVAL),
    "FashionMNIST": Spec("FashionMNIST/raw/", _ARRAY, *_FLAG),
    "Flowers102": Spec("flowers-102/", _FILES, *_VAL_TOO),
    "Food101": Spec("food-101/", _FILES, *_SPLIT),
    "GTSRB": Spec("gtsrb/", _pairs("_samples"), *_SPLIT, named=False),
    "Imagenette": Spec("imagenette2/", _pairs("_samples"), *_VAL_ONLY),
    "KMNIST": Spec("KMNIST/raw/", _ARRAY, *_FLAG),
    "MNIST": Spec("MNIST/raw/", _ARRAY, *_FLAG),
    "OxfordIIITPet": Spec("oxford-iiit-pet/", _fields("_images", "_labels"), *_TRAINVAL),
    "RenderedSST2": Spec("rendered-sst2/", _pairs("_samples"), *_VAL_TOO),
    "STL10": Spec("stl10_binary/", _fields("data", "labels"), *_SPLIT, axes=(0, 2, 3, 1)),
    "SUN397": Spec("SUN397/", _FILES, *_ALONE),
    "SVHN": Spec("*_32x32.mat", _fields("data", "labels"), *_SPLIT, named=False, axes=(0, 2, 3, 1)),
    "StanfordCars": Spec("stanford_cars/", _pairs("_samples"), *_SPLIT),
    "USPS": Spec("usps.bz2 and usps.t.bz2", _ARRAY, *_FLAG, named=False),
}


def load(source: str, options: DataOptions, root: Path | None = None) -> Table:
    """Return the images of ``torchvision:NAME``, downloaded on first use; with ``root`` they must be there already."""
    word = source.removeprefix(PREFIX)
    name = next((known for known in SETS if known.lower() == word.lower()), None)
    if name is None:
        raise unknown("torchvision data set", word, SETS)
    fetch = root is None
    root = root or folder(options)
    spec = SETS[name]
    constructor = getattr(importlib.import_module("torchvision.datasets"), name)
    images: list[Any] = []
    labels: list[str] = []
    parts: list[str | None] = []
    ids: list[str] = []  # for arrays, which have one call per part
    for part, calls in (("train", spec.train), ("test", spec.test)):
        for settings in calls:
            data = _open(constructor, name, root, settings, fetch=fetch)
            batch, numbers = spec.read(data)
            labels += [_name(data.classes[int(y)]) if spec.named else str(int(y)) for y in numbers]
            images.append(batch)
            ids += [f"{part}/{i:06d}" for i in range(len(batch))]
            parts += [part if spec.test else None] * len(batch)
    if isinstance(images[0], list):
        return _of_files(name, source, root, [path for paths in images for path in paths], labels, parts)
    x = np.concatenate([np.asarray(batch, dtype=np.uint8) for batch in images])
    x = x if spec.axes is None else np.ascontiguousarray(x.transpose(spec.axes))
    reader = ArrayReader(x)
    return Table(name, source, row_table(ids, labels, x, parts), reader, reader.fingerprint())


def folder(options: DataOptions) -> Path:
    """Return the folder of torchvision's downloads."""
    parent = Path("~/.cache/slmlp") if options.cache_dir is None else Path(options.cache_dir)
    return parent.expanduser().resolve() / "torchvision"


def _open(constructor: Any, name: str, root: Path, settings: dict[str, Any], *, fetch: bool) -> Any:
    try:
        return constructor(root, **settings)
    except Exception as error:  # torchvision raises many types for missing files; download them next
        missing = error
    if not fetch:
        raise SlmlpError(
            f"torchvision cannot read {name} ({short(f'{type(missing).__name__}: {missing}')}): its "
            "files are damaged or not the published ones; unpack the published archive again"
        ) from missing
    try:
        return constructor(root, **settings, download=True)
    except Exception as error:
        reason = short(f"{type(error).__name__}: {error}")
        raise SlmlpError(
            f"{PREFIX}{name} is not in {root} ({short(missing, 80)}) and cannot be downloaded "
            f"({reason:.200}): connect to the network, or put its unpacked files there by hand, as {SETS[name].at}"
        ) from error


def _name(name: Any) -> str:
    """Return a class name; the first of Imagenette's tuple of synonyms."""
    return str(name[0] if isinstance(name, tuple) else name)


def _of_files(
    name: str, source: str, root: Path, paths: list[Any], labels: list[str], parts: list[str | None]
) -> Table:
    locate = manifest.in_folder(root)
    located = [locate(str(path)) for path in paths]
    rows = [Row(f.id, y, f.size, part, problem=f.problem) for f, y, part in zip(located, labels, parts, strict=True)]
    stamps = files.sha256("\n".join(file.stamp for file in located).encode())
    return Table(name, source, rows, FileReader(root, [file.id for file in located]), stamps)
