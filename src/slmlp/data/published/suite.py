"""Find data sets in a folder, list the missing ones of a suite, and open them by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmlp.config import DataOptions
from slmlp.data import ensure_test_part, load
from slmlp.data.dataset import ImageSet
from slmlp.data.published import layouts, opening
from slmlp.data.published.entry import Entry, Torchvision
from slmlp.data.published.listing import is_tar, stem
from slmlp.data.published.registry import ENTRIES, get, known
from slmlp.data.sources import folder, torchvision_sets
from slmlp.runtime.errors import SlmlpError

TEST_SHARE = 0.3  # of each class, for data with neither a test part nor a published protocol
_DEFAULT = DataOptions()


@dataclass(frozen=True)
class FoundDataset:
    """A data set in a folder of data sets."""

    name: str
    path: Path
    entry: Entry | None = None
    """None: the user's own data."""
    problem: str | None = None
    """Why it cannot be opened, in one line."""

    @property
    def metric(self) -> str:
        """The protocol's metric."""
        return "accuracy" if self.entry is None else self.entry.metric


def find(folder: str | Path, options: DataOptions = _DEFAULT) -> list[FoundDataset]:
    """Return the data sets in a folder: each of its folders and tars, by name.

    A folder or tar with the name of an entry, in any common spelling, is that entry; others are the user's own data, in
    class folders. ``problem`` says what is wrong with a layout. Only file names are read, not contents.

    Raises:
        SlmlpError: the folder does not exist, or has no data set.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise SlmlpError(f"--datasets {folder}: expected a folder of data sets, found {_state(root)}")
    children = [p for p in sorted(root.iterdir()) if not p.name.startswith(".") and (p.is_dir() or is_tar(p))]
    if not children:
        raise SlmlpError(f"--datasets {folder} holds no data set: expected folders or tars, one per data set")
    datasets: list[FoundDataset] = []
    for path in children:
        entry = known(stem(path))
        name = stem(path) if entry is None else entry.name
        same = next((other for other in datasets if other.name == name), None)
        problem = None if same is None else f"{path} is the same data set as {same.path}: keep one of them"
        datasets.append(FoundDataset(name, path, entry, problem or _problem(entry, path, options)))
    return datasets


def missing(datasets: Sequence[FoundDataset], suite: str = "islam2021") -> tuple[str, ...]:
    """Return the names of a suite's data sets that are missing from ``datasets``, or cannot be opened."""
    present = {dataset.name for dataset in datasets if dataset.problem is None}
    return tuple(name for name, entry in ENTRIES.items() if entry.suite == suite and name not in present)


def open_found(dataset: FoundDataset, options: DataOptions = _DEFAULT) -> ImageSet:
    """Return the images of a result of ``find``, in the parts of its protocol."""
    if dataset.problem is not None:
        raise SlmlpError(dataset.problem)
    if dataset.entry is not None:
        return opening.open_entry(dataset.entry, dataset.path, options)
    return ensure_test_part(load(str(dataset.path), options), TEST_SHARE, 0)


def open_dataset(name_or_path: str | Path, options: DataOptions = _DEFAULT, root: str | Path | None = None) -> ImageSet:
    """Return the images of a data set in the parts of its protocol.

    A name is looked up in the folder ``root``, or without one among torchvision's downloads. A path (or a name that
    exists as one) is the entry that its last folder is named after, else the user's own data: in its own parts, or with
    a random 30 % of each class as test part.

    Raises:
        SlmlpError: the data cannot be found or opened; one line.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if root is not None:
        dataset = _in_folder(text, Path(root).expanduser())
        if dataset is not None:
            return open_found(dataset, options)
        get(text)
        raise SlmlpError(f"{text} is not in {root}: 'slmlp data get {text}' says where to get it")
    if os.path.lexists(path):
        entry = known(stem(path)) if path.is_dir() or is_tar(path) else None
        return open_found(FoundDataset(stem(path) if entry is None else entry.name, path, entry), options)
    if os.sep in text:
        raise SlmlpError(f"data {text!r} does not exist: expected a folder, a tar, or the name of a data set")
    entry = get(text)
    with contextlib.suppress(layouts.LayoutError):
        downloads = torchvision_sets.folder(options)
        if entry.fetch is not None and entry.fetch.folder:
            downloads /= entry.fetch.folder
        if downloads.is_dir() and (entry.fetch is not None or isinstance(entry.layout, Torchvision)):
            return opening.open_entry(entry, downloads, options)
    raise SlmlpError(
        f"{entry.name} is not here: give its folder, or --datasets and the folder that it is in; 'slmlp data get "
        f"{entry.name}' says where to get it"
    )


def _in_folder(name: str, root: Path) -> FoundDataset | None:
    """Return the data set of this name in a folder, or None; other data sets are not read."""
    if not root.is_dir():
        raise SlmlpError(f"--datasets {root}: expected a folder of data sets, found {_state(root)}")
    entry = known(name)
    for path in sorted(root.iterdir()):
        if path.is_dir() or is_tar(path):
            same = stem(path) == name if entry is None else known(stem(path)) is entry
            if same:
                return FoundDataset(name if entry is None else entry.name, path, entry)
    return None


def _problem(entry: Entry | None, path: Path, options: DataOptions) -> str | None:
    """Return why a data set cannot be opened, judged by file names, or None."""
    try:
        if entry is None:
            (folder.folder if path.is_dir() else folder.tar)(path, str(path), options)
        elif isinstance(entry.layout, Torchvision):
            opening.torchvision_root(entry, entry.layout, path, options)
        else:
            opening.assert_counts(entry, opening.read(entry, path, options)[0].rows, path)
    except SlmlpError as error:
        return str(error)
    except OSError as error:
        return f"cannot read {error.filename or path}: {error.strerror or error}"
    return None


def _state(path: Path) -> str:
    return "a file" if path.exists() else "nothing there"
