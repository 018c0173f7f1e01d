"""BatchNorm over the images of all processes, with gradients, on the CPU.

On CUDA this is PyTorch's SyncBatchNorm. That refuses CPU tensors, so on the CPU it is ``SyncNorm``: the same sums, as
one gather of means and variances on the way forward and one all-reduce of two sums on the way back. Parameters,
statistics and their names stay those of the BatchNorm that is replaced.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.runtime import distributed, processes
from slmlp.runtime.errors import SlmlpError


class SyncNorm(_BatchNorm):
    """BatchNorm of (N, C, ...) whose batch is that of all processes; they may have different N."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C, ...), found {input.ndim} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised tensor; evaluation mode is BatchNorm's own."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        y, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.num_batches_tracked is not None:  # else computed again
            self._follow(mean, variance, count)
        normalised: Tensor = y
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics; the variance without bias, as in BatchNorm."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), share)


class SyncNormAct(SyncNorm):
    """``SyncNorm`` with the dropout and activation that timm's BatchNormAct2d has behind it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Return the activated tensor."""
        activated: Tensor = self.act(self.drop(super().forward(input)))
        return activated


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the batch of all processes; C channels, M numbers each.

    Statistics and sums are in float32 (float64 for float64), whatever x is in. The passes over x are those of
    PyTorch's own BatchNorm, put together anew: its statistics, its map in evaluation mode (any map of channels that is
    a line), and the two sums of its gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        like = x.new_zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))  # (C,), sets the precision
        mean, variance = torch.batch_norm_update_stats(x, like, like.clone(), 0.0)  # of this process
        own = torch.cat([mean, variance, like.new_tensor([x.numel() // x.shape[1]])])
        everyone = torch.stack(distributed.gather_list(own))  # (processes, 2C + 1)
        means, variances, counts = everyone[:, : len(like)], everyone[:, len(like) : -1], everyone[:, -1:]
        count = counts.sum()  # M
        if count < 2:
            raise ValueError(f"expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        # of parts to the whole: the mean of variances and the variance of means (no difference of large squares)
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        y = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With y' the gradient of the output and x^ the normalised input, the gradient of the input is
        weight / sqrt(variance + eps) * (y' - mean(y') - x^ * mean(y' x^)), both means over all processes.
        """
        (x, weight, mean, variance, count), grad = ctx.saved_tensors, grads[0]
        inverse = torch.rsqrt(variance + ctx.eps)
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, torch.ones_like(mean), None, None, mean, inverse, True, ctx.eps, [False, True, True]
        )  # (C,) each: the sums of y' x^ and of y', of this process
        dx = None
        if ctx.needs_input_grad[0]:
            across, along = distributed.summed(torch.stack([of_weight, of_bias])) / count
            scale = inverse if weight is None else inverse * weight
            less = F.batch_norm(x, mean, variance, -scale * across, -scale * along, False, 0.0, ctx.eps)
            dx = torch.addcmul(less, grad, scale.view([1, -1] + [1] * (x.ndim - 2))).to(x.dtype)
        # of this process alone: DistributedDataParallel adds up parameters
        return dx, None if weight is None else of_weight, None if weight is None else of_bias, None


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with every BatchNorm in it over the batch of all processes; itself, untouched, when alone.

    Parameters and buffers are the very same tensors, under the same names.
    """
    if not processes.is_distributed():
        return module
    if device.type == "cuda":
        shared: nn.Module = convert_sync_batchnorm(module, distributed.channel())
        return shared
    return _converted(module)


def _converted(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        module.add_module(name, _converted(child))
    if not isinstance(module, _BatchNorm) or isinstance(module, SyncNorm):
        return module
    behind = isinstance(module, BatchNormAct2d)
    if not behind and type(module).forward is not _BatchNorm.forward:
        raise SlmlpError(
            f"a normalisation layer of this encoder ({type(module).__name__}) cannot be shared by several processes; "
            "choose another encoder, or run as one process"
        )
    kind = SyncNormAct if behind else SyncNorm
    converted = kind(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    converted.weight, converted.bias = module.weight, module.bias
    converted.running_mean, converted.running_var = module.running_mean, module.running_var
    converted.num_batches_tracked = module.num_batches_tracked
    if behind:
        converted.drop, converted.act = module.drop, module.act
    return converted.train(module.training)
