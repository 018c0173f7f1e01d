"""The loop of detection: a generator of one row an update, and what is kept of them so that a killed run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slmlp import config
from slmlp.detection.model import Detector, parameter_groups
from slmlp.detection.samples import Samples
from slmlp.detection.schedule import lr_at
from slmlp.runtime import distributed, processes, seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.interrupt import Interrupt
from slmlp.runtime.progress import Steps, say
from slmlp.runtime.ranks import any_rank, on_rank0, wait_for_all
from slmlp.train import checkpoint
from slmlp.train.log import MetricsLog


@dataclass
class State:
    """What moves while a detector trains; all of it is in a checkpoint."""

    detector: Detector
    optimizer: torch.optim.Optimizer
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {"detector": self.detector.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up a checkpoint's state; the momentum takes the memory layout of its weights, for speed."""
        self.detector.load_state_dict(saved["detector"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for parameter, held in self.optimizer.state.items():
            for key, value in held.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    held[key] = torch.empty_like(parameter).copy_(value)
        self.step = saved["step"]


def start(detector: Detector, cfg: config.Detection) -> State:
    """Return the state before the first update."""
    groups = parameter_groups(detector, cfg)
    return State(detector, torch.optim.SGD(groups, lr=0.0, momentum=cfg.momentum, foreach=True))


def train(state: State, samples: Samples, cfg: config.Detection, compute: Compute) -> Iterator[dict[str, float]]:
    """Yield one row after each update, from ``state.step`` to the end.

    Rows have ``step`` (from 1), ``epoch`` (from 1), ``loss`` (the sum), each loss by torchvision's name, ``lr`` and
    ``seconds``. Of several processes each sees its part of every batch; losses are means over all of them, each of
    which weighs its own regions, as in Detectron2.

    Raises:
        SlmlpError: the loss is not finite.
    """
    detector, total = state.detector.train(), samples.plan.total
    model = distributed.parallel(detector)
    own = (processes.rank(),) if processes.rank() else ()
    began = time.perf_counter()
    for images, targets in samples.iterate(state.step):
        lr = lr_at(state.step, total, cfg)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        images = [image.to(compute.device, non_blocking=True) for image in images]
        targets = [{k: v.to(compute.device, non_blocking=True) for k, v in one.items()} for one in targets]
        # the regions to learn from are drawn from the global generator: seeded by the step, so that a resumed run
        # draws the same, and by the process, so that no two draw alike
        with seeds.seeded(cfg.seed, "detect-regions", state.step, *own):
            with compute.autocast():
                losses = model(images, targets)
            loss = torch.stack([value.float() for value in losses.values()]).sum()
            logged = distributed.means({"loss": loss, **losses})
            if not math.isfinite(logged["loss"]):
                which = [name for name, value in logged.items() if name != "loss" and not math.isfinite(value)]
                raise SlmlpError(
                    f"the loss is {logged['loss']} ({', '.join(which) or 'their sum'}) at step {state.step + 1} with "
                    f"learning rate {lr:.4g}: training has diverged. Take a smaller --base-lr (now {cfg.base_lr:g}; "
                    f"try {cfg.base_lr / 2:g}) or a longer --warmup; the last good checkpoint is kept"
                )
            state.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        state.optimizer.step()
        state.step += 1
        now = time.perf_counter()
        epoch = (state.step * samples.plan.batch_size - 1) // len(samples.plan.indices) + 1
        yield {"step": state.step, "epoch": epoch, **logged, "lr": lr, "seconds": now - began}
        began = time.perf_counter()


def record(
    folder: Path, name: str, state: State, samples: Samples, cfg: config.Detection, compute: Compute, progress: bool
) -> None:
    """Do the updates that are left, from the newest checkpoint in ``folder`` on; keep metrics and checkpoints.

    Of several processes the first writes, and by its clock; when any of them is asked to stop, all do.
    """
    kept = folder / "checkpoints"
    saved, warnings = on_rank0(lambda: checkpoint.load_last(kept))
    for warning in warnings:
        say(f"warning: {warning}")
    if saved is not None:
        state.load_state_dict(saved)
    total, saved_at = samples.plan.total, time.monotonic()
    log = None
    if processes.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        log = MetricsLog(folder / "metrics.jsonl", state.step, max(1, min(20, total // 50)), cfg.batch_size)
    try:
        with Interrupt() as interrupt, Steps(name, total, state.step, cfg.batch_size, progress) as shown:
            for row in train(state, samples, cfg, compute):
                stop = any_rank(interrupt.requested)
                if log is not None:
                    log.add(row)
                    shown.update(state.step, f"loss {row['loss']:.3f}")
                    if stop or time.monotonic() - saved_at > 60 * cfg.checkpoint_minutes:
                        log.flush()
                        checkpoint.save(kept, state.step, state.state_dict())
                        saved_at = time.monotonic()
                if stop:
                    wait_for_all()  # for the first, which saves: a launcher kills what is left once a process has ended
                    say(f"{name}: stopped and saved after step {state.step} of {total}")
                    raise KeyboardInterrupt
            if log is not None:
                log.flush()
    finally:
        if log is not None:
            log.close()
