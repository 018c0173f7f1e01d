"""Folders that commands write into: one process at a time, and nobody else's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

MARK = ".slmlp"  # in every folder that a command works in: says that it is slmlp's, and is locked meanwhile


@contextlib.contextmanager
def locked(folder: Path, what: str, proof: str | None = None) -> Iterator[None]:
    """Hold a folder, made where it is missing, for this process alone.

    The mark is the first file written into a folder, so what a killed command left is told from a user's own files.

    Args:
        folder: the folder.
        what: what it holds, for errors: "run", "study".
        proof: a file that every such folder holds; one that has other files, but neither it nor the mark, is refused.

    Raises:
        SlmlpError: another process holds the folder, it holds files that are not slmlp's, or it cannot be written.
    """
    mark = folder / MARK
    if proof is not None and folder.is_dir() and not mark.exists() and not (folder / proof).exists():
        foreign = sorted(path.name for path in folder.iterdir() if path.name != "cache")
        if foreign:
            raise SlmlpError(
                f"{folder} is not empty and holds no {what} of slmlp (it holds {foreign[0]}); choose another --out"
            )
    with contextlib.ExitStack() as opened:
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # unbuffered: closing has nothing left to write, which a full disk would refuse again
            file = opened.enter_context(mark.open("ab+", buffering=0))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip() or "another process"
            raise SlmlpError(
                f"{folder} is in use by another command ({owner}): wait until it ends, or stop it"
            ) from None
        with files.writing(mark):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder may have been removed meanwhile
                if [path.name for path in folder.iterdir()] == [MARK]:  # refused before anything was written
                    mark.unlink()
                    folder.rmdir()
