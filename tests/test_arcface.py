"""ArcFace against pytorch-metric-learning, by hand, at its edges, and without waiting for the device."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss

from loss_checks import T, agree, drawn, gradients, lists, near
from slmlp.methods.losses import arcface, products, unit


def arcface_loss(z, weights, y, margin, temperature):
    """Written as ``SL.forward`` composes it; that the method does so is tested with the method."""
    logits = products(unit(z), unit(weights)) / temperature
    return F.cross_entropy(arcface(logits, y, margin, temperature), y)


@pytest.mark.parametrize("temperature", [1 / 64, 0.1, 0.5])
@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5, 1.5])
def test_arcface_equals_pytorch_metric_learnings(margin, temperature):
    weights, y = drawn(5, 6, seed=1), torch.arange(12) % 5
    # images on every side of their class: near it, across, and where angle and margin pass pi
    z = (drawn(12, 6) * 0.3 + torch.linspace(-1.5, 1.5, 12)[:, None] * weights[y]).detach().requires_grad_()
    angles = (unit(z) * unit(weights)[y]).sum(1).acos()
    assert (angles > math.pi - margin).any() or margin == 0.1
    assert (angles < math.pi - margin).any()
    theirs = ArcFaceLoss(5, 6, margin=math.degrees(margin), scale=1 / temperature)
    theirs.W = torch.nn.Parameter(weights.detach().T.clone())
    loss, other = arcface_loss(z, weights, y, margin, temperature), theirs(z, y)
    agree(loss, other, [z])
    torch.testing.assert_close(gradients(loss, [weights])[0], gradients(other, [theirs.W])[0].T, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("margin", [0.3, 1.2])
def test_arcface_by_hand(margin):
    logits, y = torch.linspace(-0.99, 0.99, 60, dtype=torch.float64).reshape(12, 5) / T, torch.arange(12) % 5
    found = arcface(logits, y, margin, T)
    for i, row in enumerate(lists(logits)):
        for c, logit in enumerate(row):
            angle = math.acos(logit * T)
            beyond = angle > math.pi - margin
            own = math.cos(angle) - margin * math.sin(margin) if beyond else math.cos(angle + margin)
            near(found[i, c], own / T if c == y[i] else logit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_at_an_angle_of_zero_and_pi_has_its_value_and_a_gradient(dtype):
    weights = drawn(4, 6, seed=1, grad=False).to(dtype)
    y, margin = torch.arange(4).repeat(2), 0.3
    z = (torch.cat([3 * weights, -2 * weights])).requires_grad_()  # each class itself, and its opposite
    logits = products(unit(z), unit(weights)) / T
    found = arcface(logits, y, margin, T)
    own = found[range(8), y] * T
    room = 2 * math.sqrt(torch.finfo(dtype).eps)
    torch.testing.assert_close(own[:4], torch.full((4,), math.cos(margin), dtype=dtype), atol=room, rtol=0)
    torch.testing.assert_close(
        own[4:], torch.full((4,), -1 - margin * math.sin(margin), dtype=dtype), atol=room, rtol=0
    )
    (grad,) = gradients(F.cross_entropy(found, y), [z])
    assert torch.isfinite(grad).all()
    assert grad.norm(dim=1).max() < 10 / T  # acos would give a slope without bound
    beyond = torch.tensor([[1.0000002, 0.0], [-1.0000002, 0.0]], dtype=dtype) / T  # as rounding makes them
    assert torch.isfinite(arcface(beyond, torch.tensor([0, 0]), margin, T)).all()


@pytest.mark.parametrize("margin", [0.1, 0.3, 1.5])
def test_arcface_falls_all_the_way_as_the_angle_grows(margin):
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    logits = torch.stack([angles.cos(), torch.zeros_like(angles)], dim=1) / T
    own = arcface(logits, torch.zeros(2001, dtype=torch.long), margin, T)[:, 0]
    assert (own.diff() < 0).all()
    assert (own < logits[:, 0]).all()


def test_arcface_never_waits_for_the_device():
    """Tensors without data have nothing to wait for: a boolean index, ``item`` or ``nonzero`` fails on them."""
    logits, y = torch.empty(7, 5, device="meta"), torch.empty(7, dtype=torch.long, device="meta")
    assert arcface(logits, y, 0.3, T).shape == (7, 5)
    with pytest.raises(Exception, match="meta"):
        logits[logits > 0]


def test_its_gradients_are_those_of_small_differences():
    y = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda a, b: arcface_loss(a, b, y, 0.4, T), (drawn(4, 3), drawn(4, 3, seed=1)))


def test_it_is_float32_under_autocast_to_the_bit():
    a, b, y = drawn(6, 4).float(), drawn(6, 4, seed=1).float(), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = arcface_loss(a, b, y, 0.3, 0.1)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, arcface_loss(a, b, y, 0.3, 0.1))
