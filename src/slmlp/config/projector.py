"""The projector's settings, the same for every method."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from slmlp.runtime.errors import SlmlpError

Width = int | Literal["encoder", "encoder*2"]
MULTIPLES = {"encoder": 1, "encoder*2": 2}
OF_BLOCKS = ("hidden", "norm", "act", "bias")


@dataclass(frozen=True)
class Projector:
    """The MLP between encoder and loss, discarded after pretraining.

    ``depth`` blocks of [Linear - norm - act], then a last Linear of width ``out``. ``sl`` is depth 0, ``sl-mlp`` is
    depth 1: Linear(D, D) - BatchNorm - ReLU - Linear(D, D), with D the encoder's width (the paper's Figure of SL-MLP).
    """

    depth: int = 0
    """Number of [Linear - norm - act] blocks; 0 means none."""
    hidden: Width | Literal["none"] = "encoder"
    """Width of the blocks; `encoder` is the encoder's own width (2048 for ResNet-50), `encoder*2` twice that; `none`
    leaves the Linear of the blocks out, so that a block is a normalisation and an activation."""
    out: Width | Literal["auto", "none"] = "auto"
    """Width of the last Linear; `auto` is the encoder's width behind blocks and no last Linear at depth 0."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside a block."""
    act: Literal["relu", "gelu", "none"] = "relu"
    """Activation inside a block."""
    bias: bool = True
    """Whether the Linear layers of the blocks carry a bias."""
    out_bias: bool = True
    """Whether the last Linear carries a bias."""
    l2_input: bool = False
    """Whether features are divided by their L2 norm before the projector."""
    residual: bool = False
    """Whether the projector is added to the features that it reads; its last Linear starts at zero, so that training
    starts as without a projector."""
    reweight: float = 1.0
    """Feature i of D is multiplied by reweight^(-i * 2048 / D), fixed, before the blocks (Xue 2024: 1.01 to 1.05)."""

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise SlmlpError(f"projector.depth must be 0 or more, found {self.depth}")
        if not self.reweight > 0:
            raise SlmlpError(f"projector.reweight must be above 0, found {self.reweight}")
        for name in ("hidden", "out"):
            width = getattr(self, name)
            if isinstance(width, int) and width < 1:
                raise SlmlpError(f"projector.{name} must be at least 1, found {width}")
            if isinstance(width, str) and width not in (*MULTIPLES, "none", *(("auto",) if name == "out" else ())):
                raise SlmlpError(f"projector.{name} must be a number of channels, `encoder` or `none`, found {width!r}")
        last = self.out in ("encoder", "auto" if self.depth else "encoder")
        if self.residual and not last:
            raise SlmlpError(
                "projector.residual adds the projector to the encoder's features, and ends in a Linear of their width: "
                f"projector.out must be encoder, found {self.out} at depth {self.depth}"
            )

    @property
    def idle(self) -> tuple[str, ...]:
        """Settings that may not be given: those of blocks, where there are none."""
        return () if self.depth else OF_BLOCKS

    def override(self, **given: Any) -> Projector:
        """Return this spec with the given settings; depth 0 drops ``out`` too unless ``out`` is given.

        Raises SlmlpError for settings of the blocks where there are none: the run would be another than was asked for.
        """
        if given.get("depth") == 0 and "out" not in given:
            given["out"] = "none"
        replaced = dataclasses.replace(self, **given)
        idle = [name for name in replaced.idle if name in given]
        if idle:
            raise SlmlpError(
                f"projector.{idle[0]} is of the projector's blocks, and depth 0 has none: add --projector.depth 1 "
                "(in --methods projector.depth=1), or leave it out"
            )
        return replaced

    def widths(self, encoder_dim: int) -> tuple[int, int | None]:
        """Return (hidden, out) as numbers for an encoder of width ``encoder_dim``; out None means no last Linear.

        Blocks without a Linear have the encoder's width.
        """

        def number(width: int | str) -> int:
            return width if isinstance(width, int) else MULTIPLES.get(width, 1) * encoder_dim

        if self.out == "none" or (self.out == "auto" and self.depth == 0):
            return number(self.hidden), None
        return number(self.hidden), number("encoder" if self.out == "auto" else self.out)
