"""Runs of a study side by side, in processes that end when the study does."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from slmlp import config
from slmlp.errors import SlmlpError
from slmlp.studies.worker import Task, perform

POLL = 0.2  # seconds


def run_all(source: str, folder: Path, cfg: config.Study, tasks: Sequence[Task]) -> dict[Task, str]:
    """Do every task; return the error of each run that could not be trained.

    An error stops nothing but its own run; the caller decides what it means. Ctrl-C and SIGTERM reach every process,
    each of which saves its run first.
    """
    parallel = min(workers(cfg), len(tasks))
    if parallel <= 1:
        return _one_by_one(source, folder, cfg, tasks)
    threads = cfg.training.threads or max(1, (os.cpu_count() or 1) // parallel)
    shared = dataclasses.replace(cfg, training=dataclasses.replace(cfg.training, threads=threads))
    waiting, running, errors = list(tasks), dict[Task, subprocess.Popen[str]](), dict[Task, str]()
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                task = waiting.pop(0)
                running[task] = _start(source, folder, shared, task)
            time.sleep(POLL)
            for task, process in list(running.items()):
                if process.poll() is not None:
                    del running[task]
                    problem = _outcome(process, task)
                    if problem:
                        errors[task] = problem
    finally:
        _stop(list(running.values()))
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


def _start(source: str, folder: Path, cfg: config.Study, task: Task) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from slmlp.studies.worker import main; sys.exit(main())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(cfg.training.threads)},
    )
    assert process.stdin is not None
    asked = {
        "source": source,
        "folder": str(folder),
        "study": dataclasses.asdict(cfg),
        "task": dataclasses.asdict(task),
    }
    process.stdin.write(json.dumps(asked))
    process.stdin.close()
    return process


def _outcome(process: subprocess.Popen[str], task: Task) -> str | None:
    """Return the error of a process that has ended, or None."""
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read().strip()
    if process.returncode == 0:
        return None
    if process.returncode == 130:
        raise KeyboardInterrupt
    if said.startswith("{"):
        return str(json.loads(said)["error"])
    raise SlmlpError(
        f"the process that trained {task.words} ended with code {process.returncode} and no word (out of memory, or "
        "killed?); run the same command again, or with --parallel 1"
    )


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ask the processes that still run to save and end, and wait for them."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
