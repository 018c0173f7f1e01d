"""Download data sets that torchvision has a checksum for, where the licence allows it."""

from __future__ import annotations

import contextlib
import importlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slmlp.config import DataOptions
from slmlp.data.published import opening
from slmlp.data.published.entry import Entry
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

_ARCHIVES = (".zip", ".tgz", ".tar.gz", ".gz", ".mat")


def by_hand(entry: Entry, parent: Path) -> str:
    """Return instructions for a download by hand."""
    return (
        f"{entry.name} has no direct download that slmlp may use (licence: {entry.licence}).\n"
        f"  get it from   {entry.where}\n"
        f"  unpack it to  {parent / entry.name}, so that there is {entry.on_disk}\n"
        f"  then          slmlp data check {entry.name} {parent / entry.name}"
    )


def fetch(entry: Entry, parent: Path, options: DataOptions, *, accept_terms: bool = False) -> Path:
    """Download an entry into ``parent``/NAME and return that folder; existing data is not changed.

    Files go to a hidden folder, which is renamed when all counts are right. An interrupted download resumes after the
    last complete archive.

    Raises:
        SlmlpError: the download fails, or its terms are not accepted; one line.
    """
    if entry.fetch is None:
        raise SlmlpError(f"{entry.name} has no direct download that slmlp may use: get it by hand from {entry.where}")
    target, partial = parent / entry.name, parent / f".{entry.name}.partial"
    if os.path.lexists(target):
        opening.open_entry(entry, target, options)
        return target
    if entry.fetch.terms and not accept_terms:
        raise SlmlpError(
            f"the terms of {entry.name}: {entry.fetch.terms} ({entry.where}); pass --accept-terms if you agree to them"
        )
    constructor = getattr(importlib.import_module("torchvision.datasets"), entry.fetch.name)
    partial.mkdir(parents=True, exist_ok=True)
    _clear(partial, () if entry.fetch.again else _ARCHIVES)
    try:
        with safe_tar():
            for settings in entry.fetch.calls:
                constructor(partial, **settings, download=True)
    except Exception as error:  # torchvision raises many types when the network fails
        reason = short(f"{type(error).__name__}: {error}")
        raise SlmlpError(
            f"{entry.name} cannot be downloaded ({reason:.200}): run the same command again, which keeps the "
            f"complete archives, or get it by hand from {entry.where}"
        ) from error
    opening.open_entry(entry, partial, options)
    partial.rename(target)
    return target


@contextlib.contextmanager
def safe_tar() -> Iterator[None]:
    """Make torchvision reject archive members outside the target folder (see pytorch/vision#9517)."""
    if hasattr(tarfile, "data_filter"):
        name, safe = "extraction_filter", staticmethod(tarfile.data_filter)
    else:  # Python before 3.11.4, as Debian 12 has it
        name, safe = "extractall", _inside_only(tarfile.TarFile.extractall)
    before = vars(tarfile.TarFile)[name]
    setattr(tarfile.TarFile, name, safe)
    try:
        yield
    finally:
        setattr(tarfile.TarFile, name, before)


def _inside_only(extractall: Callable[..., None]) -> Any:
    """Return ``extractall`` that accepts only plain files and folders below the target; links could lead outside."""

    def checked(tar: tarfile.TarFile, path: str | Path = ".", *args: Any, **more: Any) -> None:
        home = Path(path).resolve()
        for member in tar.getmembers():
            inside = (home / member.name).resolve().is_relative_to(home)
            if not inside or not (member.isfile() or member.isdir()):
                raise tarfile.ExtractError(f"{member.name!r} leads out of the folder, or is no plain file")
        extractall(tar, path, *args, **more)

    return checked


def _clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Remove files unpacked by an interrupted run: torchvision takes an existing folder for a complete data set.

    Archives stay; torchvision repeats the download of those with a wrong checksum.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif not path.name.lower().endswith(keep):
            path.unlink()
