"""Features: an encoder applied to images, once, and kept under a hash of weights, data and transform."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slmlp import agreement, dist, files, processes
from slmlp.corpus import Corpus
from slmlp.data.dataset import ImageSet, IntArray
from slmlp.device import for_features
from slmlp.encoders import Encoder, layers
from slmlp.errors import SlmlpError
from slmlp.feature_arrays import filled, in_memory, labels, read_arrays
from slmlp.forward import BATCH, FloatArray, forward

OVERHEAD = 4096  # bytes of a cache file beside its numbers


@dataclass(frozen=True)
class Features:
    """Features of N images: what probes and measures read, and all that they read."""

    x: npt.NDArray[np.float32]  # (N, D)
    y: npt.NDArray[np.int64]  # (N,) index into classes
    classes: tuple[str, ...]
    ids: npt.NDArray[np.str_]  # (N,)
    units: npt.NDArray[np.str_]  # (N,)
    parts: npt.NDArray[np.str_] | None = None  # (N,) "train" or "test", where that is known

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.y)

    def select(self, keep: npt.NDArray[np.bool_] | IntArray) -> Features:
        """Return the images under a mask or at given positions."""
        parts = None if self.parts is None else self.parts[keep]
        return replace(self, x=self.x[keep], y=self.y[keep], ids=self.ids[keep], units=self.units[keep], parts=parts)

    def save(self, path: Path) -> None:
        """Write ``x``, ``y``, ``classes``, ``ids``, ``units`` and, where known, ``parts`` as .npz, atomically."""
        names = np.array(self.classes, dtype=np.str_)
        arrays: dict[str, Any] = {
            "x": self.x, "y": self.y, "classes": names, "ids": self.ids, "units": self.units
        }  # fmt: skip
        if self.parts is not None:
            arrays["parts"] = self.parts
        with files.atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, memory_limit_gb: float | None = None) -> Features:
        """Read a features file: ``x`` (N, D) and ``y`` (N,) are required, the rest is filled in.

        With a limit, an ``x`` that is larger stays on the disk; see ``feature_arrays.read_arrays``.
        """
        arrays = read_arrays(path, memory_limit_gb)
        x, y = arrays["x"], arrays["y"]
        if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
            raise SlmlpError(f"{path}: x must be (N, D) and y (N,), found {x.shape} and {y.shape}")
        y, names = labels(path, y, arrays.get("classes"))
        ids, units = filled(path, arrays)
        parts = arrays.get("parts")
        if parts is not None and (len(parts) != len(y) or not set(parts.tolist()) <= {"train", "test"}):
            found = ", ".join(sorted(map(str, set(parts.tolist())))[:4])
            raise SlmlpError(f'{path}: parts must be (N,) of "train" and "test", found {parts.shape} of {found}')
        return cls(in_memory(x), y, names, ids, units, None if parts is None else parts.astype(np.str_))


def transform_id(encoder: Encoder, precision: str = "float32") -> str:
    """Return the name of the encoder's evaluation transform: what is written beside every number."""
    return f"{encoder.preprocess.id}-{precision}"


def precision_of(encoder: Encoder, device: str, precision: str) -> str:
    """Return ``float32`` or ``bfloat16``: what features are computed in where ``precision`` may be ``auto``."""
    return "bfloat16" if for_features(encoder, device, precision).bfloat16 else "float32"


def extract(
    encoder: Encoder,
    corpus: Corpus,
    images: ImageSet,
    cache: Path | None = None,
    device: str = "cpu",
    *,
    layer: str = layers.OUTPUT,
    precision: str = "float32",
    batch_size: int = BATCH,
    together: bool = False,
) -> Features:
    """Return the features of ``images`` at one layer; see ``extract_layers``."""
    found = extract_layers(
        encoder, corpus, images, cache, device, (layer,), precision, batch_size=batch_size, together=together
    )
    return found[layer]


