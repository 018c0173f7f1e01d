"""Read the file names and sizes of a folder, tar or manifest into a ``Table``; nothing is decoded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from slmlp.config import DataOptions
from slmlp.data.readers import FileReader, TarReader, stamp
from slmlp.data.sources import archive, layout, lookalikes, manifest, missing, parts
from slmlp.data.sources.row import Row
from slmlp.data.sources.table import Problems, Table
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import track

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class File(NamedTuple):
    """A regular file below the root of a folder."""

    name: str  # POSIX, below the root
    size: int
    stamp: str
    problem: str | None = None  # why it cannot be read


def folder(path: Path, source: str, options: DataOptions) -> Table:
    """Return the images of a folder of class folders, or of the manifest at its root."""
    root = path.resolve()
    at_root = _manifests([file.name for file in root.iterdir() if file.is_file()], "", source)
    if at_root:
        return from_manifest(root / at_root, source, options, root.name)
    special: list[tuple[str, str]] = []
    entries = list(track(walk(root, special), None, f"listing {root.name}"))
    names = [file.name for file in entries]
    wrapped = _wrapped_manifest(names, source)
    if wrapped:
        return from_manifest(root / wrapped, source, options, root.name)
    told = {_below(root, name): part for name, part in parts.parse(options.parts).items()}
    placed, ignored, notes = layout.arrange(names, f"folder {source}", labelled=not options.unlabelled, named=told)
    rows = [
        Row(archive.printable(p.id), archive.printable(p.label), entry.size, p.part, problem=entry.problem)
        for p, entry in ((p, entries[p.row]) for p in placed)
    ]
    reader = FileReader(root, [names[p.row] for p in placed])
    stamps = [entries[p.row].stamp for p in placed]
    return Table(root.name, source, rows, reader, _fingerprint(stamps), [*ignored, *special], notes)


def from_manifest(path: Path, source: str, options: DataOptions, name: str | None = None) -> Table:
    """Return the images that a manifest lists; missing files count as unreadable."""
    root = path.resolve().parent
    rows, listed, notes = manifest.parse(
        path.read_bytes(),
        str(path),
        manifest.in_folder(root),
        labelled=not options.unlabelled,
        separator=options.label_separator,
        parts=options.parts,
    )
    reader = FileReader(root, [file.id for file in listed])
    return Table(name or path.stem, source, rows, reader, _fingerprint([file.stamp for file in listed]), (), notes)


def tar(path: Path, source: str, options: DataOptions, name: str | None = None) -> Table:
    """Return the images of a tar of class folders, or of the manifest at its root; members are read in place."""
    plain = archive.plain(path, options)
    members, rejected = archive.index(plain, path)
    names = [member.name for member in members]
    name = name or stem(path)
    wrapped = _wrapped_manifest(names, source)
    if wrapped:
        rows, images, notes = _rows_of_manifest(plain, members, wrapped, f"{path}:{wrapped}", options)
        ignored: Problems = rejected
    else:
        placed, others, notes = layout.arrange(
            names, f"tar {source}", labelled=not options.unlabelled, named=parts.parse(options.parts)
        )
        images = [members[p.row] for p in placed]
        rows = [Row(p.id, p.label, member.size, p.part) for p, member in zip(placed, images, strict=True)]
        ignored = [*others, *rejected]
    reader = TarReader(plain, [member.offset for member in images], [member.size for member in images])
    return Table(name, source, rows, reader, files.sha256(f"{path.resolve()}\t{stamp(path)}".encode()), ignored, notes)


def _rows_of_manifest(
    plain: Path, members: Sequence[archive.Member], wrapped: str, name: str, options: DataOptions
) -> tuple[list[Row], list[archive.Member], list[str]]:
    by_name = {member.name: member for member in members}  # the last of several members of one name, as in tar
    prefix = wrapped.rpartition("/")[0]

    def below(name: str) -> str:
        return f"{prefix}/{name}" if prefix else name

    def locate(path: str) -> manifest.ListedFile:
        tidy = os.path.normpath(path)
        if "\\" in tidy and below(tidy) not in by_name:
            tidy = manifest.of_windows(tidy)
        member = by_name.get(below(tidy))
        if member is None:
            return manifest.ListedFile(tidy, 0, missing.drive_words(path) or "not in the archive")
        return manifest.ListedFile(tidy, member.size)

    at = by_name[wrapped]
    content = TarReader(plain, [at.offset], [at.size]).raw(0)
    rows, listed, notes = manifest.parse(
        content, name, locate, labelled=not options.unlabelled, separator=options.label_separator, parts=options.parts
    )
    none = archive.Member("", 0, 0)
    return rows, [by_name.get(below(file.id), none) for file in listed], notes


def _below(root: Path, name: str) -> str:
    """Return a folder of ``--parts`` as a path below ``root``; it may be given from where the command is typed."""
    path = Path(name).expanduser()
    if not path.is_absolute() and (root / path).exists():
        return name
    return path.resolve().relative_to(root).as_posix() if path.resolve().is_relative_to(root) else name


def walk(root: Path, special: list[tuple[str, str]], *, everything: bool = False) -> Iterator[File]:
    """Yield every visible regular file below ``root``, following links but no cycles, and images whose link is broken.

    Text files are skipped unless ``everything`` is set; (name, reason) of special files are appended to ``special``.
    """

    def fail(error: OSError) -> None:
        raise SlmlpError(f"cannot list {error.filename}: {error.strerror}: make it readable or remove it") from error

    inside: dict[str, tuple[tuple[int, int], ...]] = {}  # folder -> (device, inode) of it and its parents
    for at, folders, names in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(at)  # noqa: PTH116
        here, above = (status.st_dev, status.st_ino), inside.get(os.path.dirname(at), ())  # noqa: PTH120
        if here in above:
            folders.clear()
            continue
        inside[at] = (*above, here)
        folders[:] = sorted(name for name in folders if not lookalikes.of_system(name))
        below = Path(at).relative_to(root).as_posix()
        if not folders and not names and not everything:
            special.append((archive.printable(below), "empty folder"))
        for name in sorted(names):
            path = name if below == "." else f"{below}/{name}"
            hidden = name.startswith(".") if everything else layout.kind(path) == "quiet"
            if hidden and not layout.is_manifest(name):
                continue
            try:
                status = os.stat(os.path.join(at, name))  # noqa: PTH116, PTH118
            except OSError as error:
                problem = f"broken link ({error.strerror})"
                if everything or layout.kind(path) != "image":
                    special.append((archive.printable(path), problem))
                else:
                    yield File(path, 0, "", problem)
                continue
            if stat.S_ISREG(status.st_mode):
                yield File(path, status.st_size, f"{status.st_size}.{status.st_mtime_ns}")
            else:
                special.append((archive.printable(path), "no regular file"))


def _wrapped_manifest(names: Sequence[str], source: str) -> str | None:
    """Return the manifest at the root of the data, below wrapping folders."""
    last = [name.rpartition("/")[2] for name in names]
    candidates = [name for name, end in zip(names, last, strict=True) if layout.is_manifest(end)]
    if not candidates:
        return None
    images = [name for name in names if layout.kind(name) == "image"]
    prefix = layout.wrapper(images + candidates)
    at_root = _manifests([name[len(prefix) :] for name in candidates if name.startswith(prefix)], prefix, source)
    return prefix + at_root if at_root else None


def _manifests(names: Sequence[str], prefix: str, source: str) -> str | None:
    manifests = sorted(filter(layout.is_manifest, names))
    if len(manifests) > 1:
        paths = ", ".join(prefix + name for name in manifests)
        raise SlmlpError(f"{source} holds several manifests ({paths}): keep one of them")
    return manifests[0] if manifests else None


def _fingerprint(stamps: Sequence[str]) -> str:
    return files.sha256("\n".join(stamps).encode())


def stem(path: Path) -> str:
    """Return the name of a folder, or that of a tar or another file without its suffixes."""
    if path.is_dir():
        return path.resolve().name
    name = path.name
    suffix = next((s for s in sorted(TAR_SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), path.suffix)
    return name[: len(name) - len(suffix)] or name
