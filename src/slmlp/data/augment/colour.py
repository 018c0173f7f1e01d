"""Apply colour jitter, greyscale, solarisation and blur to a batch, with random factors per image.

Images are float (N, 3, H, W) in [0, 1]. Each change equals torchvision's of the same factor (tested), which takes one
factor for a whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from slmlp.data.augment.draws import Draws

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


def blended(x: Tensor, which: Tensor, factor: Tensor) -> Tensor:
    """Return images (N, 3, H, W) with one change each: brightness (``which`` 0), contrast (1), saturation (2)."""
    return _blend(x, _weights(which, factor).to(x.device), torch.empty_like(x))


def _weights(which: Tensor, factor: Tensor) -> Tensor:
    """Return the weights (*, 3) of image, grey image and mean luminance: all three changes are blends."""
    rest = 1 - factor
    return torch.stack([factor, rest * (which == 2), rest * (which == 1)], dim=-1)


def _blend(x: Tensor, weights: Tensor, out: Tensor) -> Tensor:
    """Write images (N, 3, H, W) blended by ``weights`` (N, 3) to ``out``, which may be ``x``."""
    own, grey, mean = weights.view(-1, 3, 1, 1, 1).unbind(1)
    base = luminance(x)
    base = base.mean(dim=(2, 3), keepdim=True).mul_(mean).add(base.mul_(grey))
    return torch.addcmul(base, x, own, out=out).clamp_(0, 1)


def jitter(x: Tensor, strength: tuple[float, float, float, float], p: float, draws: Draws) -> Tensor:
    """Return the batch with brightness, contrast, saturation and hue changed, in a random order per image.

    Images are sorted by how many blends come before their hue is turned, so that one turn of all hues stands between
    the blends before it, each of a run of images, and those after it.
    """
    chosen = draws.rand() < p
    changes = (draws.rand(4) * 2 - 1) * torch.tensor(strength)
    orders = draws.orders(4)
    turned_at = torch.where(chosen, (orders == HUE).int().argmax(dim=1), 4)
    index = turned_at.argsort()[: int(chosen.sum())]
    ends = turned_at.bincount(minlength=5).cumsum(0).tolist()  # where the images end that turn at 0, 1, 2, 3
    orders, changes, turned_at = orders[index], changes[index], turned_at[index]
    weights = _weights(orders, 1 + changes.gather(1, orders))  # (M, 4, 3) of the four changes in their order
    later = (turned_at[:, None] + torch.arange(1, 4)).clamp_(max=3)[..., None].expand(-1, -1, 3)
    before, after = weights.to(x.device), weights.gather(1, later).to(x.device)
    part = x.index_select(0, index.to(x.device))
    for turn in range(3):
        run = slice(ends[turn], None)
        _blend(part[run], before[run, turn], part[run])
    part = hue(part, changes[:, HUE].to(x.device).view(-1, 1, 1)).clamp_(0, 1)
    for turn in range(3):
        run = slice(0, ends[2 - turn])
        _blend(part[run], after[run, turn], part[run])
    return x.index_copy(0, index.to(x.device), part)


def grey(x: Tensor, chosen: Tensor) -> Tensor:
    """Return the batch with the selected images (N,) in grey."""
    at = chosen.nonzero().squeeze(1).to(x.device)
    return x.index_copy(0, at, luminance(x[at]).expand(-1, x.shape[1], -1, -1))


def solarise(x: Tensor, chosen: Tensor) -> Tensor:
    """Return the batch with values of one half and more inverted in the selected images (N,)."""
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1) & (x >= 0.5), 1 - x, x)


def blur(x: Tensor, sigma: tuple[float, float], p: float, draws: Draws) -> Tensor:
    """Blur each selected image with a random sigma (pixels), mirrored at the border."""
    _, channels, height, width = x.shape
    chosen = draws.rand() < p
    sigmas = sigma[0] + (sigma[1] - sigma[0]) * draws.rand()
    index = chosen.nonzero().squeeze(1)
    if not len(index):
        return x
    radius = min(max(1, round(3 * sigma[1])), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigmas[index].to(x.device).unsqueeze(1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (M*3, 2 radius + 1)
    part = x[index.to(x.device)].reshape(1, -1, height, width)  # one group a channel: every image has its own kernel
    groups = part.shape[1]
    padded = F.pad(part, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel.view(groups, 1, 1, -1), groups=groups)
    down = F.conv2d(across, kernel.view(groups, 1, -1, 1), groups=groups)
    return x.index_copy(0, index.to(x.device), down.view(-1, channels, height, width))
