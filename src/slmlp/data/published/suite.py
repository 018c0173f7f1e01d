"""Find data sets in a folder, list the missing ones of a suite, and open them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmlp.config import DataOptions
from slmlp.data import ensure_test_part, load
from slmlp.data.dataset import ImageSet
from slmlp.data.published import opening
from slmlp.data.published.entry import Entry, Torchvision
from slmlp.data.published.listing import is_tar
from slmlp.data.published.registry import ENTRIES, known
from slmlp.data.sources import folder
from slmlp.data.sources.folder import stem
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
        there = "a file" if root.exists() else "nothing there"
        raise SlmlpError(f"--datasets {folder}: expected a folder of data sets, found {there}")
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
