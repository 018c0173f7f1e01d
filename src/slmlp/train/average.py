"""A moving average of the encoder's and projector's weights over the steps of a run."""

from __future__ import annotations

from timm.utils import ModelEmaV3
from torch import nn


class Average(nn.Module):
    """The average of a model's encoder and, where it has one, projector; buffers of BatchNorm are averaged alike.

    Each step moves it to ``decay * average + (1 - decay) * weights``, by timm's ModelEmaV3. After step t (from 0) the
    decay is at most 1 - (1 + t) ^ -2/3, so that the random weights of the start are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.ema = ModelEmaV3(_kept(model), decay=decay, use_warmup=True)

    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights after ``step``, counted from 0."""
        self.ema.update(_kept(model), step + 1)

    @property
    def encoder(self) -> nn.Module:
        """The averaged encoder."""
        encoder: nn.Module = self.ema.module["encoder"]
        return encoder

    @property
    def projector(self) -> nn.Module | None:
        """The averaged projector."""
        return getattr(self.ema.module, "projector", None)


def _kept(model: nn.Module) -> nn.ModuleDict:
    parts = {name: getattr(model, name, None) for name in ("encoder", "projector")}
    return nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
