"""What the tests of losses share: drawn embeddings, and comparisons of values and gradients."""

from __future__ import annotations

import pytest
import torch

T = 0.3


def drawn(*shape, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def gradients(loss, inputs):
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def agree(ours, theirs, inputs, atol=1e-10):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=atol)
    for mine, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(mine, other, atol=atol, rtol=atol)
        assert mine.abs().max() > 1e-4  # equal zeros would agree too


def lists(*tensors):
    return [row for tensor in tensors for row in tensor.tolist()]


def near(ours, by_hand):
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(by_hand, rel=1e-12)
