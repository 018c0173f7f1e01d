"""What an encoder costs to run: counted, so that it is the same on every machine."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch.utils.flop_counter import FlopCounterMode

from slmlp.encoders import Encoder


class Cost(TypedDict):
    """Of one encoder; None where it cannot be seen, as inside an ONNX file."""

    parameters: int | None
    multiply_adds: int | None  # of one image, in convolutions, attention and matrix products
    features: int
    side: int  # pixels, of the square that it sees


def cost(encoder: Encoder) -> Cost:
    """Return the cost of an encoder, by one forward pass of an empty image."""
    side = encoder.preprocess.size
    net, weights = encoder.backbone, list(encoder.backbone.parameters())
    parameters = sum(weight.numel() for weight in weights)
    multiply_adds = 0
    if parameters:
        was_training = net.training
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.eval()(torch.zeros(1, 3, side, side, device=weights[0].device, dtype=weights[0].dtype))
        net.train(was_training)
        multiply_adds = counter.get_total_flops() // 2  # one of each is two operations
    return {
        "parameters": parameters or None,
        "multiply_adds": multiply_adds or None,
        "features": encoder.dim,
        "side": side,
    }
