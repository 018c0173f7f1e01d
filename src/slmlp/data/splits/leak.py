"""Find near-identical images under a source class and a held-out class.

The descriptor of an image is its brightness at 16x16 pixels and its colour at 4x4, because JPEG preserves the first and
blurs the second. The distance of two images is::

    d(a, b) = |a - b|^2 / (|a - mean a|^2 + |b - mean b|^2)

with means per channel: 0 for equal descriptors, about 1 for unrelated ones. Re-encoding or resizing changes a
thumbnail by a level or two, which is small against an image's contrast, so d stays near 0. Because d is relative to
contrast, two hazy skies are no closer than two street scenes. Images of nearly one colour are never reported: blank
pages would all match each other. Mirror images count as the same image.

The search is exact: averaging cannot enlarge a difference, so pairs of too different brightness are skipped, the others
are compared at 8x8, and those that are close there are compared in full. 31,000 against 19,000 images take about ten
seconds on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slmlp.data.dataset import ByteArray
from slmlp.runtime.errors import SlmlpError

FloatArray = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
SIDE, HALF, COLOUR = 16, 8, 4  # pixels: brightness in the distance, brightness in the search, colour
THRESHOLD = 0.02
LEAST_CONTRAST = 6.0  # standard deviation in levels of 255; below it an image counts as blank
ROWS, COLUMNS = 2048, 4096  # of a tile of the table of pairs: 32 MB
# RGB -> brightness, red-blue, magenta-green: orthonormal, so that differences are those of RGB
_AXES = (np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])).astype(np.float32)


def near_duplicates(
    thumbs_source: ByteArray, thumbs_unseen: ByteArray, threshold: float = THRESHOLD
) -> list[tuple[int, int, float]]:
    """Return (source index, held-out index, distance) of near-identical images, the closest first.

    ``thumbs_source`` (N, s, s, 3) and ``thumbs_unseen`` (M, s, s, 3) are uint8, of any side, best 16. Each held-out
    image appears at most once, with its nearest source image. ``threshold`` bounds the distance; docs/split.md shows
    examples at 0.02.
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
            for start in range(0, len(i), ROWS):  # more than one step only if many images are alike
                a, b = i[start : start + ROWS], j[start : start + ROWS]
                distance = _distance(source, unseen, a, b, mirrored)
                order = np.argsort(-distance, kind="stable")  # of several for one image the nearest is written last
                a, b, distance = a[order], b[order], distance[order]
                better = distance < nearest[b]
                nearest[b[better]], partner[b[better]] = distance[better], a[better]
    matched = np.flatnonzero(partner >= 0)
    matched = matched[np.lexsort((unseen.index[matched], nearest[matched]))]
    return [(int(source.index[partner[j]]), int(unseen.index[j]), float(nearest[j])) for j in matched]


class _Side:
    """Descriptors of one side's images, without blank ones, from dark to bright."""

    def __init__(self, thumbs: ByteArray) -> None:
        bright, colour = _describe(thumbs)
        means = bright.mean((1, 2))
        contrast = _squares(bright - means[:, None, None], colour - colour.mean((1, 2), keepdims=True))
        visible = np.flatnonzero(contrast >= 3 * SIDE**2 * LEAST_CONTRAST**2)
        self.index: Indices = visible[np.argsort(means[visible], kind="stable")]  # (n,) index in ``thumbs``
        self.bright = bright[self.index]  # (n, 16, 16)
        self.colour = colour[self.index]  # (n, 4, 4, 2)
        self.means = means[self.index]  # (n,)
        self.contrast = contrast[self.index]  # (n,) sum of squares around the means
        # times 2, so that sums of squares are comparable to those over 16x16 pixels
        self.coarse = 2 * self.bright.reshape(-1, HALF, 2, HALF, 2).mean((2, 4))  # (n, 8, 8)
        self.squares = _squares(self.coarse, self.colour)

    def rows(self, part: slice, mirrored: bool) -> FloatArray:
        """Return descriptors for the search as rows (len(part), 96)."""
        step = -1 if mirrored else 1
        bright, colour = self.coarse[part, :, ::step], self.colour[part, :, ::step]
        return np.concatenate([bright.reshape(len(bright), -1), colour.reshape(len(colour), -1)], axis=1)


