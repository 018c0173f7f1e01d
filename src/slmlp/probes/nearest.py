"""The exact search of nearest images by cosine, block by block: no N x N array is held.

Ties are settled the same way on every machine and in every order of the images: cosines count to 1e-6, and of equally
near images those whose id sorts first are the nearer ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.probes.features import Features

ROWS = 8192  # images of a block of the gallery
QUERIES = 512  # queries of a block; with ROWS images of the gallery a block takes about 100 MB
HELD = 50_000_000  # entries of a gallery (200 MB) that is brought to length 1 once for all queries
STEP = 1_000_000  # cosines are compared to 1 / STEP: below is rounding of float32, which must decide nothing
PLACES = 1 << 32  # more than any number of images
Groups = npt.NDArray[Any]  # (N,) names
NOBODY = torch.iinfo(torch.int64).min  # the key of an image that is not of the query's gallery


@dataclass(frozen=True)
class Neighbours:
    """The k nearest images of the gallery to each of n queries, nearest first."""

    queries: slice  # which ones
    rows: npt.NDArray[np.int64]  # (n, k) positions in the gallery; -1 where the query's gallery has no more
    cosines: npt.NDArray[np.float64]  # (n, k) to 1e-6, falling; -inf there


def nearest(gallery: Features, queries: Features, k: int, *, own_group: bool = True) -> Iterator[Neighbours]:
    """Yield the k nearest images of every query, block by block; features may be memory-mapped.

    Without ``own_group`` the gallery of a query has no image of the query's group, so not the query itself.
    """
    by_id = np.argsort(gallery.ids, kind="stable")
    place = np.empty(len(gallery), dtype=np.int64)  # of each image of the gallery among the sorted ids
    place[by_id] = np.arange(len(gallery))
    early = PLACES - 1 - torch.as_tensor(place)  # (N,)
    groups = wanted_groups = None
    if not own_group:
        groups, wanted_groups = map(torch.as_tensor, group_codes(gallery.groups, queries.groups))
    held = list(_blocks(gallery.x)) if gallery.x.size <= HELD else None
    at_once = max(1, QUERIES * ROWS // max(ROWS, k))
    for start in range(0, len(queries), at_once):
        some = slice(start, min(start + at_once, len(queries)))
        wanted = _unit(queries.x[some])  # (n, D)
        best = torch.empty(len(wanted), 0, dtype=torch.int64)
        first = 0
        for unit in held if held is not None else _blocks(gallery.x):
            block = slice(first, first + len(unit))
            cosine = wanted @ unit.T  # (n, B)
            # cosine in steps, and in the lower half how early the id sorts: no two keys of a query are equal
            keys = cosine.mul_(STEP).round_().long().mul_(PLACES)
            keys += early[block]
            if groups is not None and wanted_groups is not None:
                keys.masked_fill_(wanted_groups[some, None] == groups[None, block], NOBODY)
            best = torch.cat([best, keys.topk(min(k, keys.shape[1]), dim=1, sorted=False).values], dim=1)
            best = best.topk(min(k, best.shape[1]), dim=1).values
            first += len(unit)
        yield _neighbours(some, best.numpy(), by_id)


def smallest_gallery(gallery: Groups, queries: Groups, *, own_group: bool = True) -> int:
    """Return the number of images of the smallest gallery that a query of ``nearest`` has, from the groups of both."""
    if own_group:
        return len(gallery)
    groups, wanted = group_codes(gallery, queries)
    return len(gallery) - int(np.bincount(groups, minlength=int(wanted.max(initial=0)) + 1)[wanted].max())


def _neighbours(queries: slice, keys: npt.NDArray[np.int64], by_id: npt.NDArray[np.int64]) -> Neighbours:
    nobody = keys == NOBODY
    rows = by_id[np.where(nobody, 0, PLACES - 1 - (keys & (PLACES - 1)))]
    cosines = (keys >> 32).astype(np.float64) / STEP
    return Neighbours(queries, np.where(nobody, -1, rows), np.where(nobody, -np.inf, cosines))


def group_codes(gallery: Groups, queries: Groups) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the groups of both as numbers from 0."""
    _, codes = np.unique(np.concatenate([gallery, queries]), return_inverse=True)
    return codes[: len(gallery)], codes[len(gallery) :]


def _blocks(x: npt.NDArray[np.floating]) -> Iterator[Tensor]:
    for start in range(0, len(x), ROWS):
        yield _unit(x[start : start + ROWS])


def _unit(x: npt.NDArray[np.floating]) -> Tensor:
    """Return rows (n, D) of length 1 in float32; a row of zeros stays as it is, with cosine 0 to all."""
    rows = torch.as_tensor(np.asarray(x)).double()  # double: no overflow of large features
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / torch.where(length > 0, length, 1.0)).float()
