"""Small runs that tests of suites and of their encoders share: two methods of two seeds, on the drawn shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slmlp import api, config

TRAINING = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=2, augment="crop", precision="float32", base_lr=0.05
)


def trained(shapes: Path, once: Callable[..., Path]) -> list[str]:
    """Return the folders of the runs, trained by the first test process that asks."""
    names = [(method, seed) for method in ("sl", "sl-mlp") for seed in (0, 1)]

    def make(folder: Path) -> None:
        for method, seed in names:
            out = folder / f"{method}-seed{seed}"
            api.pretrain(str(shapes), out, method=method, seed=seed, training=TRAINING, progress=False)

    folder = once("suite-runs", make)
    return [str(folder / f"{method}-seed{seed}") for method, seed in names]
