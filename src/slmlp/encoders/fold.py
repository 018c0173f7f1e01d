"""Fold each BatchNorm into the convolution before it, for evaluation only.

A tenth to a half of the time of a forward pass goes into reading maps once more to scale and shift them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slmlp.encoders import layers
from slmlp.encoders.encoder import Encoder

TOLERANCE = (
    1e-4  # of a feature, relative to the largest: rounding is a hundredth of it, a wrong fold thousands of times
)


def folded(encoder: Encoder, wanted: Sequence[str], projector: nn.Module | None = None) -> Encoder:
    """Return a copy with the same features at the layers of ``wanted`` to rounding, or the encoder where none can be.

    Which BatchNorm follows which convolution is seen on an image of noise, and so is whether the features stayed the
    same: where a convolution's output is read by others too, or its weights are not used as they are, they do not.
    """
    first = next(encoder.parameters(), None)
    if first is None or first.dtype != torch.float32:
        return encoder
    size = encoder.preprocess.size
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(first.device)
    training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            before, pairs = _watched(encoder, x, wanted, projector)
        if not pairs:
            return encoder
        try:
            folded_encoder = copy.deepcopy(encoder)
        except Exception:  # a network of others may hold what cannot be copied
            return encoder
        for conv, norm in pairs:
            _fold(folded_encoder.backbone, conv, norm)
        with torch.inference_mode():
            after = layers.outputs(folded_encoder, x, wanted, projector)
    finally:
        encoder.train(training)
    same = all((after[k] - h).abs().max() <= TOLERANCE * h.abs().max() for k, h in before.items())
    return folded_encoder if same else encoder


def _watched(
    encoder: Encoder, x: Tensor, wanted: Sequence[str], projector: nn.Module | None
) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """Return the features of ``x``, and the (convolution, BatchNorm) where the one feeds the other, each used once."""
    produced: list[tuple[str, Tensor]] = []
    read: list[tuple[str, Tensor]] = []
    handles = []
    for name, module in encoder.backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda m, given, out, name=name: produced.append((name, out))))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(lambda m, given, name=name: read.append((name, given[0]))))
    try:
        features = layers.outputs(encoder, x, wanted, projector)
    finally:
        for handle in handles:
            handle.remove()
    producers = {
        id(out): name for name, out in produced
    }  # the lists keep the tensors alive, so that no number comes twice
    pairs = [(producers[id(given)], norm) for norm, given in read if id(given) in producers]
    convs, norms = [name for name, _ in produced], [name for name, _ in read]
    return features, [(conv, norm) for conv, norm in pairs if convs.count(conv) == norms.count(norm) == 1]


@torch.no_grad()
def _fold(backbone: nn.Module, conv_name: str, norm_name: str) -> None:
    """Move a BatchNorm's scale and shift into the convolution before it, and replace it by the identity."""
    conv, norm = backbone.get_submodule(conv_name), backbone.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
    conv.bias = nn.Parameter(shift.float(), requires_grad=False)
    parent, _, leaf = norm_name.rpartition(".")
    # timm's BatchNorms carry the activation that follows
    rest = [part for key in ("drop", "act") if isinstance(part := getattr(norm, key, None), nn.Module)]
    setattr(backbone.get_submodule(parent), leaf, nn.Sequential(*rest) if rest else nn.Identity())
