"""Folders that commands write into: one process at a time, and nobody else's."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

MARK = ".slmlp"  # in every folder that a command works in: says that it is slmlp's, and is locked meanwhile


@contextlib.contextmanager
def locked(folder: Path, what: str, known_by: str | None = None) -> Iterator[None]:
    """Hold a folder, made where it is missing, for this process alone.

    The mark is the first file written into a folder, so what a killed command left is told from a user's own files.

    Args:
        folder: the folder.
        what: what it holds, for errors: "run", "study".
        known_by: a file of every such folder; one that has other files, but neither it nor the mark, is refused.

    Raises:
        SlmlpError: another process holds the folder, it holds files that are not slmlp's, or it cannot be written.
    """
    mark = folder / MARK
    if known_by is not None and folder.is_dir() and not mark.exists() and not (folder / known_by).exists():
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


TRACKED = (
    "mlflow.db",
    ".mlflow.lock",
    "trackio/*",
    "trackio/*/*",
    "wandb/*",
    "wandb/*/*",
    "wandb/*/*/*",
    "wandb/*/*/*/*",
)  # by trackers, into the folder of a study or of a run of its own
RUN = (
    "config.json", "split.json", "data.json", "unreadable.txt", "metrics.jsonl", "checkpoints/step-*.ckpt",
    "epochs/*.safetensors", "encoder.safetensors", "projector.safetensors", "tensorboard/events.out.tfevents.*",
    "plugin.py", "command.yaml", "trackers.json", *TRACKED,
    "cache/pixels-*.npy", "cache/pixels-*.json",
)  # fmt: skip
STUDY = (
    *TRACKED, "owner.json", "split.json", "inner-split.json", "data.json", "unreadable.txt", "results.jsonl",
    "predictions/*/*.csv", "verdict.json", "tsne.json", "thumbnails.webp", "where.json", "where.webp", "study.json",
    "report.html", "plan.json", "command.yaml", "cache/pixels-*.npy", "cache/pixels-*.json", "cache/features/*",
    *(f"runs/*/{name}" for name in (*RUN, MARK)),
)  # fmt: skip


def written(folder: Path, own: Sequence[str], what: str) -> list[Path]:
    """Return the files that slmlp wrote into a folder, all but the mark and the cache, which are used again.

    Args:
        folder: the folder.
        own: patterns of the files' names below it: ``RUN``, ``STUDY``.
        what: what it holds, for errors.

    Raises:
        SlmlpError: it holds a file that is not slmlp's, or a link.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        unfinished = path.name.startswith(".") and path.name.endswith(".tmp")  # of a write that was killed
        if path.is_symlink() or not (name == MARK or unfinished or any(_matches(name, pattern) for pattern in own)):
            raise SlmlpError(
                f"{folder} holds {name}, which no {what} of slmlp wrote, so nothing there is removed; move it away, or "
                "choose another --out"
            )
        if name != MARK and not name.startswith("cache/"):
            found.append(path)
    return found


def remove(folder: Path, paths: Sequence[Path]) -> None:
    """Remove files of a folder, and the folders in it that are empty then."""
    with files.writing(folder):
        for path in paths:
            path.unlink(missing_ok=True)
        for parent in sorted({parent for path in paths for parent in path.parents if folder in parent.parents})[::-1]:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()


def _matches(name: str, pattern: str) -> bool:
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))
