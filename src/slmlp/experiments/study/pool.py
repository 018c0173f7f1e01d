"""Train several runs of a study side by side, each in a process of its own.

Small encoders leave most of a machine idle when one run is spread over all cores, so each run gets a share of the
threads. Its result does not depend on what runs beside it. The processes are loky's: unlike those of multiprocessing
they do not import the user's script again, so a script without a main guard may call ``slmlp.study``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait

from loky import ProcessPoolExecutor
from loky.backend import resource_tracker

from slmlp import config
from slmlp.experiments.study import worker
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.task import Task
from slmlp.runtime import plugins
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say


def run_all(
    context: Context, tasks: Sequence[Task], finished: Callable[[Task], None] = lambda task: None
) -> dict[Task, str]:
    """Do every task that is not done yet; return the error of each run that could not be trained.

    ``finished`` is called after each.

    An error stops nothing but its own run; the caller decides what it means. On Ctrl-C and SIGTERM every run is saved
    first. A process takes seconds to start, so none does for what is done.

    Raises:
        SlmlpError: a process was killed.
    """
    tasks = [task for task in tasks if not worker.is_done(context, task)]
    parallel = min(workers(context.cfg), len(tasks))
    if parallel > 1:
        return _side_by_side(context, tasks, parallel, finished)
    errors = {}
    for task in tasks:
        try:
            worker.perform(context, task)
        except SlmlpError as error:
            errors[task] = _told(task, error)
        finished(task)
    return errors


def workers(cfg: config.Study) -> int:
    """Return how many runs are trained side by side: as asked, else two where there are two cores and no GPU."""
    if cfg.parallel is not None:
        return cfg.parallel
    import torch

    return 1 if torch.cuda.is_available() or cfg.training.device not in ("auto", "cpu") else min(2, os.cpu_count() or 1)


def _side_by_side(
    context: Context, tasks: Sequence[Task], parallel: int, finished: Callable[[Task], None]
) -> dict[Task, str]:
    threads = context.cfg.training.threads or max(1, (os.cpu_count() or 1) // parallel)
    cfg = dataclasses.replace(context.cfg, training=dataclasses.replace(context.cfg.training, threads=threads))
    waiting, errors = list(tasks), dict[Task, str]()
    running: dict[Future[None], Task] = {}
    # Processes save and end when the other end of this pipe closes, which it does too when this process is killed.
    stop, keep_going = multiprocessing.Pipe(duplex=False)
    with _quiet_trackers():
        pool = ProcessPoolExecutor(
            parallel, initializer=worker.start, initargs=(stop, plugins.held()), env={"OMP_NUM_THREADS": str(threads)}
        )
        for tracker in (resource_tracker, multiprocessing.resource_tracker):
            tracker.ensure_running()  # where one is started below it lets Ctrl-C through again, and the rest has none
    try:
        while waiting or running:
            while waiting and len(running) < parallel:  # no more than there are processes, so that a stop is quick
                task = waiting.pop(0)
                with _ctrl_c_later():  # a process that starts now would meet it with a traceback, amid its imports
                    running[pool.submit(worker.run, context.source, context.folder, cfg, task)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    future.result()
                except SlmlpError as error:
                    errors[task] = _told(task, error)
                except BrokenExecutor as error:
                    raise SlmlpError(
                        f"a process was killed while {_listed([task, *running.values()])} trained (out of memory?): "
                        "run the same command again, or with --parallel 1"
                    ) from error
                finished(task)
    finally:
        keep_going.close()
        try:
            pool.shutdown()
        except KeyboardInterrupt:  # the second Ctrl-C: at once
            pool.shutdown(kill_workers=True)
            raise
    return errors


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back meanwhile, also from processes that are started; ``worker.start`` ignores it in them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet_trackers() -> Iterator[None]:
    """Let processes that start meanwhile not warn of what they clean up after one that ended at once."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _told(task: Task, error: SlmlpError) -> str:
    """Say the error of a run when it ends, hours before the others do, and return it."""
    say(f"{task.words} cannot be trained; the others go on: {error}")
    return str(error)


def _listed(tasks: Sequence[Task]) -> str:
    return " and ".join(task.words for task in tasks)
