"""Extract features of images, cached under a hash of weights, data and transform."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder, layers
from slmlp.encoders.forward import BATCH, FloatArray, forward
from slmlp.probes.features import Features
from slmlp.runtime import distributed, files, npz, processes, ranks
from slmlp.runtime.device import for_features
from slmlp.runtime.errors import SlmlpError

OVERHEAD = 4096  # bytes of a cache file beside its numbers


def transform_id(encoder: Encoder, precision: str = "float32") -> str:
    """Return the name of the encoder's evaluation transform, recorded with every number."""
    return f"{encoder.preprocess.id}-{precision}"


def precision_of(encoder: Encoder, device: str, precision: str) -> str:
    """Return the precision that features are computed in, ``float32`` or ``bfloat16``; resolves ``auto``."""
    return for_features(encoder, device, precision).precision


def extract(
    encoder: Encoder,
    image_cache: ImageCache,
    images: ImageSet,
    cache: Path | None = None,
    device: str = "cpu",
    *,
    layer: str = layers.OUTPUT,
    precision: str = "float32",
    projector: nn.Module | None = None,
    batch_size: int = BATCH,
    together: bool = False,
) -> Features:
    """Return the features of ``images`` at one layer; see ``extract_layers``."""
    features = extract_layers(
        encoder, image_cache, images, cache, device, (layer,), precision,
        projector=projector, batch_size=batch_size, together=together,
    )  # fmt: skip
    return features[layer]


def extract_layers(
    encoder: Encoder,
    image_cache: ImageCache,
    images: ImageSet,
    cache: Path | None,
    device: str,
    wanted: Sequence[str],
    precision: str = "float32",
    *,
    projector: nn.Module | None = None,
    batch_size: int = BATCH,
    together: bool = False,
) -> dict[str, Features]:
    """Return the features of ``images`` at each layer of ``wanted``, all from one forward pass.

    ``projector`` is that of the encoder's run, for the layers behind its output.

    ``precision`` is ``float32``, ``bfloat16`` (autocast; features are kept as float32 numbers), or ``auto``:
    bfloat16 where the hardware has it. ``device`` is a name or ``auto``. With ``cache`` each layer is kept there under
    a hash of weights, images, transform and precision, and a file is used only if the key written inside it is the one
    asked for. With ``together``, which all of several processes must then ask for, each computes a contiguous share;
    the first returns and caches all, the others return those of no image.

    Raises:
        SlmlpError: an unknown layer, features that are not finite, a disk too small for the cache (before any work).
    """
    together = together and processes.is_distributed()
    reads = processes.is_main() or not together
    layers.check(encoder, wanted, projector)
    compute = for_features(encoder, device, precision)
    keys = _keys(encoder, projector, images, wanted, compute.precision) if cache else {}
    caches = {name: cache / f"{key[:32]}.npz" for name, key in keys.items()} if cache else {}
    cached: dict[str, FloatArray] = {}
    for name, file in caches.items():
        known = _cached(file, keys[name]) if reads and file.exists() else None
        if known is not None:
            cached[name] = known
    missing = [name for name in wanted if not (ranks.any_rank(name in cached) if together else name in cached)]
    if missing:
        with ranks.raise_on_all_ranks() if together else contextlib.nullcontext():
            encoder.to(compute.device)
            if cache is not None and reads:
                _check_room(cache, len(images), layers.widths(encoder, missing, projector).values())
            rows = image_cache.rows(images)
            share = rows[distributed.share_of(len(rows))] if together else rows
            computed = forward(encoder, image_cache, share, compute, missing, batch_size, images.name, projector)
            _check_finite(computed, encoder, images)
        if together:
            computed = {
                name: distributed.collect(torch.from_numpy(x), len(rows)).numpy() for name, x in computed.items()
            }
        with ranks.raise_on_all_ranks() if together else contextlib.nullcontext():
            for name in missing if reads else ():
                cached[name] = computed[name]
                if name in caches:
                    npz.write(caches[name], {"x": computed[name], "key": np.array(keys[name])})
    return {name: _features(cached.get(name), images) for name in wanted}


def _keys(
    encoder: Encoder, projector: nn.Module | None, images: ImageSet, wanted: Sequence[str], precision: str
) -> dict[str, str]:
    """Return the cache key of each layer's features: a hash of all that they depend on."""
    parts = [encoder.hash(), images.hash(), images.fingerprint, transform_id(encoder, precision)]
    return {
        name: files.hash_json(
            parts if name == layers.OUTPUT else [*parts, name, *layers.projector_marks(projector, name)]
        )
        for name in wanted
    }


def _check_room(cache: Path, count: int, widths: Collection[int]) -> None:
    """Raise SlmlpError if the cache's disk has no room for the features."""
    what = f"the features of {count:,} images ({len(widths)} layers of {', '.join(map(str, widths))} numbers)"
    files.check_room(cache, sum(count * width * 4 + OVERHEAD for width in widths), what)


def _check_finite(features: Mapping[str, FloatArray], encoder: Encoder, images: ImageSet) -> None:
    for name, x in features.items():
        bad = int((~np.isfinite(x)).any(axis=1).sum())
        if bad:
            raise SlmlpError(
                f"the encoder {encoder.origin.source} gives features that are not finite for {bad:,} of {len(x):,} "
                f"images of {images.name} (layer {name}); its training has diverged, or its weights are damaged"
            )


def _cached(file: Path, key: str) -> FloatArray | None:
    """Return the features of a cache file, or None where it is damaged or another's."""
    try:
        arrays = npz.read(file)
    except npz.DamagedError:
        return None
    return arrays["x"] if "x" in arrays and str(arrays.get("key")) == key else None


def _features(x: FloatArray | None, images: ImageSet) -> Features:
    if x is None:
        x, images = np.zeros((0, 0), dtype=np.float32), images.select(np.zeros(0, dtype=np.int64))
    ids, groups = np.array(images.ids, dtype=np.str_), images.groups.astype(np.str_)
    return Features(x, images.labels, images.classes, ids, groups, images.parts.astype(np.str_))
