"""Write several files that appear together or not at all, and never replace others."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from slmlp.runtime.errors import SlmlpError


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside ``out``, removed afterwards with what is left in it."""
    folder = out.parent / f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise SlmlpError(
            f"cannot write {out}: {error.strerror or error}; free space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_free(paths: Sequence[Path]) -> None:
    """Raise SlmlpError if one of the paths exists."""
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing:
        raise SlmlpError(
            f"{', '.join(existing)} exists already and is not overwritten; choose another --out, or remove it"
        )


def place(paths: Sequence[Path], folder: Path) -> None:
    """Move finished files and folders, the main one last, into ``folder``; all of them, or none.

    Each file is flushed to disk first. Files are moved by a hard link, which fails if the name exists.
    """
    for path in paths:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
    check_free([folder / path.name for path in paths])
    placed: list[Path] = []
    try:
        for path in paths:
            target = folder / path.name
            _move(path, target)
            placed.append(target)
    except BaseException as error:
        for target in placed:
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise SlmlpError(
                f"{error.filename2 or error.filename} exists already and is not overwritten; choose another --out"
            ) from error
        raise


def _move(path: Path, target: Path) -> None:
    if path.is_file():
        try:
            os.link(path, target)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            check_free([target])
    path.rename(target)
