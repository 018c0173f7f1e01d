"""The loop: the only backward() of pretraining. A generator, so that logging, progress and checkpoints are callers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from slmlp.config import Training
from slmlp.methods.base import Method, Progress
from slmlp.runtime import distributed, processes, seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import collapse, optim
from slmlp.train.batches import Batches


@dataclass
class State:
    """What moves while a run trains; all of it is in a checkpoint."""

    method: Method
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the current epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": list(self.losses),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up a checkpoint's state; the momentum takes the memory layout of its weights, for speed."""
        self.method.load_state_dict(saved["method"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for parameter, held in self.optimizer.state.items():
            for key, value in held.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    held[key] = torch.empty_like(parameter).copy_(value)
        self.step, self.losses = saved["step"], list(saved["losses"])


def train(
    state: State, batches: Batches, cfg: Training, compute: Compute, seed: int, workers: int
) -> Iterator[dict[str, float]]:
    """Yield one row of floats after each step, from ``state.step`` to the end.

    Rows have ``step`` (counted from 1), ``epoch`` (the one the step lies in, from 1), ``loss``, ``lr``, ``seconds``
    (of the step, its batch included) what the method logs,
    and every 50 steps how far the embeddings are spread (see ``watch``).

    Of several processes each sees its part of every batch, and all hold the same weights and states after every step
    (statistics of a BatchNorm that is not shared are a process's own). Loss and what the method logs are means over
    all, so that all stop together; how far embeddings are spread is looked at on the first process, over its own
    images where the method gathers none.

    Raises:
        SlmlpError: the loss is not finite, or is still that of guessing well after warm-up.
    """
    method, optimizer, plan = state.method, state.optimizer, batches.plan
    warmup = optim.warmup_steps(plan.total, plan.steps_per_epoch, cfg)
    method.train()
    model = distributed.parallel(method)
    own = (processes.rank(),) if processes.rank() else ()
    began = time.perf_counter()
    for views, labels in batches.iterate(state.step, workers):
        lr = optim.lr_at(state.step, plan.total, warmup, cfg)
        for group in optimizer.param_groups:
            group["lr"] = lr
        views = [to_device(view, compute) for view in views]
        # dropout and its kin draw from the global generator: seeded by the step, so that a resumed run draws the same,
        # and by the process, so that no two drop alike
        with seeds.seeded(seed, "dropout", state.step, *own), compute.autocast():
            rows = model(views, labels.to(compute.device, non_blocking=True))
        embeddings = rows.pop("embeddings")
        logged = distributed.means(rows)
        loss = logged["loss"]
        if not math.isfinite(loss):
            raise SlmlpError(_not_finite(state.step, loss, lr, cfg))
        optimizer.zero_grad(set_to_none=True)
        rows["loss"].backward()
        optimizer.step()
        state.step += 1
        method.after_step(Progress(state.step, plan.total, plan.steps_per_epoch))
        state.losses.append(loss)
        looked_at = state.step % collapse.EVERY == 0 and processes.is_main()
        seen = collapse.spread(embeddings) if looked_at else {}
        now = time.perf_counter()
        epoch = (state.step - 1) // plan.steps_per_epoch + 1
        yield {
            "step": state.step,
            "epoch": epoch,
            "lr": lr,
            "seconds": now - began,
            **logged,
            **seen,
        }
        began = time.perf_counter()
        if state.step % plan.steps_per_epoch == 0:
            _check_learning(state, plan.total, warmup, cfg)
            state.losses = []


def to_device(view: torch.Tensor, compute: Compute) -> torch.Tensor:
    """Return a view on the device in the memory layout of the encoder."""
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    return view.to(compute.device, non_blocking=True, memory_format=layout)


def _not_finite(step: int, loss: float, lr: float, cfg: Training) -> str:
    return (
        f"the loss is {loss} at step {step + 1} with learning rate {lr:.4g}: training has diverged. Take a smaller "
        f"--base-lr (now {cfg.base_lr:g}; try {cfg.base_lr / 2:g})"
        + (" or --precision float32" if cfg.precision != "float32" else "")
        + "; the last good checkpoint is kept"
    )


def _check_learning(state: State, total: int, warmup: int, cfg: Training) -> None:
    """Stop a run whose loss over the epoch that just ended is still that of guessing.

    Looked at after three times the warm-up, a fifth of the run and 300 steps: earlier, strong augmentation and many
    classes are enough of a reason.
    """
    chance = state.method.chance_loss
    if chance is None or state.step < max(3 * warmup, total / 5, 300):
        return
    mean = sum(state.losses) / len(state.losses)
    if mean > 0.985 * chance:
        raise SlmlpError(
            f"the loss is still {mean:.3f} after step {state.step}, that of guessing (ln C = {chance:.3f}): nothing is "
            f"learnt, and from here nothing will be. The rate is too high for this projector and encoder most often: "
            f"take a smaller --base-lr (now {cfg.base_lr:g}; try {cfg.base_lr / 4:g}); or the labels do not belong to "
            "the images. The last checkpoint is kept"
        )