def _squares(bright: FloatArray, colour: FloatArray) -> FloatArray:
    """Return |x|^2 (n,) of descriptors."""
    total: FloatArray = np.einsum("nxy,nxy->n", bright, bright) + np.einsum("nxyc,nxyc->n", colour, colour)
    return total


def _describe(thumbs: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Return brightness (N, 16, 16) and colour (N, 4, 4, 2) as means over areas.

    Values are centred on 0 for float32 precision. A colour value covers 16 pixels, so it is scaled by 4.
    """
    fine, coarse = _area_weights(thumbs.shape[1], SIDE), _area_weights(thumbs.shape[1], COLOUR)
    bright = np.empty((len(thumbs), SIDE, SIDE), dtype=np.float32)
    colour = np.empty((len(thumbs), COLOUR, COLOUR, 2), dtype=np.float32)
    for start in range(0, len(thumbs), ROWS):
        part = thumbs[start : start + ROWS].astype(np.float32) - 128
        stop = start + len(part)
        bright[start:stop] = np.einsum("ax,nxy,by->nab", fine, part @ _AXES[0], fine, optimize=True)
        colour[start:stop] = np.einsum("ax,nxyc,by->nabc", coarse, part @ _AXES[1:].T, coarse, optimize=True)
    return bright, colour * (SIDE // COLOUR)


def _area_weights(side: int, out: int) -> FloatArray:
    """Return the weight (out, side) of each of ``side`` pixels in each of ``out`` equal intervals."""
    edges = np.arange(out + 1) * side / out
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: FloatArray = (np.maximum(overlap, 0) * out / side).astype(np.float32)
    return weights


def _tiles(source: _Side, unseen: _Side, threshold: float) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles that can contain a pair: |a - b|^2 is at least 16^2 (mean a - mean b)^2."""
    if not len(source.index) or not len(unseen.index):
        return
    reach = np.sqrt(threshold * (source.contrast.max() + unseen.contrast.max())) / SIDE + 0.01
    for top in range(0, len(source.index), ROWS):
        rows = slice(top, min(top + ROWS, len(source.index)))
        bounds = (source.means[rows.start] - reach, source.means[rows.stop - 1] + reach)
        first, last = np.searchsorted(unseen.means, bounds)
        for left in range(int(first), int(last), COLUMNS):
            yield rows, slice(left, min(left + COLUMNS, int(last)))


def _candidates(
    source: _Side, unseen: _Side, rows: slice, columns: slice, threshold: float, mirrored: bool
) -> tuple[Indices, Indices]:
    """Return the pairs of a tile within the threshold at 8x8, with 1 % added for rounding."""
    limit = 1.01 * threshold
    # |a - b|^2 < t (Ca + Cb)  <=>  2 a.b > (|a|^2 - t Ca) + (|b|^2 - t Cb)
    least_a = source.squares[rows] - limit * source.contrast[rows]
    least_b = unseen.squares[columns] - limit * unseen.contrast[columns]
    products = source.rows(rows, mirrored) @ unseen.rows(columns, False).T
    products *= 2
    products -= least_a[:, None]
    i, j = np.nonzero(products > least_b)
    return i + rows.start, j + columns.start


def _distance(source: _Side, unseen: _Side, i: Indices, j: Indices, mirrored: bool) -> FloatArray:
    """Return d (len(i),) of pairs of images."""
    step = -1 if mirrored else 1
    bright = source.bright[i, :, ::step] - unseen.bright[j]
    colour = source.colour[i, :, ::step] - unseen.colour[j]
    distance: FloatArray = _squares(bright, colour) / (source.contrast[i] + unseen.contrast[j])
    return distance
