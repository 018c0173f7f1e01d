"""Read and write .npz files: sealed with a checksum, and whatever is wrong with one is a single kind of error."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.runtime import files
from slmlp.runtime.plain import short

Arrays = dict[str, npt.NDArray[Any]]
SEAL = "sha256"


class DamagedError(Exception):
    """What is wrong with an .npz file."""


def write(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, compress: bool = False) -> None:
    """Write arrays and their checksum, atomically."""
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        sealed: dict[str, Any] = {**arrays, SEAL: np.array(digest(arrays))}
        (np.savez_compressed if compress else np.savez)(file, **sealed)


def names(path: Path) -> list[str]:
    """Return the names of the arrays of a file that ``read`` has read."""
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name != f"{SEAL}.npy"]


def read(path: Path, wanted: Collection[str] | None = None) -> Arrays:
    """Return the arrays of a file, or those of ``wanted`` that it has; a checksum is compared where there is one.

    Raises:
        DamagedError: the file is no .npz, is cut, encrypted or changed, or says that it holds more than this machine's
            memory. Arrays of Python objects are refused: reading them would run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # np.load would take any other file for an array or a pickle
            declared = sum(member.file_size for member in archive.infolist())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if declared > memory:
            raise DamagedError(
                f"it says that it holds {declared / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            sealed = SEAL in archive.files
            taken = [name for name in archive.files if sealed or wanted is None or name in wanted]
            arrays = {name: np.asarray(archive[name]) for name in taken}
    except DamagedError:
        raise
    except Exception as error:  # numpy, zipfile and zlib have a dozen kinds for damaged files
        raise DamagedError(short(error)) from error
    if sealed and str(arrays.pop(SEAL)) != digest(arrays):
        raise DamagedError("its checksum does not agree with its arrays")
    return {name: array for name, array in arrays.items() if wanted is None or name in wanted}


def digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 over the names, types, shapes and bytes of arrays."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        if name != SEAL:
            total.update(f"{name}\t{array.dtype.str}\t{array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
    return total.hexdigest()
