"""The base class of methods, and parts that several of them share.

Letters: N images, V views, D encoder width, P embedding width, C classes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder

SMALL_ENCODER = 1024  # channels; below, the sources' settings for small images are used where they give any


class Progress(NamedTuple):
    """The state of training after a step."""

    step: int
    total: int
    steps_per_epoch: int

    @property
    def share(self) -> float:
        """Share of training done, 0 to 1."""
        return self.step / self.total

    @property
    def epochs(self) -> float:
        """Epochs done, with their fraction."""
        return self.step / self.steps_per_epoch


@dataclass(frozen=True)
class Facts:
    """The sizes that settings left to ``auto`` depend on."""

    training_images: int
    batch_size: int
    encoder_dim: int


class Objective(nn.Module, ABC):
    """A module that the training loop can train: its forward pass returns the loss."""

    @abstractmethod
    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        """Return {"loss": scalar, and scalars to log}; "embeddings" (N, P) without gradient, where there are any."""

    def after_step(self, progress: Progress) -> None:
        """Move what no gradient moves (EMA copies, queues)."""

    @property
    def chance_loss(self) -> float | None:
        """The loss of guessing, if known; training that stays at this loss is stopped."""
        return None


class Method(Objective):
    """An encoder, the modules behind it in pretraining, and the loss. Independent of device, process and logger."""

    num_views = 1
    gradient_views: int | None = None  # views that pass the encoder with a gradient; None is all
    target_views = 0  # views that pass a target without one
    sync_norms = True  # whether BatchNorm sees the batch of all processes

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.MethodConfig) -> None:
        super().__init__()
        self.encoder, self.cfg = encoder, cfg

    @staticmethod
    def fit(cfg: Any, facts: Facts) -> tuple[Any, list[str]]:
        """Return the settings with every ``auto`` decided, and a note for each value that is not the source's.

        Raises:
            SlmlpError: settings that cannot work with these facts.
        """
        return cfg, []

    @abstractmethod
    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return {"loss": scalar, "embeddings": (N, P) without gradient, and scalars to log}.

        ``views`` are (N, 3, H, W) each: ``num_views`` of them, then local crops where the method takes them;
        ``labels`` (N,).
        """

    @property
    def passes(self) -> float:
        """Training passes of the encoder over full-size views, of one image; a pass without gradient is a third."""
        with_gradient = self.num_views if self.gradient_views is None else self.gradient_views
        return with_gradient + self.target_views / 3


def encode(encoder: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """Return the features (N, D) of each view; views of one size go through the encoder together."""
    features: list[Tensor] = []
    start = 0
    for end in range(1, len(views) + 1):
        if end == len(views) or views[end].shape != views[start].shape:
            together = encoder(torch.cat(list(views[start:end])) if end - start > 1 else views[start])
            features += together.chunk(end - start)
            start = end
    return features


def ema_copy(*parts: nn.Module) -> nn.Sequential:
    """Return a copy of the parts, one behind the other, that no gradient reaches."""
    return nn.Sequential(*(copy.deepcopy(part) for part in parts)).requires_grad_(False)


@torch.no_grad()
def ema_update(target: nn.Module, online: Sequence[nn.Module], momentum: float) -> None:
    """Move each parameter of ``target`` to ``momentum * target + (1 - momentum) * online``.

    Statistics of BatchNorm are not moved: those of the target come from its own forward passes.
    """
    mine: list[Tensor] = list(target.parameters())
    theirs: list[Tensor] = [p for part in online for p in part.parameters()]
    torch._foreach_lerp_(mine, theirs, 1 - momentum)


class Queue(nn.Module):
    """The last ``size`` rows that were pushed, newest over oldest.

    Its place is known to the host, so that no question about it waits for the device; PyTorch keeps it in the state.
    """

    rows: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.pushed = 0  # rows, ever

    @property
    def full(self) -> bool:
        """Whether every row was written at least once."""
        return self.pushed >= len(self.rows)

    @torch.no_grad()
    def push(self, rows: Tensor) -> Tensor:
        """Write rows (M, width) over the oldest, and return the positions (M,) they were written to."""
        size = len(self.rows)
        rows = rows[-size:]
        at = (self.pushed + torch.arange(len(rows), device=rows.device)) % size
        self.rows[at] = rows.to(self.rows.dtype)
        self.pushed += len(rows)
        return at

    def get_extra_state(self) -> Tensor:
        """Return what the state has beside the rows."""
        return torch.tensor(self.pushed)

    def set_extra_state(self, state: Tensor) -> None:
        """Take what a state has beside the rows."""
        self.pushed = int(state)
