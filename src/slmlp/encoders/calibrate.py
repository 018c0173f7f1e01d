"""Compute BatchNorm statistics for encoders that have none: random or averaged weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder, stored
from slmlp.encoders.extract import transform_id
from slmlp.encoders.forward import BATCH
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import track

BATCHES = 32  # of images that statistics are of


def calibrate_norms(encoder: Encoder, image_cache: ImageCache, images: ImageSet, cache: Path | None = None) -> None:
    """Give an encoder that was never trained (or averaged) BatchNorm statistics of training images.

    The statistics are plain means over up to ``BATCHES`` batches of 256 evaluation views, in the order of the data
    shuffled once. With ``cache`` they are kept there, under a hash of weights, images and transform: whether an
    untrained encoder's numbers are there already cannot be told before its statistics are.
    """
    norms = _norms(encoder)
    if not norms:
        return
    key = _key(encoder, images)
    file = cache / f"norms-{key[:32]}.safetensors" if cache else None
    if file is not None and _restored(file, key, norms):
        return
    resize = encoder.preprocess.resize
    momenta = {name: norm.momentum for name, norm in norms.items()}
    for norm in norms.values():
        norm.momentum = None  # a plain mean over batches
    rows = np.random.default_rng(0).permutation(image_cache.rows(images))[: BATCHES * BATCH]
    encoder.train()
    with torch.no_grad():
        starts = range(0, len(rows) - len(rows) % BATCH or len(rows), BATCH)
        for start in track(starts, len(starts), f"statistics of {images.name}", show=image_cache.progress):
            part = rows[start : start + BATCH]
            encoder(encoder.preprocess(image_cache.squares(part, resize)))
    encoder.eval()
    for name, norm in norms.items():
        norm.momentum = momenta[name]
    if file is not None:
        stored.write(file, _statistics(norms), {"key": key})


def kept_norms(encoder: Encoder, images: ImageSet, cache: Path) -> bool:
    """Give an encoder the statistics that ``calibrate_norms`` kept; return whether it has all that it needs."""
    norms = _norms(encoder)
    if not norms:
        return True
    key = _key(encoder, images)
    return _restored(cache / f"norms-{key[:32]}.safetensors", key, norms)


def _norms(encoder: Encoder) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers of an encoder, in evaluation mode, with the statistics of no image."""
    encoder.eval()
    norms = {name: m for name, m in encoder.named_modules() if isinstance(m, _BatchNorm)}
    for norm in norms.values():
        norm.reset_running_stats()
    return norms


def _key(encoder: Encoder, images: ImageSet) -> str:
    parts = [encoder.hash(), images.hash(), images.fingerprint, transform_id(encoder), BATCHES]
    return files.hash_json([*parts, *encoder.preprocess.resize.marks])


def _statistics(norms: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name, norm in norms.items() for key, value in norm.named_buffers(recurse=False)}


def _restored(file: Path, key: str, norms: Mapping[str, nn.Module]) -> bool:
    """Load the statistics from a cache file; return whether it exists, is intact and has this key."""
    try:
        about, saved = stored.read(file, "")
    except SlmlpError:
        return False
    statistics = _statistics(norms)
    if about.get("key") != key or saved.keys() != statistics.keys():
        return False
    for name, value in statistics.items():
        value.copy_(saved[name])
    return True
