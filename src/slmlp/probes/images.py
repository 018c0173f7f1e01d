"""Read the images of a fit block by block, from memory or from a file larger than memory.

Letters: N images, D features, K principal axes. One pass gives mean, standard deviation and, for narrow features, the
correlations; every further pass hands out blocks of standardised images. Beside the caller's array,
no more is kept of all images than ``Images`` is allowed to hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.runtime.errors import SlmlpError

Array = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer] | npt.NDArray[np.bool_]

CONSTANT = 1e-7  # a feature whose std is below this share of its largest entry is rounding noise of float32
RANK = 1e-14  # an axis whose share of the largest variance is below this is rounding noise of float64
NARROW = 512  # features up to which all principal axes are found: a tenth of a second, against 2 s for 2,048
AXES = 256  # the leading axes that are found for wider features
SKETCHED = 4096  # of these images
LEAST = 1e-4  # variance that is at least assumed off the leading axes: rounding noise there is not blown up
BLOCK = 2 << 20  # entries of the widest matrix that is made of a block of images (8 MB in float32)
ROWS = 4096  # most images of a block: what is made of them stays in its caches
ALIASED = (
    1024  # rows of a multiple of this many float32 fall on the same lines of a cache, and products take half longer
)


@dataclass(frozen=True)
class Rows:
    """Some rows of an array (M, D), which may be memory-mapped and of any number type; only blocks are read."""

    x: Array
    index: npt.NDArray[np.int64] | None = None  # (N,) ascending; None takes all

    def __len__(self) -> int:
        return len(self.x) if self.index is None else len(self.index)

    @property
    def width(self) -> int:
        """Return the number of features."""
        return int(self.x.shape[1])

    def block(self, at: slice) -> Tensor:
        """Return rows (n, D) in their own number type."""
        part = np.ascontiguousarray(self.x[at] if self.index is None else self.x[self.index[at]])
        if not part.flags.writeable:  # torch warns of what it cannot write to, although nothing here writes
            part = part.copy()
        return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), copy=False))

    def slices(self, classes: int = 1) -> list[slice]:
        """Return the blocks; ``classes`` columns of logits are made of each."""
        size = min(max(64, BLOCK // max(self.width, classes, 1)), ROWS)
        return [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def check_finite(rows: Rows) -> None:
    """Raise SlmlpError for features that are NaN or infinite, with the first such row of the caller's array."""
    count, first = 0, None
    for at in rows.slices():
        block = rows.block(at)
        if not block.is_floating_point():
            return
        bad = torch.nonzero(~torch.isfinite(block).all(dim=1))[:, 0]
        if len(bad):
            count += len(bad)
            place = at.start + int(bad[0])
            first = (place if rows.index is None else int(rows.index[place])) if first is None else first
    if count:
        raise SlmlpError(
            f"features of {count} of {len(rows)} images are NaN or infinite (first: row {first}): the encoder's "
            "training has diverged (look at its loss, and lower --base-lr), or the file of features is damaged"
        )


