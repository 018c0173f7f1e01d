"""Near-identical images on both sides of a split: the same picture under a source class and under a held-out one.

Two images are compared as 16x16 RGB thumbnails by

    d(a, b) = |a - b|^2 / (|a - mean a|^2 + |b - mean b|^2)

over all pixels, the mean taken per colour channel: 0 for equal thumbnails, about 1 for unrelated ones. A JPEG re-encode
or a resize changes a thumbnail by a level or two, which is little beside the contrast of a picture, so d stays near 0;
measured against contrast, two hazy skies are no more alike than two street scenes are. A thumbnail that is all but one
colour has nothing to recognise and is never reported: blank pages would match each other and prove nothing. Mirror
images count as the same picture.

The search misses nothing: averaging cannot enlarge a difference, so images of too different brightness are passed over
at once, the others are compared at 8x8, and what is close there is compared in full. 31,000 against 19,000 images take
about ten seconds on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slmlp.data.dataset import ByteArray
from slmlp.errors import SlmlpError

FloatArray = npt.NDArray[np.float32]
Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
SIDE = 16  # pixels of the thumbnails that are compared
PIXELS = SIDE * SIDE * 3
THRESHOLD = 0.02
LEAST_CONTRAST = 6.0  # standard deviation in levels of 255; below it a thumbnail counts as blank
ROWS, COLUMNS = 2048, 4096  # of the table of pairs that is in memory at a time: 32 MB


def near_duplicates(
    thumbs_source: ByteArray, thumbs_unseen: ByteArray, threshold: float = THRESHOLD
) -> list[tuple[int, int, float]]:
    """Return (source index, held-out index, distance) of near-identical images, the closest first.

    ``thumbs_source`` (N, s, s, 3) and ``thumbs_unseen`` (M, s, s, 3) are uint8 squares of any side, compared at 16x16.
    Each held-out image appears once at most, with the source image nearest to it. ``threshold`` bounds the distance
    defined at the top of this file: at 0.02, JPEG of quality 50 and resizes of one picture are found, and of 200
    classes of Tiny-ImageNet the only pair found is a true one (the nearest false pair stands at 0.033).
    """
    for thumbs in (thumbs_source, thumbs_unseen):
        if thumbs.ndim != 4 or thumbs.shape[1] != thumbs.shape[2] or thumbs.shape[3] != 3 or thumbs.dtype != np.uint8:
            raise SlmlpError(f"thumbnails must be uint8 (N, side, side, 3), found {thumbs.dtype} {thumbs.shape}")
    source, unseen = _Side(thumbs_source), _Side(thumbs_unseen)
    nearest = np.full(len(unseen.index), threshold, dtype=np.float32)
    partner = np.full(len(unseen.index), -1, dtype=np.int64)
    for mirrored in (False, True):
        for rows, columns in _tiles(source, unseen, threshold):
            i, j = _candidates(source, unseen, rows, columns, threshold, mirrored)
            for start in range(0, len(i), ROWS):  # more than one step only where many images are alike
                a, b = i[start : start + ROWS], j[start : start + ROWS]
                distance = _distance(source, unseen, a, b, mirrored)
                order = np.argsort(-distance, kind="stable")  # of several for one image the nearest is written last
                a, b, distance = a[order], b[order], distance[order]
                better = distance < nearest[b]
                nearest[b[better]], partner[b[better]] = distance[better], a[better]
    found = np.flatnonzero(partner >= 0)
    found = found[np.lexsort((unseen.index[found], nearest[found]))]
    return [(int(source.index[partner[j]]), int(unseen.index[j]), float(nearest[j])) for j in found]


class _Side:
    """The images of one side that are not blank, from dark to bright, and what the search needs of them."""

    def __init__(self, thumbs: ByteArray) -> None:
        """Shrink the thumbnails, leave blank ones out and sort the others."""
        small = _shrink(thumbs)
        means, contrast = _means(small)
        kept = np.flatnonzero(contrast >= PIXELS * LEAST_CONTRAST**2)
        self.index = kept[np.argsort(means[kept], kind="stable")]  # (n,) place in ``thumbs``
        self.pixels = small[self.index]  # (n, 16, 16, 3) uint8
        self.means = means[self.index]  # (n,) brightness
        self.contrast = contrast[self.index]  # (n,) sum of squares around the mean colour
        self.coarse = np.empty((len(kept), SIDE // 2, SIDE // 2, 3), dtype=np.float32)
        for start in range(0, len(kept), ROWS):
            part = self.pixels[start : start + ROWS].reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3)
            # around 0 for the sake of float32; times 2, so that sums of squares compare with those over 16x16 pixels
            self.coarse[start : start + ROWS] = 2 * (part.mean((2, 4), dtype=np.float32) - 128)
        self.squares = np.einsum("nxyc,nxyc->n", self.coarse, self.coarse)


def _shrink(thumbs: ByteArray) -> ByteArray:
    """Return thumbnails (N, 16, 16, 3), each pixel the mean of the area it covers."""
    if thumbs.shape[1] == SIDE:
        return thumbs
    weights = _area_weights(thumbs.shape[1], SIDE)
    small = np.empty((len(thumbs), SIDE, SIDE, 3), dtype=np.uint8)
    for start in range(0, len(thumbs), ROWS):
        part = thumbs[start : start + ROWS].astype(np.float32)
        small[start : start + ROWS] = np.einsum("ax,nxyc,by->nabc", weights, part, weights, optimize=True).round()
    return small


def _area_weights(side: int, out: int) -> FloatArray:
    """Return (out, side): the share that each of ``side`` pixels has in each of ``out`` equal stretches."""
    edges = np.arange(out + 1) * side / out
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: FloatArray = (np.maximum(overlap, 0) * out / side).astype(np.float32)
    return weights


def _means(small: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Return brightness (N,) and contrast (N,), the sum of squares around the mean colour."""
    means, contrast = np.empty(len(small), dtype=np.float32), np.empty(len(small), dtype=np.float32)
    for start in range(0, len(small), ROWS):
        part = small[start : start + ROWS].astype(np.float32)
        colour = part.mean((1, 2), keepdims=True)  # (n, 1, 1, 3)
        means[start : start + ROWS] = colour.mean((1, 2, 3))
        contrast[start : start + ROWS] = ((part - colour) ** 2).sum((1, 2, 3))
    return means, contrast


