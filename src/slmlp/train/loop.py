"""The training loop of pretraining, fine-tuning and detection: a generator over steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.encoders import Encoder
from slmlp.methods.base import Objective, Progress
from slmlp.runtime import distributed, processes, seeds
from slmlp.runtime.device import Compute
from slmlp.train import collapse
from slmlp.train.average import Average
from slmlp.train.batches import StepDataset, split
from slmlp.train.optim import Schedule
from slmlp.train.recompute import statistics_kept

Forward = Callable[..., dict[str, Any]]  # a model's forward pass: scalars to log, ``loss`` among them, and embeddings


@dataclass
class State:
    """What changes while a run trains; all of it is in a checkpoint."""

    model: Any  # an Objective; Any, so that callers reach the attributes of theirs
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)  # read in this epoch (see Readings), where there is a chance loss
    mean_before: float | None = None  # of the losses of the epoch before
    average: Average | None = None  # of the weights over steps
    scaler: torch.amp.GradScaler | None = None  # of the loss, in float16

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": list(self.losses),
            "mean_before": self.mean_before,
            **({"average": self.average.state_dict()} if self.average else {}),
            **({"scaler": self.scaler.state_dict()} if self.scaler else {}),
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
        if self.scaler:
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.losses, self.mean_before = saved["step"], list(saved["losses"]), saved.get("mean_before")

    @property
    def kept(self) -> Any:
        """The module whose ``encoder`` and ``projector`` are kept: the average where there is one, else the model."""
        return self.average or self.model


@dataclass
class Step:
    """One step of training; its numbers are on the device (see ``Readings``)."""

    number: int  # counted from 1
    epoch: int  # from 1
    lr: float
    seconds: float  # of the host, with the batch
    begins_epoch: bool
    ends_epoch: bool
    values: dict[str, Tensor]  # scalars: ``loss``, and what the model logs
    embeddings: Tensor | None  # (N, P), every ``collapse.EVERY`` steps, where the model returns any


def train(
    state: State, batches: StepDataset[Any], schedule: Schedule, compute: Compute, workers: int
) -> Iterator[Step]:
    """Yield each step after it was made, from ``state.step`` to the end, without waiting for the device.

    Of several processes each trains on its part of every batch, and all hold the same weights after every step
    (statistics of a BatchNorm that is not shared are a process's own). The embeddings are those of the first process,
    over its own images where the method gathers none.
    """
    model: Objective = state.model
    plan = batches.plan
    parallel = _parallel(state, schedule)
    began = time.perf_counter()
    for batch in batches.iterate(state.step, workers):
        begins = plan.ends_epoch(state.step)
        if state.step and state.step == schedule.frozen_steps:  # the encoder trains from here on
            parallel = _parallel(state, schedule)
        lr = schedule.rate(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        rows = _gradients(state, parallel, batches.inputs(batch, compute), schedule, compute)
        embeddings = rows.pop("embeddings", None)
        _move(state, schedule)
        state.step += 1
        model.after_step(Progress(state.step, plan.total, plan.steps_per_epoch))
        measured = state.step % collapse.EVERY == 0 and processes.is_main()
        yield Step(
            state.step, plan.epoch(state.step), lr, time.perf_counter() - began, begins, plan.ends_epoch(state.step),
            rows, embeddings if measured else None,
        )  # fmt: skip
        began = time.perf_counter()


def _gradients(
    state: State, parallel: Forward, inputs: tuple[Any, ...], schedule: Schedule, compute: Compute
) -> dict[str, Tensor]:
    """Give every weight its gradient; return what the model returns, numbers as means over the parts of the batch."""
    state.optimizer.zero_grad(set_to_none=True)
    parts = split(inputs, schedule.accumulate)
    made: list[dict[str, Tensor]] = []
    for number, part in enumerate(parts):
        # dropout and sampled regions draw from the global generator: seeded by the step, so that a resumed run draws
        # the same numbers, and by the process and part, so that no two draw the same
        words: list[str | int] = [processes.rank()] if processes.rank() else []
        words += [f"part {number}"] if number else []
        with seeds.seeded(schedule.seed, schedule.use, state.step, *words), compute.autocast():
            rows = parallel(*part)
        loss = rows["loss"] / len(parts) if len(parts) > 1 else rows["loss"]
        with statistics_kept(state.model) if schedule.recomputes else contextlib.nullcontext():
            scaled = state.scaler.scale(loss) if state.scaler else loss
            scaled.backward()
        made.append({name: value.detach() for name, value in rows.items()})
    if len(parts) == 1:
        return made[0]
    means = {name: torch.stack([rows[name] for rows in made]).mean(0) for name in made[0] if name != "embeddings"}
    return means | {name: torch.cat([rows[name] for rows in made]) for name in made[0] if name == "embeddings"}


def _move(state: State, schedule: Schedule) -> None:
    """Let the optimizer move the weights, and the average follow them."""
    scaler = state.scaler
    if schedule.clip_norm is not None:
        if scaler:
            scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), schedule.clip_norm)
    if scaler:
        scaler.step(state.optimizer)  # leaves the weights where they are if a gradient has overflown
        scaler.update()
    else:
        state.optimizer.step()
    if state.average:
        state.average.update(state.model, state.step)


def _parallel(state: State, schedule: Schedule) -> Forward:
    """Return the model set to train and wrapped for several processes; its encoder frozen in the frozen steps.

    A frozen encoder is in evaluation mode: its features are those of the weights that it came with. So are the
    BatchNorm layers of an encoder, and of a method's copies of it, whose statistics are frozen.
    """
    model = state.model
    model.train()
    if schedule.frozen_statistics:
        for encoder in (part for part in model.modules() if isinstance(part, Encoder)):
            for norm in (part for part in encoder.modules() if isinstance(part, _BatchNorm)):
                norm.eval()
    if schedule.frozen_steps:
        frozen = state.step < schedule.frozen_steps
        model.encoder.requires_grad_(not frozen)
        if frozen:
            model.encoder.eval()
    parallel = distributed.parallel(model)
    return torch.compile(parallel) if schedule.compile else parallel