def extract_layers(
    encoder: Encoder,
    corpus: Corpus,
    images: ImageSet,
    cache: Path | None,
    device: str,
    wanted: Sequence[str],
    precision: str = "float32",
    *,
    batch_size: int = BATCH,
    together: bool = False,
) -> dict[str, Features]:
    """Return the features of ``images`` at each layer of ``wanted``, all from one forward pass.

    ``precision`` is ``float32``, ``bfloat16`` (autocast; features are kept as float32 numbers), or ``auto``:
    bfloat16 where the hardware has it. ``device`` is a name or ``auto``. With ``cache`` each layer is kept there under
    a hash of weights, images, transform and precision, and a file is used only if the key written inside it is the one
    asked for. With ``together``, which all of several processes must then ask for, each computes a contiguous share;
    the first returns and caches all, the others return those of no image.

    Raises:
        SlmlpError: an unknown layer, features that are not finite, a disk too small for the cache (before any work).
    """
    together = together and processes.many()
    reads = processes.first() or not together
    layers.check(encoder, wanted)
    compute = for_features(encoder, device, precision)
    keys = _keys(encoder, images, wanted, "bfloat16" if compute.bfloat16 else "float32") if cache else {}
    caches = {name: cache / f"{key[:32]}.npz" for name, key in keys.items()} if cache else {}
    held: dict[str, FloatArray] = {}
    for name, file in caches.items():
        known = _cached(file, keys[name]) if reads and file.exists() else None
        if known is not None:
            held[name] = known
    missing = [name for name in wanted if not (agreement.anyone(name in held) if together else name in held)]
    if missing:
        with agreement.agreed() if together else contextlib.nullcontext():
            encoder.to(compute.device)
            if cache is not None and reads:
                _check_room(cache, len(images), layers.widths(encoder, missing).values())
            rows = corpus.rows(images)
            share = rows[dist.share_of(len(rows))] if together else rows
            made = forward(encoder, corpus, share, compute, missing, batch_size, images.name)
            _check_finite(made, encoder, images)
        if together:
            made = {name: dist.collect(torch.from_numpy(x), len(rows)).numpy() for name, x in made.items()}
        with agreement.agreed() if together else contextlib.nullcontext():
            for name in missing if reads else ():
                held[name] = made[name]
                if name in caches:
                    with files.atomic(caches[name]) as temporary, temporary.open("wb") as opened:
                        np.savez(opened, x=made[name], key=np.array(keys[name]))
    return {name: _features(held.get(name), images) for name in wanted}


def _keys(encoder: Encoder, images: ImageSet, wanted: Sequence[str], precision: str) -> dict[str, str]:
    """Return what the features of each layer depend on, hashed; the output in float32 has the key it always had."""
    parts = [encoder.hash(), images.hash(), images.fingerprint, transform_id(encoder, precision)]
    return {
        name: files.hash_json(
            parts if name == layers.OUTPUT else [*parts, name, *layers.projector_marks(encoder, name)]
        )
        for name in wanted
    }


def _check_room(cache: Path, count: int, widths: Collection[int]) -> None:
    """Refuse to compute what the disk of the cache has no room for."""
    what = f"the features of {count:,} images ({len(widths)} layers of {', '.join(map(str, widths))} numbers)"
    files.check_room(cache, sum(count * width * 4 + OVERHEAD for width in widths), what)


def _check_finite(made: Mapping[str, FloatArray], encoder: Encoder, images: ImageSet) -> None:
    for name, x in made.items():
        bad = int((~np.isfinite(x)).any(axis=1).sum())
        if bad:
            raise SlmlpError(
                f"the encoder {encoder.origin.source} gives features that are not finite for {bad:,} of {len(x):,} "
                f"images of {images.name} (layer {name}); its training has diverged, or its weights are damaged"
            )


def _cached(file: Path, key: str) -> FloatArray | None:
    """Return the features of a cache file, or None where it is damaged or another's."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            return held["x"] if str(held["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _features(x: FloatArray | None, images: ImageSet) -> Features:
    if x is None:
        x, images = np.zeros((0, 0), dtype=np.float32), images.select(np.zeros(0, dtype=np.int64))
    ids, units = np.array(images.ids, dtype=np.str_), images.units.astype(np.str_)
    return Features(x, images.labels, images.classes, ids, units, images.parts.astype(np.str_))
