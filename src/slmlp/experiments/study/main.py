"""Run the parts of a study in order. A part whose files exist is skipped, so a stopped study resumes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from slmlp import config, report
from slmlp.experiments.study import baselines, pool, rates, summary
from slmlp.experiments.study.context import open_study
from slmlp.experiments.study.task import Task
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import locked
from slmlp.runtime.progress import duration, say


def study(
    source: str, out: str | Path, cfg: config.Study | None = None, *, demo: bool = False, overwrite: bool = False
) -> Path:
    """Run a study; see ``api.study``. Parts whose files exist are not computed again."""
    processes.alone_only("a study")
    with locked(Path(out), "study", "owner.json"):
        return _study(source, Path(out), cfg or config.Study(), demo=demo, overwrite=overwrite)


def _study(source: str, folder: Path, cfg: config.Study, *, demo: bool, overwrite: bool) -> Path:
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    context = open_study(source, folder, cfg, overwrite=overwrite)
    cfg = context.cfg
    baselines.evaluate_start(context)
    chosen = rates.choose(context)
    # seeds outermost: every finished seed is a finished pair
    tasks = [
        Task("final", spec.name, chosen.of(spec), seed)
        for seed in range(cfg.seeds)
        for spec in context.specs
        if seed in spec.seeds(cfg.seeds)
    ]
    errors = pool.run_all(context, tasks)
    for task, error in errors.items():
        raise SlmlpError(f"{task.words}: {error}")
    baselines.evaluate(context)
    summary.write(context, chosen, started, time.monotonic() - began, demo=demo)
    page = report.write(context.folder)
    say(f"study finished in {duration(time.monotonic() - began)}")
    return page
