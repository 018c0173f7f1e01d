"""List the files of a folder or a tar by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmlp.config import DataOptions
from slmlp.data.readers import FileReader, TarReader, stamp
from slmlp.data.sources import archive, folder, layout
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.progress import track


@dataclass(frozen=True)
class Listing:
    """Names, sizes and stamps of all files, label files included; contents are read on request."""

    path: Path  # as the user named it
    root: Path  # the folder, or a plain tar
    sizes: dict[str, int]  # name below the root, with "/" -> bytes
    stamps: dict[str, str]  # name -> text that changes when the file is replaced
    offsets: dict[str, int] | None  # name -> offset in the tar; None for a folder

    def images(self) -> list[str]:
        """Return the names with an image's suffix, sorted."""
        return sorted(name for name in self.sizes if layout.kind(name) == "image")

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self.reader([name]).raw(0)

    def reader(self, names: Sequence[str]) -> FileReader | TarReader:
        """Return a reader of these files; reading an unlisted name fails."""
        if self.offsets is None:
            return FileReader(self.root, names)
        return TarReader(self.root, [self.offsets.get(n, 0) for n in names], [self.sizes.get(n, 0) for n in names])

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a hash that changes when one of these files is replaced."""
        return files.sha256("\n".join(self.stamps.get(name, "") for name in names).encode())

    def top(self) -> str:
        """Return the first names at the root, for errors."""
        return few(sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in self.sizes})) or "nothing"


def listing(path: Path, options: DataOptions) -> Listing:
    """Return the files of a folder or of a tar; a compressed tar is decompressed once into the cache folder."""
    if path.is_dir():
        root = path.resolve()
        entries = list(track(folder.walk(root, [], everything=True), None, f"listing {path.name}"))
        sizes, stamps = {file.name: file.size for file in entries}, {file.name: file.stamp for file in entries}
        return Listing(path, root, sizes, stamps, None)
    if not is_tar(path):
        raise SlmlpError(f"{path} is neither a folder nor a tar: unpack it into a folder of its own")
    plain = archive.plain(path, options)
    members, _ = archive.index(plain, path)
    mark = stamp(plain)
    return Listing(
        path,
        plain,
        {member.name: member.size for member in members},
        {member.name: f"{mark}.{member.offset}" for member in members},
        {member.name: member.offset for member in members},
    )


def is_tar(path: Path) -> bool:
    """Return whether a file's name has a tar's suffix."""
    return path.is_file() and path.name.lower().endswith(folder.TAR_SUFFIXES)
