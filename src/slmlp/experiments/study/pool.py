"""Runs of a study side by side, in processes that end when the study does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slmlp import config
from slmlp.experiments.study.task import Task
from slmlp.experiments.study.worker import done, perform
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError

if TYPE_CHECKING:
    from slmlp.experiments.study.context import Context

PATIENCE = 2.0  # seconds for a process without a task to end by itself


def run_all(context: Context, tasks: Sequence[Task]) -> dict[Task, str]:
    """Do every task that is not done yet; return the error of each run that could not be trained.

    An error stops nothing but its own run; the caller decides what it means. Ctrl-C and SIGTERM reach every process,
    each of which saves its run first. A process takes seconds to start, so none does for what is done.
    """
    source, folder, cfg = context.source, context.folder, context.cfg
    tasks = [task for task in tasks if not done(context, task)]
    parallel = min(workers(cfg), len(tasks))
    if parallel <= 1:
        return _one_by_one(source, folder, cfg, tasks)
    threads = cfg.training.threads or max(1, (os.cpu_count() or 1) // parallel)
    shared = dataclasses.replace(cfg, training=dataclasses.replace(cfg.training, threads=threads))
    waiting, errors = list(tasks), dict[Task, str]()
    processes = [_start(threads) for _ in range(parallel)]
    at: dict[subprocess.Popen[str], Task] = {}
    try:
        with selectors.DefaultSelector() as answers:
            for process in processes:
                answers.register(process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]
                at[process] = _give(process, source, folder, shared, waiting.pop(0))
            while at:
                for key, _ in answers.select():
                    process = key.data
                    task = at.pop(process)
                    problem = _answer(process, task)
                    if problem:
                        errors[task] = problem
                    if waiting:
                        at[process] = _give(process, source, folder, shared, waiting.pop(0))
                    else:
                        answers.unregister(process.stdout)
    finally:
        _stop(processes)
    return errors


def workers(cfg: config.Study) -> int:
    """Return how many runs are trained side by side: as asked, else two where there are two cores and no GPU."""
    if cfg.parallel is not None:
        return cfg.parallel
    import torch

    return 1 if torch.cuda.is_available() or cfg.training.device not in ("auto", "cpu") else min(2, os.cpu_count() or 1)


def _one_by_one(source: str, folder: Path, cfg: config.Study, tasks: Sequence[Task]) -> dict[Task, str]:
    errors = {}
    for task in tasks:
        try:
            perform(source, folder, cfg, task)
        except SlmlpError as error:
            errors[task] = str(error)
    return errors


def _start(threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from slmlp.experiments.study.worker import main; sys.exit(main())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**processes.alone_environment(), "OMP_NUM_THREADS": str(threads)},
    )


def _give(process: subprocess.Popen[str], source: str, folder: Path, cfg: config.Study, task: Task) -> Task:
    """Hand a task to a process that waits for one."""
    study, words = dataclasses.asdict(cfg), dataclasses.asdict(task)
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"source": source, "folder": str(folder), "study": study, "task": words}) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has died: its answer, the end of its output, says so
    return task


def _answer(process: subprocess.Popen[str], task: Task) -> str | None:
    """Return the error of a task that is done, or None; a process that died is an error of the study."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        error: str | None = json.loads(line)["error"]
        return error
    if process.wait() == 130:
        raise KeyboardInterrupt
    raise SlmlpError(
        f"the process that trained {task.words} ended with code {process.returncode} and no word (out of memory, or "
        "killed?); run the same command again, or with --parallel 1"
    )


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """End the processes: those that wait for a task see the end of their input, the others save their run first."""
    for process in processes:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        if process.poll() is None:
            process.terminate()
    for process in processes:
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
