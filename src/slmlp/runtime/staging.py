"""Write several files that appear together or not at all, and never replace others."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

LOCK = ".lock"  # in the hidden folder: held while its command works


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside ``out``, removed afterwards with what is left in it.

    What an earlier command for ``out`` left when it was killed is removed first.

    Raises:
        SlmlpError: another command is writing ``out``, or the disk refuses.
    """
    clear(out)
    folder = out.parent / f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True)
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    except OSError as error:
        raise SlmlpError(f"cannot write {out}: {error.strerror or error}; {files.remedy(error)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(out: Path) -> None:
    """Remove what killed commands left: their hidden folders, and files that they placed without the main one."""
    for folder in sorted(out.parent.glob(f".{glob.escape(out.name)}.*.tmp")) if out.parent.is_dir() else ():
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _same(folder / out.name, out):
                    for file in folder.iterdir():
                        placed = out.parent / file.name
                        if file.is_file() and _same(file, placed):
                            placed.unlink()
        except BlockingIOError:
            raise SlmlpError(f"another command is writing {out}: wait until it ends, or choose another --out") from None
        except OSError:
            continue  # no folder of ours, or another's to remove
        shutil.rmtree(folder, ignore_errors=True)


def _same(one: Path, other: Path) -> bool:
    """Return whether two names are links to one file."""
    return one.exists() and other.exists() and one.samefile(other)


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
        for target in placed:
            target.lstat()  # a folder that somebody removes meanwhile took those that were placed first
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
