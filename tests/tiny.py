"""Methods over an encoder of one convolution, for tests of what stands behind the encoder."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor, nn

from slmlp import config, methods
from slmlp.encoders import Encoder
from slmlp.encoders.encoder import EncoderSpec
from slmlp.methods.base import Facts, Method
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.train.batches import StepDataset
from slmlp.train.loop import State, train
from slmlp.train.optim import Schedule
from slmlp.train.readings import Readings

N, C, DIM, SIDE = 6, 4, 8, 8


class Pooled(nn.Module):
    """Convolution - BatchNorm - ReLU - mean over the map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, dim, 3, stride=2, padding=1), nn.BatchNorm2d(dim)
        self.calls: list[int] = []  # images of each forward pass

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return self.norm(self.conv(x)).relu().mean(dim=(2, 3))


def encoder(dim: int = DIM) -> Encoder:
    """Return an encoder of one convolution, the same each time."""
    with seeds.seeded(0, "encoder"):
        return Encoder(Pooled(dim), EncoderSpec(name="tiny", stem="small", image_size=SIDE, dim=dim))


def method(name: str, images: int = 10 * N, batch: int = N, **settings: object) -> Method:
    """Return a method of that name over the tiny encoder, its settings fitted to ``images`` and ``batch``."""
    chosen = dataclasses.replace(config.method_config(name), **settings)
    cfg, _ = methods.fit(name, chosen, Facts(images, batch, DIM))
    with seeds.seeded(0, "head"):
        return methods.build(name, encoder(), C, cfg)


def batch(views: int, local: int = 0, seed: int = 0, n: int = N) -> tuple[list[Tensor], Tensor]:
    """Return views (N, 3, 8, 8), then local crops (N, 3, 4, 4), and labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    sides = [SIDE] * views + [SIDE // 2] * local
    return [torch.randn(n, 3, s, s, generator=generator) for s in sides], torch.arange(n) % C


def rows(
    state: State, batches: StepDataset, schedule: Schedule, compute: Compute, steps: int | None = None
) -> list[dict[str, float]]:
    """Train to the end, or for some steps, and return what was read of them."""
    readings = Readings(state, schedule, 1000)
    for step in itertools.islice(train(state, batches, schedule, compute, 0), steps):
        readings.add(step)
    return readings.rest()