@dataclass(frozen=True)
class Moments:
    """Mean, standard deviation and correlations of the images, from one pass, in float64."""

    mean: Tensor  # (D,)
    std: Tensor  # (D,) of the images; 1 where a feature does not vary
    varies: Tensor  # (D,) whether it does
    correlation: Tensor | None  # (D, D); zero where a feature does not vary

    @classmethod
    def of(cls, rows: Rows, *, correlation: bool) -> Moments:
        """Read every image once.

        Deviations are taken from the mean of their own block and blocks are joined by the formula of Chan, Golub and
        LeVeque (1983), so that nothing cancels however far the features are from zero or the blocks from one another.
        """
        zeros = torch.zeros(rows.width, dtype=torch.float64)
        mean, squares, largest = zeros.clone(), zeros.clone(), zeros
        products = zeros.new_zeros(rows.width, rows.width) if correlation else None
        before = 0
        for at in rows.slices():
            block = rows.block(at).to(torch.float64)
            n = len(block)
            largest = torch.maximum(largest, block.abs().amax(0))
            middle = block.mean(0)
            block = block - middle
            apart, weight = middle - mean, before * n / (before + n)
            squares += (block * block).sum(0) + weight * apart * apart
            if products is not None:
                products.addmm_(block.T, block).addr_(apart, apart, alpha=weight)
            mean += apart * (n / (before + n))
            before += n
        std = (squares / before).sqrt()
        varies = std > CONSTANT * largest
        std = torch.where(varies, std, torch.ones_like(std))
        if products is not None:
            scale = varies / std
            products.mul_(scale[:, None]).mul_(scale / before)
        return cls(mean, std, varies, products)

    def without_correlation(self) -> Moments:
        """Return the moments alone: the products of wide features are large."""
        return replace(self, correlation=None)

    def standardise(self, block: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (n, D) minus the mean over the std; features that do not vary become 0.

        float32 images are centred in float32: the mean's rounding moves all images alike, which the bias takes up.
        """
        fine = torch.float64 if torch.float64 in (block.dtype, dtype) else torch.float32
        scale = torch.where(self.varies, 1 / self.std, torch.zeros_like(self.std))
        moved = block.to(fine) - self.mean.to(fine)
        return moved.mul_(scale.to(fine)).to(dtype)


@dataclass(frozen=True)
class Axes:
    """Principal axes of images: along them the solver scales its steps. They decide its speed, not where it ends."""

    axes: Tensor  # (D, K), orthonormal, float64
    curvature: Tensor  # (K,) variance of the images on each axis
    rest: float | None  # mean variance in the directions off the axes; None: the images do not vary there
    varies: Tensor  # (D,)

    def serves(self, moments: Moments) -> bool:
        """Whether they may be used for other images: where steps stay on the axes, these must be all there are."""
        complete = self.axes.shape[1] == int(self.varies.sum()) and torch.equal(self.varies, moments.varies)
        return complete or self.rest is not None

    def on_axes(self, theta: Tensor) -> Tensor:
        """Project parameters (C, D + 1) onto the span of the images; the penalty removes the rest anyway."""
        if self.rest is not None:
            return theta
        return torch.cat([theta[:, :-1] @ self.axes @ self.axes.T, theta[:, -1:]], dim=1)

    @classmethod
    def of(cls, rows: Rows, moments: Moments) -> Axes:
        """Find all axes on which narrow images vary, or the leading ones of wide images."""
        if moments.correlation is None:
            return cls._sketched(rows, moments)
        values, axes = torch.linalg.eigh(moments.correlation)
        keep = values > RANK * values.amax()
        return cls(axes[:, keep].mul_(moments.varies[:, None]), values[keep], None, moments.varies)

    @classmethod
    def _sketched(cls, rows: Rows, moments: Moments) -> Axes:
        """Find the leading axes of evenly spread images by subspace iteration (Halko et al. 2011, algorithm 4.4)."""
        places = np.arange(0, len(rows), max(1, -(-len(rows) // SKETCHED)))
        some = Rows(rows.x, places if rows.index is None else rows.index[places])
        images = torch.cat([moments.standardise(some.block(at), torch.float32) for at in some.slices()])  # (n, D)
        basis = torch.randn(rows.width, min(AXES, len(images)), generator=torch.Generator().manual_seed(0))
        for _ in range(3):
            basis = torch.linalg.qr(images.T @ (images @ basis))[0]
        on = images @ basis  # (n, K)
        values, turn = torch.linalg.eigh((on.T @ on).double() / len(images))
        off = float(images.square().sum(dtype=torch.float64)) / len(images) - float(values.sum())
        rest = max(off / (rows.width - len(values)), LEAST)
        return cls(basis.double() @ turn, values.clamp(min=0.0), rest, moments.varies)


class Images:
    """Standardised images in one precision: standardised once and kept, or read and standardised at every pass."""

    def __init__(self, rows: Rows, moments: Moments, dtype: torch.dtype, *, hold: bool) -> None:
        """Standardise the images now if they are kept in memory."""
        self.rows, self.moments, self.dtype = rows, moments, dtype
        self.standardised: Tensor | None = None
        if hold:
            room = rows.width + (32 if rows.width % ALIASED == 0 else 0)
            self.standardised = torch.empty(len(rows), room, dtype=dtype)[:, : rows.width]  # (N, D)
            for at in rows.slices():
                self.standardised[at] = moments.standardise(rows.block(at), dtype)

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, classes: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice, images (n, D)), block by block."""
        for at in self.rows.slices(classes):
            held = self.standardised
            yield at, self.moments.standardise(self.rows.block(at), self.dtype) if held is None else held[at]

    def logits(self, theta: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice, logits (n, C)) under parameters (C, D + 1), the last column the bias."""
        theta = theta.to(self.dtype)
        for at, block in self.blocks(len(theta)):
            yield at, torch.addmm(theta[:, -1], block, theta[:, :-1].T)
