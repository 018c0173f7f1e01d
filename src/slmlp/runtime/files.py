"""Write files safely: atomic replacement, hashes. JSON: see ``json_files``."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmlp.runtime import progress
from slmlp.runtime.errors import SlmlpError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; on success it is flushed to disk and renamed to ``path``.

    Readers see the old file or the new one. On an error the temporary file is removed; an ``OSError`` (a full disk, no
    permission) becomes an SlmlpError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        progress.detail(f"wrote {path}")
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` (a full disk, no permission), which may name no file, into an SlmlpError with ``path``."""
    try:
        yield
    except OSError as error:
        raise SlmlpError(
            f"cannot write {path}: {error.strerror or error}; {remedy(error)}, then run the same command again: "
            "finished results are kept"
        ) from error


def check_name(path: Path, what: str, ends: Sequence[str] = (), *, folder: bool = False) -> None:
    """Raise SlmlpError where ``--out`` cannot be the new file, or folder, that ``what`` writes.

    That is an old folder, ``.`` and ``/`` among them, or a file that ends otherwise than in one of ``ends``.
    """
    if path.is_dir() and not (folder and path.name):  # an old folder with a name exists already, and is told so
        new, name = ("folder", "NAME") if folder else ("file", f"NAME{ends[0] if ends else ''}")
        raise SlmlpError(f"--out {path} is a folder that exists: {what} writes a new {new}, as --out {path / name}")
    if ends and path.suffix not in ends:
        raise SlmlpError(f"--out {path}: {what} writes a file that ends in {' or '.join(ends)}")


def remedy(error: OSError) -> str:
    """Return what to do about a file that cannot be written."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return "a file is where a folder must be, or a folder where a file must: choose another --out"
    forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return f"{'make it writable' if forbidden else 'free space'} or choose another --out"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors on the CPU as safetensors, atomically.

    safetensors' own ``save_file`` raises its own error type for a full disk.
    """
    from safetensors.torch import save

    write_bytes(path, save(dict(tensors), metadata=dict(metadata)))


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_room(place: Path, needed: int, what: str, fix: str = "choose another folder") -> None:
    """Raise SlmlpError if the disk of folder ``place``, which need not exist, has less than ``needed`` bytes free."""
    free = shutil.disk_usage(existing(place)).free
    if needed > free:
        raise SlmlpError(f"{place}: {what} need {size(needed)}, and {size(free)} are free there; free space, or {fix}")


def chunks(path: Path, size: int = 1 << 24) -> Iterator[bytes]:
    """Yield the content of a file, ``size`` bytes at a time."""
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


def size(count: int) -> str:
    """Return a number of bytes as people read it.

    >>> size(812), size(3_100_000), size(5_240_000_000)
    ('812 bytes', '3.1 MB', '5.24 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.3g} {unit}"
    return f"{count:,} bytes"


def sha256(content: bytes | Iterable[bytes]) -> str:
    """Return the hexadecimal SHA-256 of bytes or of chunks of bytes."""
    digest = hashlib.sha256()
    for chunk in [content] if isinstance(content, bytes) else content:
        digest.update(chunk)
    return digest.hexdigest()


def hash_names(names: Iterable[str]) -> str:
    """Return the SHA-256 of the sorted names joined by newlines, without a final one (the form class lists use)."""
    return sha256("\n".join(sorted(names)).encode())


def contradicts(one: str | None, other: str | None) -> bool:
    """Return whether two marks ``WHAT:CONTENT`` are of one thing and of two contents; empty ones are of nothing."""
    (what, _, content), (what_else, _, else_) = (str(mark or "").partition(":") for mark in (one, other))
    return bool(content and else_) and what == what_else and content != else_


def canonical(content: Any) -> str:
    """Return a JSON value in its canonical one-line form: sorted keys, no spaces, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def hash_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value in its canonical form."""
    return sha256(canonical(content).encode())


def as_json(content: Any) -> Any:
    """Return a value after a JSON round trip: tuples become lists, integer keys strings."""
    return json.loads(json.dumps(content))
