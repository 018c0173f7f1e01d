"""Train a detector with the training loop: its objective, optimiser and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slmlp import config
from slmlp.detection.model import Detector, parameter_groups
from slmlp.detection.samples import Samples
from slmlp.detection.schedule import lr_at
from slmlp.methods.base import Objective
from slmlp.runtime.device import Compute
from slmlp.train import record
from slmlp.train.loop import State
from slmlp.train.optim import Schedule


class DetectionLoss(Objective):
    """The sum of a detector's losses. Each rank averages over its own regions, as in Detectron2."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the sum as ``loss``, and each loss under torchvision's name."""
        losses: dict[str, Any] = self.detector(images, targets)
        return {"loss": torch.stack([value.float() for value in losses.values()]).sum(), **losses}


def start(detector: Detector, cfg: config.Detection) -> State:
    """Return the state before the first update."""
    groups = parameter_groups(detector, cfg)
    return State(DetectionLoss(detector), torch.optim.SGD(groups, lr=0.0, momentum=cfg.momentum, foreach=True))


def schedule(cfg: config.Detection, total: int) -> Schedule:
    """Return the schedule of ``total`` updates."""
    return Schedule(
        rate=lambda step: lr_at(step, total, cfg), seed=cfg.seed, use="detect-regions", base_lr=cfg.base_lr,
        or_else=" or a longer --warmup",
    )  # fmt: skip


def fit(folder: Path, name: str, detector: Detector, samples: Samples, cfg: config.Detection, compute: Compute) -> None:
    """Train the detector, resuming from the newest checkpoint in ``folder``; write log and checkpoints there.

    Raises:
        KeyboardInterrupt: training was interrupted, after its state was saved.
        SlmlpError: the loss is not finite.
    """
    state, total = start(detector, cfg), samples.plan.total
    record.resume(state, folder)
    record.record(
        folder, state, samples, schedule(cfg, total), compute, name=name, log_every=max(1, min(20, total // 50)),
        checkpoint_minutes=cfg.checkpoint_minutes, workers=cfg.workers, progress=True,
    )  # fmt: skip
