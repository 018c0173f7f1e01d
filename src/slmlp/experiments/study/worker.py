"""Perform one task of a study, in this process or in a process of the pool."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from slmlp import config
from slmlp.experiments.study import grid
from slmlp.experiments.study.context import Context, open_study
from slmlp.experiments.study.task import Task
from slmlp.runtime import interrupt, plugins, processes

BUSY = threading.Lock()  # held while this process of the pool performs a task
STOPPED = threading.Event()  # set when the study asked for the end, perhaps before a task began


def perform(context: Context, task: Task) -> None:
    """Train and evaluate one run; its numbers are then in the study's results file."""
    if task.kind == "grid":
        grid.train_and_score(context, context.spec(task.spec), task.rate)
    else:
        context.finish(context.spec(task.spec), task.rate, task.seed)


def is_done(context: Context, task: Task) -> bool:
    """Return whether ``perform`` would do nothing: the run is trained and all its numbers are in the results."""
    if task.kind == "grid":
        return grid.done(context, context.spec(task.spec), task.rate)
    return context.done(context.spec(task.spec), task.rate, task.seed)


def start(stop: Connection, code: Mapping[str, bytes]) -> None:
    """Prepare a process of the pool: it saves its run and ends when the other end of ``stop`` closes.

    Ctrl-C in a terminal reaches the whole group of processes; here it is ignored, since the study's own process asks
    for the stop, and a second signal would end a run before it is saved. ``code`` is the text of the plug-ins' files.
    """
    plugins.hold(code)
    for name in os.environ.keys() - processes.alone_environment().keys():
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _interrupt(number: int, frame: FrameType | None) -> None:
    if interrupt.importing(frame):  # torch may abort on it; what is lost is what a kill loses
        os._exit(130)
    raise KeyboardInterrupt


def _watch(stop: Connection) -> None:
    parent = os.getppid()
    stop.poll(None)
    STOPPED.set()
    if BUSY.locked():
        os.kill(os.getpid(), signal.SIGTERM)
    while os.getppid() == parent:  # which ends this process when all have saved their runs
        time.sleep(0.5)
    with BUSY:
        os._exit(130)  # nobody is left to do so


def run(source: str, folder: Path, cfg: config.Study, task: Task) -> None:
    """Perform a task in a process of the pool."""
    with BUSY:
        if STOPPED.is_set():
            raise KeyboardInterrupt
        perform(_opened(source, folder, cfg), task)


@functools.lru_cache(maxsize=1)
def _opened(source: str, folder: Path, cfg: config.Study) -> Context:
    """Open the study once for all tasks of this process."""
    import torch

    if cfg.training.threads:
        torch.set_num_threads(cfg.training.threads)
    return open_study(source, folder, cfg, quiet=True)
