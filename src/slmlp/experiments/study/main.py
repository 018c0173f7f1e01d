"""Run the parts of a study in order. A part whose files exist is skipped, so a stopped study resumes."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from slmlp import config, report
from slmlp.config import command_file
from slmlp.experiments.study import baselines, plan, pool, rates, summary
from slmlp.experiments.study.context import Context, open_study
from slmlp.experiments.study.plan import Plan
from slmlp.experiments.study.progress import StudyProgress
from slmlp.experiments.study.task import Task
from slmlp.runtime import plugins, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import locked
from slmlp.runtime.progress import duration, say
from slmlp.runtime.progress import plan as dry
from slmlp.train.run import now


def study(
    source: str, out: str | Path, cfg: config.Study | None = None, *, demo: bool = False, overwrite: bool = False,
    dry_run: bool = False,
) -> Path:  # fmt: skip
    """Run a study; see ``api.study``. Parts whose files exist are not computed again."""
    processes.alone_only("a study")
    plugins.forget()
    if dry_run:
        try_out(source, Path(out), cfg or config.Study(), overwrite=overwrite, demo=demo)
        return Path(out) / "report.html"
    with locked(Path(out), "study", "owner.json"):
        return _study(source, Path(out), cfg or config.Study(), demo=demo, overwrite=overwrite)


def try_out(source: str, out: Path, cfg: config.Study, *, overwrite: bool, demo: bool) -> None:
    """Say how long the study would take and what it would write; nothing that stays is written.

    Raises:
        SlmlpError: what the study would stop with before its first run.
    """
    with tempfile.TemporaryDirectory(prefix="slmlp-") as empty:
        context = open_study(source, Path(empty), cfg, overwrite=overwrite, trial_of=out)
        found = plan.make(context, out)
        dry(found.words, *plan.advice(context, found, demo=demo))
    say("nothing was written")


def _tell(context: Context, found: Plan, *, demo: bool) -> None:
    say(f"plan: {found.words}")
    for line in plan.advice(context, found, demo=demo):
        say(line)


def _study(source: str, folder: Path, cfg: config.Study, *, demo: bool, overwrite: bool) -> Path:
    began, started = time.monotonic(), now()
    context = open_study(source, folder, cfg, overwrite=overwrite)
    cfg = context.cfg
    place = Path(source).resolve() if Path(source).exists() else source
    command_file.write(folder, "study", {"data": place}, dataclasses.replace(cfg, rates=cfg.grid))
    found = plan.make(context)
    _tell(context, found, demo=demo)
    with StudyProgress(context, found) as progress:
        progress.phase("the starting encoder")
        baselines.evaluate_start(context)
        progress.phase("")
        context, chosen = rates.choose(context, progress.finished)
        # seeds outermost: every finished seed is a finished pair
        tasks = [
            Task("final", spec.name, chosen.of(spec), seed)
            for seed in range(cfg.seeds)
            for spec in context.specs
            if seed in spec.seeds(cfg.seeds)
        ]
        errors = pool.run_all(context, tasks, progress.finished)
        for task, error in errors.items():
            raise SlmlpError(f"{task.words}: {error}")
        progress.phase("the baselines")
        baselines.evaluate(context)
        progress.phase("verdict, map and page")
        summary.write(context, chosen, started, time.monotonic() - began, demo=demo)
        page = report.write(context.folder)
    say(f"study finished in {duration(time.monotonic() - began)}")
    return page
