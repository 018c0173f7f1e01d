"""The training loop of pretraining, fine-tuning and detection: a generator over steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from slmlp.methods.base import Objective, Progress
from slmlp.runtime import distributed, processes, seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import collapse
from slmlp.train.average import Average
from slmlp.train.batches import StepDataset
from slmlp.train.optim import Schedule


@dataclass
class State:
    """What changes while a run trains; all of it is in a checkpoint."""

    model: Any  # an Objective; Any, so that callers reach the attributes of theirs
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the current epoch, where the model has a chance loss
    average: Average | None = None  # of the weights over steps

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": list(self.losses),
            **({"average": self.average.state_dict()} if self.average else {}),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a checkpoint's state; the momentum takes the memory layout of its weights, for speed."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[key] = torch.empty_like(parameter).copy_(value)
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.step, self.losses = saved["step"], list(saved["losses"])

    @property
    def kept(self) -> Any:
        """The module whose ``encoder`` and ``projector`` are kept: the average where there is one, else the model."""
        return self.average or self.model


def train(
    state: State, batches: StepDataset[Any], schedule: Schedule, compute: Compute, workers: int
) -> Iterator[dict[str, float]]:
    """Yield one row of floats after each step, from ``state.step`` to the end.

    Rows have ``step`` (counted from 1), ``epoch`` (from 1), ``loss``, ``lr``, ``seconds`` (of the step with its batch),
    what the model logs, and every 50 steps the spread of the embeddings, where the model returns any (see
    ``collapse``).

    Of several processes each trains on its part of every batch, and all hold the same weights after every step
    (statistics of a BatchNorm that is not shared are a process's own). Loss and what the model logs are means over
    all, so that all stop together; the spread of embeddings is measured by the first process, over its own images
    where the method gathers none.

    Raises:
        SlmlpError: the loss is not finite, or is still that of guessing well after warm-up.
    """
    model: Objective = state.model
    optimizer, plan = state.optimizer, batches.plan
    parallel = _parallel(state, schedule)
    own = (processes.rank(),) if processes.rank() else ()
    began = time.perf_counter()
    for batch in batches.iterate(state.step, workers):
        if plan.ends_epoch(state.step):
            state.losses = []
        if state.step and state.step == schedule.frozen_steps:  # the encoder trains from here on
            parallel = _parallel(state, schedule)
        lr = schedule.rate(state.step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        inputs = batches.inputs(batch, compute)
        # dropout and sampled regions draw from the global generator: seeded by the step, so that a resumed run draws
        # the same numbers, and by the process, so that no two processes do
        with seeds.seeded(schedule.seed, schedule.use, state.step, *own), compute.autocast():
            rows = parallel(*inputs)
        embeddings = rows.pop("embeddings", None)
        logged = distributed.means(rows)
        if not math.isfinite(logged["loss"]):
            raise SlmlpError(_not_finite(state.step, logged, lr, schedule))
        optimizer.zero_grad(set_to_none=True)
        rows["loss"].backward()
        if schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimizer.step()
        if state.average:
            state.average.update(model, state.step)
        state.step += 1
        model.after_step(Progress(state.step, plan.total, plan.steps_per_epoch))
        if model.chance_loss is not None:
            state.losses.append(logged["loss"])
        measured = embeddings is not None and state.step % collapse.EVERY == 0 and processes.is_main()
        spread = collapse.spread(embeddings) if measured else {}
        seconds = time.perf_counter() - began
        yield {"step": state.step, "epoch": plan.epoch(state.step), "lr": lr, "seconds": seconds, **logged, **spread}
        began = time.perf_counter()
        if plan.ends_epoch(state.step):
            _check_learning(state, schedule)


def _parallel(state: State, schedule: Schedule) -> nn.Module:
    """Return the model set to train and wrapped for several processes; its encoder frozen in the frozen steps.

    A frozen encoder is in evaluation mode: its features are those of the weights that it came with.
    """
    model = state.model
    model.train()
    if schedule.frozen_steps:
        frozen = state.step < schedule.frozen_steps
        model.encoder.train(not frozen).requires_grad_(not frozen)
    return distributed.parallel(model)


def _not_finite(step: int, logged: dict[str, float], lr: float, schedule: Schedule) -> str:
    others = [name for name, value in logged.items() if name != "loss" and not math.isfinite(value)]
    loss = f"{logged['loss']}" + (f" ({', '.join(others)})" if others else "")
    return (
        f"the loss is {loss} at step {step + 1} with learning rate {lr:.4g}: training has diverged. Take a smaller "
        f"--base-lr (now {schedule.base_lr:g}; try {schedule.base_lr / 2:g}){schedule.or_else}"
    )


def _check_learning(state: State, schedule: Schedule) -> None:
    """Stop a run whose mean loss over the last epoch is still that of guessing."""
    chance = state.model.chance_loss
    if chance is None or state.step < schedule.check_from:
        return
    mean = sum(state.losses) / len(state.losses)
    if mean > 0.985 * chance:
        raise SlmlpError(
            f"the loss is still {mean:.3f} after step {state.step}, that of guessing ({chance:.3f}): nothing is "
            f"learnt, and from here nothing will be. The rate is too high for this projector and encoder most often: "
            f"take a smaller --base-lr (now {schedule.base_lr:g}; try {schedule.base_lr / 4:g}); or the labels do not "
            "belong to the images"
        )
