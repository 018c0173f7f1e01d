"""The steps of a run as they are done, and what is kept of them: metrics, encoders, checkpoints."""

from __future__ import annotations

import time
from typing import Any

from slmlp.runtime import device, processes, work
from slmlp.runtime.interrupt import Interrupt
from slmlp.runtime.progress import Steps, duration, say
from slmlp.runtime.ranks import any_rank, wait_for_all
from slmlp.train import checkpoint
from slmlp.train.batches import Batches
from slmlp.train.collapse import Collapse
from slmlp.train.job import Job
from slmlp.train.log import MetricsLog
from slmlp.train.loop import State, train
from slmlp.train.run import Run

LOGS_PER_EPOCH = 10


def record(run: Run, job: Job, state: State, batches: Batches, compute: device.Compute, progress: bool) -> None:
    """Run the steps that are left; write metrics, kept encoders and checkpoints.

    Of several processes the first writes, and by its clock; when any of them is asked to stop, all do after that step.
    """
    cfg, plan = job.training, batches.plan
    folder = run.path / "checkpoints"
    every = max(1, plan.steps_per_epoch // LOGS_PER_EPOCH)
    log = MetricsLog(run.path / "metrics.jsonl", state.step, every, cfg.batch_size) if processes.is_main() else None
    saved_at, began, workers, collapse = time.monotonic(), time.monotonic(), _workers(job), Collapse()
    try:
        with Interrupt() as interrupt, Steps(run.name, plan.total, state.step, cfg.batch_size, progress) as shown:
            for row in train(state, batches, cfg, compute, job.seed, workers):
                stop = any_rank(interrupt.requested)
                if log is None:
                    if stop:
                        _stop(run, state.step, plan.total)
                    continue
                log.add(row)
                if warning := collapse.look(row):
                    say(f"warning: {run.name}: {warning}")
                shown.update(state.step, f"epoch {row['epoch']}/{cfg.epochs}  loss {row['loss']:.3f}")
                ended, since = state.step % plan.steps_per_epoch == 0, time.monotonic() - saved_at
                if ended and cfg.save_every and int(row["epoch"]) % cfg.save_every == 0:
                    state.method.encoder.save(run.epoch_file(int(row["epoch"])))
                if stop or since > (60 if ended else 60 * cfg.checkpoint_minutes):
                    log.flush()
                    checkpoint.save(folder, state.step, _consistent(state, plan.steps_per_epoch))
                    saved_at = time.monotonic()
                if stop:
                    _stop(run, state.step, plan.total)
    finally:
        if log is not None:
            log.close()
    if progress:
        say(f"{run.name}: done in {duration(time.monotonic() - began)}")


def _stop(run: Run, step: int, total: int) -> None:
    wait_for_all()  # for the first, which saves: a launcher kills what is left once a process has ended
    say(f"{run.name}: stopped and saved after step {step} of {total}")
    raise KeyboardInterrupt


def _consistent(state: State, steps_per_epoch: int) -> dict[str, Any]:
    """Return the state to save; at the end of an epoch its losses are already accounted for."""
    saved = state.state_dict()
    if state.step % steps_per_epoch == 0:
        saved["losses"] = []
    return saved


def _workers(job: Job) -> int:
    """Return how many processes decode for this one: as asked, else its share of the cores less itself."""
    return max(1, work.cores() // processes.local_size() - 1) if job.options.workers < 0 else job.options.workers
