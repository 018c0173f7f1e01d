"""A faster weight gradient for small feature maps in bfloat16 on CPUs.

The weight gradient is one matrix product over unfolded patches. Its gain was large under older versions of torch. Under
torch 2.14.1 on an AMD EPYC with AVX-512 bfloat16 it is hardly seen (``benchmarks/cpu_helpers.py``: user CPU time of the
training loop of resnet10, 32 px, batch 128, without the helper by with it, median and 95 % interval): 0.997 (0.981 to
1.030) on one thread; 1.041 (1.020 to 1.066) and, measured again, 1.026 (0.916 to 1.061) on two. By shape, on one thread
(``benchmarks/convolutions.py``), it is 1.6 times as fast for 3x3 kernels of stride 2 on 8 x 8 maps, and 0.9 to 1.0
times on the other maps that it takes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_POSITIONS = 49  # height * width of the output, up to which the matrix product wins
LEAST_CHANNELS = 64  # below, either way is quick


def weight_gradient(
    grad: Tensor, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient (O, C, k, l) of a convolution's weight as one matrix product.

    ``grad`` is (N, O, h, w), ``x`` (N, C, H, W); dilation 1, one group.
    """
    (k, m), (n, _, _, _), (outputs, h, w) = kernel, x.shape, grad.shape[1:]
    channels = x.shape[1]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    across = padded.stride()
    patches = padded.as_strided(
        (n, h, w, k, m, channels),
        (across[0], across[1] * stride[0], across[2] * stride[1], across[1], across[2], across[3]),
    ).reshape(n * h * w, k * m * channels)
    rows = grad.permute(0, 2, 3, 1).reshape(n * h * w, outputs)
    return (rows.t() @ patches).view(outputs, k, m, channels).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """A convolution whose weight gradient is ``weight_gradient``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            mask = [True, False, False]
            dx = torch.ops.aten.convolution_backward(
                grad, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, mask
            )[0]
        if ctx.needs_input_grad[1]:
            dw = weight_gradient(grad, x, (weight.shape[2], weight.shape[3]), ctx.stride, ctx.padding)
        return dx, dw, None, None


class SmallMapConv2d(nn.Conv2d):
    """``nn.Conv2d`` with the faster weight gradient where it applies; the same parameters, the same output."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (N, C, H, W)."""
        height = (x.shape[2] + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1  # type: ignore[operator]
        width = (x.shape[3] + 2 * self.padding[1] - self.kernel_size[1]) // self.stride[1] + 1  # type: ignore[operator]
        small = height * width <= MOST_POSITIONS
        if not (small and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu")
        result: Tensor = _Convolution.apply(x.to(dtype), self.weight.to(dtype), self.stride, self.padding)
        return result


def quicken(module: nn.Module) -> int:
    """Give the convolutions it suits the faster weight gradient, in place; return how many.

    Plain ``nn.Conv2d`` only: one group, no dilation, no bias, zero padding given in numbers, enough channels.
    """
    changed = 0
    for conv in module.modules():
        if (
            type(conv) is nn.Conv2d
            and conv.groups == 1
            and conv.dilation == (1, 1)
            and conv.bias is None
            and conv.padding_mode == "zeros"
            and isinstance(conv.padding, tuple)
            and conv.in_channels >= LEAST_CHANNELS
        ):
            conv.__class__ = SmallMapConv2d  # the parameters, buffers and key names stay what they are
            changed += 1
    return changed
