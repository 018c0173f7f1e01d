"""Features of images with their labels, the input of probes and measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp.probes.feature_files import BESIDE_HASH, beside, labels, read_complete
from slmlp.runtime import files, npz
from slmlp.runtime.errors import SlmlpError


def all_equal(x: npt.NDArray[Any]) -> bool:
    """Return whether all rows of ``x`` (N, D) are the same; one that lies on the disk is read as far as they are."""
    return all(bool((x[start : start + 8192] == x[0]).all()) for start in range(0, len(x), 8192))


@dataclass(frozen=True)
class Features:
    """Features of N images with their labels, ids and groups: the whole input of probes and measures."""

    x: npt.NDArray[np.float32]  # (N, D)
    y: npt.NDArray[np.int64]  # (N,) index into classes
    classes: tuple[str, ...]
    ids: npt.NDArray[np.str_]  # (N,)
    groups: npt.NDArray[np.str_]  # (N,)
    parts: npt.NDArray[np.str_] | None = None  # (N,) "train" or "test", where that is known

    def __len__(self) -> int:
        return len(self.y)

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Features:
        """Return the images under a mask or at given positions."""
        parts = None if self.parts is None else self.parts[keep]
        return replace(self, x=self.x[keep], y=self.y[keep], ids=self.ids[keep], groups=self.groups[keep], parts=parts)

    def save(self, path: Path) -> None:
        """Write ``x`` as .npy and, beside it, the rest as .npz: both files, or none on an error.

        The .npz holds ``y``, ``classes``, ``ids``, ``groups`` and, where known, ``parts``.
        """
        names = np.array(self.classes, dtype=np.str_)
        arrays: dict[str, Any] = {"y": self.y, "classes": names, "ids": self.ids, "groups": self.groups}
        if self.parts is not None:
            arrays["parts"] = self.parts
        with files.atomic(path) as labels_file, files.atomic(beside(path)) as x_file:
            with x_file.open("wb") as file:
                np.save(file, self.x)
            arrays[BESIDE_HASH] = np.array(files.sha256(files.chunks(x_file)))
            with labels_file.open("wb") as file:
                arrays[npz.SEAL] = np.array(npz.digest(arrays))
                np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, memory_limit_gb: float | None = None) -> Features:
        """Read a features file: ``x`` (N, D) and ``y`` (N,) are required, the rest is filled in.

        With a limit, an ``x`` that is larger stays on the disk; see ``feature_files.read_arrays``.
        """
        arrays = read_complete(path, memory_limit_gb, y_axes=1)
        y, names = labels(path, arrays["y"], arrays.get("classes"))
        parts = arrays.get("parts")
        if parts is not None and (parts.shape != y.shape or not set(parts.tolist()) <= {"train", "test"}):
            values = ", ".join(sorted(set(map(str, parts.reshape(-1).tolist())))[:4])
            raise SlmlpError(f'{path}: parts must be (N,) of "train" and "test", found {parts.shape} of {values}')
        parts = None if parts is None else parts.astype(np.str_)
        return cls(arrays["x"], y, names, arrays["ids"], arrays["groups"], parts)
