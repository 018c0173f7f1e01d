"""Record a run: training log, progress, encoders kept along training, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmlp.runtime import processes
from slmlp.runtime.device import Compute
from slmlp.runtime.interrupt import Interrupt
from slmlp.runtime.progress import TrainingProgress, duration, say
from slmlp.runtime.ranks import any_rank, on_rank0, wait_for_all
from slmlp.train import checkpoint
from slmlp.train.batches import StepDataset
from slmlp.train.collapse import CollapseMonitor
from slmlp.train.log import TrainingLog
from slmlp.train.loop import State, train
from slmlp.train.optim import Schedule


def resume(state: State, folder: Path) -> None:
    """Load the newest intact checkpoint of the run in ``folder`` into ``state``, if there is one."""
    saved, warnings = on_rank0(lambda: checkpoint.load_last(folder / "checkpoints"))
    for warning in warnings:
        say(f"warning: {warning}")
    if saved is not None:
        state.load_state_dict(saved)


def record(
    folder: Path,
    state: State,
    batches: StepDataset[Any],
    schedule: Schedule,
    compute: Compute,
    *,
    name: str,
    log_every: int,
    checkpoint_minutes: float,
    workers: int,
    progress: bool,
    on_epoch_end: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train from ``state.step`` to the end; write the training log and checkpoints into ``folder``.

    Of several processes the first writes, and by its clock; when any of them is interrupted, all stop after that step.

    Args:
        folder: receives metrics.jsonl and checkpoints/.
        state: the model and its optimizer; changed in place.
        batches: batches by step.
        schedule: rates and seed.
        compute: device and precision.
        name: the run's name in messages.
        log_every: steps between two lines of the training log.
        checkpoint_minutes: most minutes between two checkpoints.
        workers: processes that load batches ahead.
        progress: whether to show progress on stderr.
        on_epoch_end: called by the first process with the number of the epoch that ended.

    Raises:
        KeyboardInterrupt: the run was interrupted; its state is saved.
        SlmlpError: training fails (see ``train``).
    """
    plan, checkpoints = batches.plan, folder / "checkpoints"
    log = TrainingLog(folder / "metrics.jsonl", state.step, log_every, plan.batch_size) if processes.is_main() else None
    began = saved_at = time.monotonic()
    collapse, last_epoch = CollapseMonitor(), plan.epoch(plan.total)
    try:
        with Interrupt() as interrupt, TrainingProgress(name, plan.total, state.step, plan.batch_size, progress) as bar:
            for row in train(state, batches, schedule, compute, workers):
                stop = any_rank(interrupt.requested)
                if log is not None:
                    log.add(row)
                    if warning := collapse.update(row):
                        say(f"warning: {name}: {warning}")
                    bar.update(state.step, f"epoch {row['epoch']}/{last_epoch}  loss {row['loss']:.3f}")
                    epoch_ended, since = plan.ends_epoch(state.step), time.monotonic() - saved_at
                    if epoch_ended:
                        on_epoch_end(int(row["epoch"]))
                    if stop or since > (60 if epoch_ended else 60 * checkpoint_minutes):
                        log.flush()
                        log.check(state.step)
                        checkpoint.save(checkpoints, state.step, state.state_dict())
                        saved_at = time.monotonic()
                if stop:
                    wait_for_all()  # for the first, which saves: a launcher kills the others once one process has ended
                    say(f"{name}: stopped and saved after step {state.step} of {plan.total}")
                    raise KeyboardInterrupt
            if log is not None:
                log.flush()
    finally:
        if log is not None:
            log.close()
    if progress:
        say(f"{name}: done in {duration(time.monotonic() - began)}")
