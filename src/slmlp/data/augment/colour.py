"""Apply colour jitter, greyscale, solarisation and blur to a batch, with random factors per image.

Images are float (N, 3, H, W) in [0, 1], on any device; what is random is drawn before and comes as arrays of the host.
Each change equals torchvision's of the same factor (tested), which takes one
factor for a whole batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slmlp.data.augment.draws import Array, Draws
from slmlp.runtime.transfer import on_device

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2 in the digits that torchvision takes
HUE = 3  # of the four changes: brightness, contrast, saturation, hue


def luminance(x: Tensor) -> Tensor:
    """Return the grey image (N, 1, H, W)."""
    r, g, b = x.unbind(1)
    return (LUMA[0] * r).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2]).unsqueeze(1)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by ``turn`` (N, 1, 1) of the colour circle, keeping HSV saturation and value.

    Written on planes, in place, without ``%`` and ``where``: on CPUs every pass over memory counts. Sorting the
    channels gives the angle without a case for each largest one.
    """
    r, g, b = x.unbind(1)  # (N, H, W) each
    bluer, cold, least = (g < b).to(x.dtype), torch.maximum(g, b), torch.minimum(g, b)
    not_red, value, middle = (r < cold).to(x.dtype), torch.maximum(r, cold), torch.minimum(r, cold)
    angle = middle - least
    torch.minimum(least, middle, out=least)
    chroma = value.sub_(least)
    # sixths of the circle, counted from red (0 or 6), green (2) or blue (4); grey has no hue: its difference is zero
    angle.div_(chroma.clamp(min=1e-12)).add_((12 * bluer).sub_(2).mul_(not_red)).sub_(bluer, alpha=6).abs_()
    angle.add_(6 * turn)
    angle.sub_(torch.floor(angle / 6), alpha=6)
    turned = torch.empty_like(x)
    # each channel is least + chroma * the share that a trapezoid of the angle gives it, its middle at 0, 2 and 4
    for channel, share in enumerate((
        (angle - 3).abs_().sub_(1), (angle - 2).abs_().neg_().add_(2), (angle - 4).abs_().neg_().add_(2),
    )):  # fmt: skip
        torch.addcmul(least, chroma, share.clamp_(0, 1), out=turned[:, channel])
    return turned


def blended(x: Tensor, which: IntArray, factor: FloatArray) -> Tensor:
    """Return images (N, 3, H, W) with one change each: brightness (``which`` 0), contrast (1), saturation (2)."""
    (weights,) = on_device(x.device, _weights(which, factor))
    return _blend(x, weights, torch.empty_like(x))


def _weights(which: IntArray, factor: FloatArray) -> FloatArray:
    """Return the weights (*, 3) of image, grey image and mean luminance: all three changes are blends."""
    rest = 1 - factor
    return np.stack([factor, rest * (which == 2), rest * (which == 1)], axis=-1)


def _blend(x: Tensor, weights: Tensor, out: Tensor) -> Tensor:
    """Write images (N, 3, H, W) blended by ``weights`` (N, 3) to ``out``, which may be ``x``."""
    own, grey, mean = weights.view(-1, 3, 1, 1, 1).unbind(1)
    base = luminance(x)
    base = base.mean(dim=(2, 3), keepdim=True).mul_(mean).add(base.mul_(grey))
    return torch.addcmul(base, x, own, out=out).clamp_(0, 1)


def draw_jitter(strength: tuple[float, float, float, float], p: float, draws: Draws) -> dict[str, Array]:
    """Return which images are jittered, by how much each change at most ``strength``, and in which order."""
    jittered = draws.below(p)
    changes = (draws.rand(4) * 2 - 1) * torch.tensor(strength)
    return {"jittered": jittered, "changes": changes.numpy(), "orders": draws.orders(4).numpy()}


def jitter(x: Tensor, jittered: BoolArray, changes: FloatArray, orders: IntArray) -> Tensor:
    """Change brightness, contrast, saturation and hue of the selected images (N,), in place, each in its own order.

    Images are sorted by how many blends come before their hue is turned, so that one turn of all hues stands between
    the blends before it, each of a run of images, and those after it.
    """
    turned_at = np.where(jittered, (orders == HUE).argmax(axis=1), 4)
    index = turned_at.argsort(kind="stable")[: np.count_nonzero(jittered)]
    ends = np.bincount(turned_at, minlength=5).cumsum().tolist()  # where the images end that turn at 0, 1, 2, 3
    orders, changes, turned_at = orders[index], changes[index], turned_at[index]
    weights = _weights(orders, 1 + np.take_along_axis(changes, orders, 1))  # (M, 4, 3) of the changes in their order
    later = (turned_at[:, None] + np.arange(1, 4)).clip(max=3)[..., None]
    at, before, after, turn = on_device(
        x.device, index, weights, np.take_along_axis(weights, later, 1), changes[:, HUE, None, None]
    )
    part = x.index_select(0, at)
    for place in range(3):
        run = slice(ends[place], None)
        _blend(part[run], before[run, place], part[run])
    part = hue(part, turn).clamp_(0, 1)
    for place in range(3):
        run = slice(0, ends[2 - place])
        _blend(part[run], after[run, place], part[run])
    return x.index_copy_(0, at, part)


def grey(x: Tensor, chosen: BoolArray) -> Tensor:
    """Turn the selected images (N,) grey, in place."""
    (at,) = on_device(x.device, np.flatnonzero(chosen))
    return x.index_copy_(0, at, luminance(x.index_select(0, at)).expand(-1, x.shape[1], -1, -1))


def solarise(x: Tensor, chosen: BoolArray) -> Tensor:
    """Invert values of one half and more in the selected images (N,), in place."""
    (at,) = on_device(x.device, np.flatnonzero(chosen))
    part = x.index_select(0, at)
    return x.index_copy_(0, at, torch.where(part >= 0.5, 1 - part, part))


def draw_blur(sigma: tuple[float, float], p: float, draws: Draws) -> dict[str, Array]:
    """Return which images are blurred, and the sigma of each, uniform in ``sigma`` (pixels)."""
    blurred = draws.below(p)
    return {"blurred": blurred, "sigmas": (sigma[0] + (sigma[1] - sigma[0]) * draws.rand()).numpy()}


def blur(x: Tensor, blurred: BoolArray, sigmas: FloatArray, most: float) -> Tensor:
    """Blur the selected images (N,), in place: sigma (N,), at most ``most``, in pixels; mirrored at the border."""
    _, channels, height, width = x.shape
    index = np.flatnonzero(blurred)
    if not len(index):
        return x
    at, sigma = on_device(x.device, index, sigmas[index])
    radius = min(max(1, round(3 * most)), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (M*3, 2 radius + 1)
    part = x.index_select(0, at).view(1, -1, height, width)  # one group a channel: every image has its own kernel
    groups = part.shape[1]
    padded = F.pad(part, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel.view(groups, 1, 1, -1), groups=groups)
    down = F.conv2d(across, kernel.view(groups, 1, -1, 1), groups=groups)
    return x.index_copy_(0, at, down.view(-1, channels, height, width))
