"""The images of a fit, read block by block: from an array in memory, or from a file that is larger than memory.

Letters: N images, D features, R principal axes. One pass gives mean, standard deviation and covariance; every further
pass hands out blocks of standardised images. What is kept of all images is the caller's array, and no more than
``Images`` is allowed to hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.errors import SlmlpError

Array = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer] | npt.NDArray[np.bool_]

CONSTANT = 1e-7  # a feature whose std is below this share of its largest entry is rounding noise of float32
RANK = 1e-14  # an axis whose share of the largest variance is below this is rounding noise of float64
BLOCK = 2 << 20  # entries of the widest matrix that is made of a block of images (8 MB in float32)
ROWS = 4096  # most images of a block on a CPU: what is made of them stays in its caches
ALIASED = (
    1024  # rows of a multiple of this many float32 fall on the same lines of a cache, and products take half longer
)


@dataclass(frozen=True)
class Rows:
    """Some rows of an array (M, D), which may be memory-mapped and of any number type; only blocks are read."""

    x: Array
    index: npt.NDArray[np.int64] | None  # (N,) ascending; None takes all
    device: torch.device

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.x) if self.index is None else len(self.index)

    @property
    def width(self) -> int:
        """Return the number of features."""
        return int(self.x.shape[1])

    def block(self, at: slice) -> Tensor:
        """Return rows (n, D) in their own number type on the device."""
        part = np.ascontiguousarray(self.x[at] if self.index is None else self.x[self.index[at]])
        if not part.flags.writeable:  # torch warns of what it cannot write to, although nothing here writes
            part = part.copy()
        return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), copy=False)).to(self.device)

    def slices(self, classes: int = 1) -> list[slice]:
        """Return the blocks; ``classes`` columns of logits are made of each."""
        size = max(64, BLOCK // max(self.width, classes, 1))
        size = min(size, ROWS) if self.device.type == "cpu" else size
        return [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def check_finite(rows: Rows) -> None:
    """Refuse features that are NaN or infinite, naming the first such row of the caller's array."""
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
    """What one pass over the images finds, in float64."""

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
        zeros = torch.zeros(rows.width, dtype=torch.float64, device=rows.device)
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
class Basis:
    """Principal axes of some images; zero on the features that do not vary."""

    axes: Tensor  # (D, R), orthonormal, float64
    curvature: Tensor  # (R,) variance of the images on each axis
    varies: Tensor  # (D,)

    def serves(self, moments: Moments) -> bool:
        """Whether the axes span all that these images can vary in.

        Then they need not be these images' own: a rotation changes neither the loss nor the penalty.
        """
        return self.axes.shape[1] == int(self.varies.sum()) and torch.equal(self.varies, moments.varies)

    @classmethod
    def of(cls, rows: Rows, moments: Moments) -> Basis:
        """Return the axes on which the images vary; the penalised weights along the others are zero anyway."""
        if moments.correlation is not None:
            values, axes = torch.linalg.eigh(moments.correlation)
            keep = values > RANK * values.amax()
            return cls(axes[:, keep].mul_(moments.varies[:, None]), values[keep], moments.varies)
        # Fewer images than features: the products of the images with one another have the same eigenvalues, and
        # their eigenvectors, carried over, the same span. QR makes these exactly orthonormal.
        images = torch.cat([moments.standardise(rows.block(at), torch.float64) for at in rows.slices()])
        values, vectors = torch.linalg.eigh(images @ images.T / len(images))
        keep = torch.flip(values > RANK * values.amax(), [0])
        carried = images.T @ torch.flip(vectors, [1])[:, keep]
        return cls(torch.linalg.qr(carried)[0], torch.flip(values, [0])[keep], moments.varies)


class Images:
    """Standardised images in one precision: rotated once and held, or read and standardised at every pass.

    Parameters are rotated ones (C, R + 1), the last column being the bias. Where the images are not held it is the
    parameters that are rotated at each pass, which costs as much as D more images.
    """

    def __init__(self, rows: Rows, moments: Moments, basis: Basis, dtype: torch.dtype, *, hold: bool) -> None:
        """Rotate the images now if they are to be held."""
        self.rows, self.moments, self.dtype = rows, moments, dtype
        self.axes = basis.axes.to(dtype)  # (D, R)
        self.held: Tensor | None = None
        if hold:
            wide = self.axes.shape[1]
            room = wide + (32 if wide % ALIASED == 0 else 0)
            self.held = torch.empty(len(rows), room, dtype=dtype, device=rows.device)[:, :wide]  # (N, R)
            for at in rows.slices():
                torch.mm(moments.standardise(rows.block(at), dtype), self.axes, out=self.held[at])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def blocks(self, classes: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield where a block stands and its images (n, R) or, where they are not held, (n, D)."""
        for at in self.rows.slices(classes):
            yield at, self.moments.standardise(self.rows.block(at), self.dtype) if self.held is None else self.held[at]

    def outward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights for ``blocks`` (C, R or D) and the biases (C,) of parameters (C, R + 1)."""
        weight = theta[:, :-1]
        return weight.contiguous() if self.held is not None else weight @ self.axes.T, theta[:, -1]

    def inward(self, slope: Tensor) -> Tensor:
        """Turn a gradient over the weights of ``outward`` into one over rotated weights (C, R)."""
        return slope if self.held is not None else slope.to(self.dtype) @ self.axes

    def logits(self, theta: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield where a block stands and its logits (n, C)."""
        weight, bias = self.outward(theta.to(self.dtype))
        for at, block in self.blocks(len(theta)):
            yield at, torch.addmm(bias, block, weight.T)