def _tiles(source: _Side, unseen: _Side, threshold: float) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of the table of pairs that can hold one: |a - b|^2 is at least PIXELS (mean a - mean b)^2."""
    if not len(source.index) or not len(unseen.index):
        return
    reach = np.sqrt(threshold * (source.contrast.max() + unseen.contrast.max()) / PIXELS) + 0.01
    for top in range(0, len(source.index), ROWS):
        rows = slice(top, min(top + ROWS, len(source.index)))
        bounds = (source.means[rows.start] - reach, source.means[rows.stop - 1] + reach)
        first, last = np.searchsorted(unseen.means, bounds)
        for left in range(int(first), int(last), COLUMNS):
            yield rows, slice(left, min(left + COLUMNS, int(last)))


def _candidates(source: _Side, unseen: _Side, rows: slice, columns: slice, threshold: float, mirrored: bool) -> Pairs:
    """Return the pairs of a tile whose 8x8 thumbnails are within the threshold (a hair more, for rounding)."""
    a = source.coarse[rows, :, ::-1] if mirrored else source.coarse[rows]
    room = 1.01 * threshold
    # |a - b|^2 < t (Ca + Cb)  <=>  2 a.b > (|a|^2 - t Ca) + (|b|^2 - t Cb)
    least_a = source.squares[rows] - room * source.contrast[rows]
    least_b = unseen.squares[columns] - room * unseen.contrast[columns]
    products = a.reshape(len(a), -1) @ unseen.coarse[columns].reshape(len(least_b), -1).T
    products *= 2
    products -= least_a[:, None]
    i, j = np.nonzero(products > least_b)
    return i + rows.start, j + columns.start


def _distance(
    source: _Side, unseen: _Side, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], mirrored: bool
) -> FloatArray:
    """Return d (len(i),) of pairs of images."""
    a = source.pixels[i, :, ::-1] if mirrored else source.pixels[i]
    difference = a.astype(np.float32) - unseen.pixels[j]
    distance: FloatArray = np.einsum("nxyc,nxyc->n", difference, difference) / (source.contrast[i] + unseen.contrast[j])
    return distance
