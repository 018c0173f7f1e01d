"""Runs of a study in a process of its own: tasks as lines of JSON on stdin, answers on stdout.

Small encoders leave most of a machine idle when one run is spread over all cores, so a study trains several runs side
by side, each on its share of the threads. A run's result does not depend on what runs beside it.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmlp import config
from slmlp.experiments.study.task import Task
from slmlp.runtime.errors import SlmlpError

if TYPE_CHECKING:
    from slmlp.experiments.study.context import Context


def perform(source: str, folder: Path, cfg: config.Study, task: Task) -> None:
    """Train and evaluate one run; its numbers are in the study's results file afterwards."""
    from slmlp.experiments.study import grid
    from slmlp.experiments.study.specs import parse

    opened = _open(source, folder, cfg)
    if task.kind == "grid":
        grid.train_and_score(opened, parse(task.spec), task.rate)
    else:
        opened.finish(parse(task.spec), task.rate, task.seed)


def done(context: Context, task: Task) -> bool:
    """Whether the run of a task is trained and all its numbers are there: ``perform`` would do nothing."""
    from slmlp.experiments.study import grid
    from slmlp.experiments.study.specs import parse

    if task.kind == "grid":
        return grid.done(context, parse(task.spec), task.rate)
    return context.done(parse(task.spec), task.rate, task.seed)


@functools.lru_cache(maxsize=1)
def _open(source: str, folder: Path, cfg: config.Study) -> Context:
    """Return the study, loaded once for all the tasks of this process."""
    import torch

    from slmlp.experiments.study.context import open_study

    if cfg.training.threads:
        torch.set_num_threads(cfg.training.threads)
    return open_study(source, folder, cfg, quiet=True)


def main() -> int:
    """Do the tasks on stdin, a line of JSON each, and answer each with a line of JSON on stdout."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not be taken for an answer
    try:
        for line in sys.stdin:
            asked: dict[str, Any] = json.loads(line)
            error = None
            try:
                cfg = config.from_dict(config.Study, asked["study"])
                perform(asked["source"], Path(asked["folder"]), cfg, Task(**asked["task"]))
            except SlmlpError as problem:
                error = str(problem)
            print(json.dumps({"error": error}), file=answers, flush=True)
    except KeyboardInterrupt:
        return 130
    return 0
