"""Index a tar archive by (name, offset, size), to read members in place without extraction."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from slmlp.config import DataOptions
from slmlp.data.readers import stamp
from slmlp.data.scratch import scratch
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import track

_PACKED: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class _Header(tarfile.TarInfo):
    """Parses only name and size of a regular file's header, in a third of the time; tarfile parses all others."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the member whose header is this block of 512 bytes."""
        plain = len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE and not buf[345]
        size, checksum = _octal(buf[124:136]), _octal(buf[148:156])
        if not plain or size < 0 or sum(buf) - sum(buf[148:156]) + 8 * ord(" ") != checksum:
            return super().frombuf(buf, encoding, errors)
        header = cls(bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors))
        header.size = size
        return header


def _octal(field: bytes | bytearray) -> int:
    """Return the value of an octal header field, negative if it has another format."""
    try:
        return int(bytes(field).partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return -1


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str  # normalised: "./a//b" is "a/b"
    offset: int  # bytes from the start of the tar to its content
    size: int  # bytes


def plain(path: Path, options: DataOptions) -> Path:
    """Return ``path``, or if it is compressed, the path of a decompressed copy in the cache folder.

    The copy's name depends on path, size and modification time, so a changed archive is decompressed again.
    """
    with path.open("rb") as file:
        start = file.read(6)
    opened = next((opener for magic, opener in _PACKED.items() if start.startswith(magic)), None)
    if opened is None:
        return path
    key = files.sha256(f"{path.resolve()}\t{stamp(path)}".encode())[:16]
    copy = scratch(options) / "unpacked" / f"{key}.tar"
    if not copy.exists():
        with opened(path) as source, files.atomic(copy) as temporary, temporary.open("wb") as target:
            while chunk := _read(source, path):
                target.write(chunk)
    return copy


def _read(source: io.BufferedIOBase, path: Path) -> bytes:
    try:
        return source.read(1 << 20)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SlmlpError(f"{path} is broken ({error}): download or pack it again") from error


def index(path: Path, archive: Path) -> tuple[list[Member], list[tuple[str, str]]]:
    """Return the files of an uncompressed tar, and (name, reason) of rejected members.

    Absolute names, names with ``..``, links, devices and sparse files are rejected. ``archive`` is named in errors.
    """
    members: dict[str, Member] = {}
    rejected: list[tuple[str, str]] = []
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            for member in track(tar, None, f"indexing {archive.name}"):
                reason = _rejection(member)
                name = printable(posixpath.normpath(member.name))
                if reason:
                    rejected.append((printable(member.name), reason))
                elif member.isfile():
                    if members.pop(name, None):
                        rejected.append((name, "replaced by a later file of the same name"))
                    members[name] = Member(name, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined] # saves memory: tarfile stores every member
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SlmlpError(f"{archive} is no tar, or a broken one ({error}): download or pack it again") from error
    # tarfile takes a damaged or truncated header for the end; a complete tar ends in blocks of zeros
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise SlmlpError(
                f"{archive} is cut off or damaged at byte {end:,} of {size:,}, after {len(members):,} files: download "
                "or pack it again"
            )
    return list(members.values()), rejected


def _rejection(member: tarfile.TarInfo) -> str | None:
    if member.name.startswith("/"):
        return "refused: absolute path in an archive"
    if ".." in member.name.split("/"):
        return "refused: path with .. in an archive"
    if member.issym() or member.islnk():
        return "refused: link in an archive"
    if member.issparse() or not (member.isfile() or member.isdir()):
        return "refused: device or special file in an archive"
    return None


def printable(name: str) -> str:
    """Return a name with non-UTF-8 bytes escaped, so that it can be printed and hashed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
