"""Record a run: training log, progress, encoders kept along training, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slmlp.runtime import json_files, processes
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.interrupt import Interrupt
from slmlp.runtime.progress import TrainingProgress, duration, say, warn
from slmlp.runtime.ranks import highest, on_rank0, wait_for_all
from slmlp.train import checkpoint
from slmlp.train.batches import StepDataset
from slmlp.train.collapse import CollapseMonitor
from slmlp.train.log import TrainingLog
from slmlp.train.loop import State, train
from slmlp.train.optim import Schedule
from slmlp.train.readings import Readings, explained
from slmlp.train.trackers import Trackers

SAVE, STOP = 1, 2  # what the processes of a run decide after a step


def resume(state: State, folder: Path) -> None:
    """Load the newest intact checkpoint of the run in ``folder`` into ``state``, if there is one."""
    saved, warnings = on_rank0(lambda: checkpoint.load_last(folder / "checkpoints"))
    for warning in warnings:
        warn(warning)
    if saved is not None:
        of, own = saved.pop("job", None), on_rank0(lambda: _job(folder))
        if None not in (of, own) and of != own:
            raise SlmlpError(
                f"{folder / 'checkpoints'} holds the checkpoints of another run than {folder / 'config.json'}: put "
                "back those of this run, or remove them to begin again"
            )
        state.load_state_dict(saved)


def _job(folder: Path) -> str | None:
    """Return the hash of a run's settings, None where its folder has none, as a detector's."""
    file = folder / "config.json"
    about = json_files.read(file, dict[str, Any]) if file.exists() else {}
    job: str | None = (about.get("identity") or {}).get("job")
    return job


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
    save_every: int = 0,
    keep: Callable[[int], None] = lambda epoch: None,
    track: Callable[[], Trackers | None] = lambda: None,
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
        save_every: epochs between two calls of ``keep``; 0 is none.
        keep: called by the first process with the number of the epoch that ended.
        track: called by the first process: the trackers that receive the training log too.

    Raises:
        KeyboardInterrupt: the run was interrupted; its state is saved.
        SlmlpError: training fails (see ``Readings``).
    """
    plan, log = batches.plan, None
    if processes.is_main():
        log = TrainingLog(folder / "metrics.jsonl", state.step, log_every, plan.batch_size, track())
    began = saved_at = time.monotonic()
    readings, collapse, last_epoch = Readings(state, schedule, log_every), CollapseMonitor(), plan.epoch(plan.total)
    loss, first = "", state.step + 1
    if schedule.compile:
        say(f"{name}: compiling; the first step takes a minute or so")
    try:
        with Interrupt() as interrupt, TrainingProgress(name, plan.total, state.step, plan.batch_size, progress) as bar:
            for step in explained(train(state, batches, schedule, compute, workers), readings):
                if schedule.compile and step.number == first:
                    say(f"{name}: compiled in {duration(step.seconds)}")
                kept = step.ends_epoch and save_every > 0 and step.epoch % save_every == 0
                due = time.monotonic() - saved_at > (60 if step.ends_epoch else 60 * checkpoint_minutes)
                # the first process decides by its clock, any of them by a signal; all hear of it after the same step
                decided = highest(STOP if interrupt.requested else SAVE if due and log is not None else 0)
                rows = readings.add(step)
                if kept or decided or step.number == plan.total:
                    rows += readings.rest()  # judges what is kept
                if log is not None:
                    loss = _add(log, rows, collapse, name) or loss
                    bar.update(step.number, f"epoch {step.epoch}/{last_epoch}{loss}")
                    if kept:
                        keep(step.epoch)
                    if decided:
                        log.flush()
                        log.check(step.number)
                        checkpoint.save(
                            folder / "checkpoints", step.number, {**state.state_dict(), "job": _job(folder)}
                        )
                        saved_at = time.monotonic()
                if decided == STOP:
                    wait_for_all()  # for the first, which saves: a launcher kills the others once one process has ended
                    say(f"{name}: stopped and saved after step {step.number} of {plan.total}")
                    raise KeyboardInterrupt
            if log is not None:
                log.flush()
    finally:
        if log is not None:
            log.close()
    if progress:
        say(f"{name}: done in {duration(time.monotonic() - began)}")


def _add(log: TrainingLog, rows: Sequence[dict[str, float]], collapse: CollapseMonitor, name: str) -> str:
    """Write the rows of some steps, warn where features collapse, and return the last loss in words; "" of no rows."""
    for row in rows:
        log.add(row)
        if warning := collapse.update(row):
            warn(f"{name}: {warning}")
    return f"  loss {rows[-1]['loss']:.3f}" if rows else ""
