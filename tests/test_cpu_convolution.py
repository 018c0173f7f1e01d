"""The matrix-product weight gradient is the convolution's own: float64 to rounding, bfloat16 to its precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slmlp.runtime.cpu import convolution


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, 1, 4), (3, 2, 1, 8), (1, 2, 0, 7), (5, 2, 2, 9), (3, 1, 0, 5)]
)
def test_weight_gradient_equals_autograd_in_float64(kernel, stride, padding, side):
    conv = nn.Conv2d(6, 5, kernel, stride, padding, bias=False).double()
    x = torch.randn(3, 6, side, side, dtype=torch.float64)
    y = conv(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    ours = convolution.weight_gradient(grad, x, (kernel, kernel), (stride, stride), (padding, padding))
    torch.testing.assert_close(ours, conv.weight.grad, atol=1e-11, rtol=0)


def test_the_quickened_network_trains_as_the_plain_one():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1))
    plain = plain.to(memory_format=torch.channels_last)
    quick = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1))
    quick.load_state_dict(plain.state_dict())
    quick = quick.to(memory_format=torch.channels_last)
    assert convolution.quicken(quick) == 1  # the second has a bias
    assert quick.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(4, 64, 5, 5).to(memory_format=torch.channels_last)
    grads = []
    for module in (plain, quick):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            module(inputs).float().square().sum().backward()
        grads.append((module[0].weight.grad, inputs.grad))
    for a, b in zip(*grads, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(b, a, rtol=0.02, atol=0.02 * float(a.abs().max()))
    # outside autocast, and without gradients, it is the plain convolution, bit for bit
    assert torch.equal(plain(x), quick(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(x), quick(x))
