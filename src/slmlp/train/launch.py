"""Start a run under a split, or resume one from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmlp import data
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.splits.other_data import warn_of_other_data
from slmlp.runtime import distributed, plugins, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.ranks import on_rank0, rank_by_rank
from slmlp.train import measure
from slmlp.train.job import Job
from slmlp.train.pretrain import run_job
from slmlp.train.run import Run


def start(
    job: Job, out: Path, split: str | Path | ConceptSplit | None, *, progress: bool, overwrite: bool = False,
    dry_run: bool = False,
) -> Run:  # fmt: skip
    """Pretrain into a new folder; a warning is printed where the split was made for other files."""
    with distributed.joined():
        opened = rank_by_rank(lambda: _checked_split(split, job))
        if dry_run:
            processes.alone_only("a dry run")
            measure.dry_run(job, opened)
            return Run(out)
        return run_job(job, out, split=opened, progress=progress, overwrite=overwrite)


def _checked_split(split: str | Path | ConceptSplit | None, job: Job) -> ConceptSplit | None:
    opened = split if isinstance(split, ConceptSplit) or split is None else ConceptSplit.load(Path(split))
    if opened is not None:
        warn_of_other_data(opened, data.load(job.data, job.options, seed=opened.seed))
    return opened


def resume(folder: Path, data_source: str | None, changes: Mapping[str, Any], *, progress: bool) -> Run:
    """Resume the run in a folder; see ``api.resume``."""
    plugins.forget()
    with distributed.joined():
        run = Run(folder)
        job, split = on_rank0(lambda: _unfinished(run, data_source, changes))
        return run_job(job, folder, split=split, progress=progress)


def _unfinished(run: Run, data_source: str | None, changes: Mapping[str, Any]) -> tuple[Job, ConceptSplit | None]:
    if run.finished:
        raise SlmlpError(f"{run.path} is finished already: its encoder is {run.path / 'encoder.safetensors'}")
    saved, given = run.config["job"], dict(changes)
    if "plugin" in saved and "method" in given:  # the file has moved
        saved = {**saved, "method": plugins.absolute(given.pop("method"))}
    job = Job.from_json(saved, str(run.path), to_train=True)
    if data_source is None and job.data != "emoji" and ":" not in job.data and not Path(job.data).expanduser().exists():
        raise SlmlpError(
            f"{run.path}: its images are not at {job.data} any more; if they were moved, say where they are: slmlp "
            f"pretrain DATA --resume {run.path}"
        )
    return job.replaced(data_source, given), run.split
