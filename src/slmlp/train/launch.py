"""Start a run under a split, or resume one from its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from slmlp import data
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.splits.other_data import warn_of_other_data
from slmlp.runtime import distributed
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.ranks import on_rank0, rank_by_rank
from slmlp.train.job import Job
from slmlp.train.pretrain import run_job
from slmlp.train.run import Run


def start(job: Job, out: Path, split: str | Path | ConceptSplit | None, *, progress: bool) -> Run:
    """Pretrain into a new folder; a warning is printed where the split was made for other files."""
    with distributed.joined():
        opened = rank_by_rank(lambda: _checked_split(split, job))
        return run_job(job, out, split=opened, progress=progress)


def _checked_split(split: str | Path | ConceptSplit | None, job: Job) -> ConceptSplit | None:
    opened = split if isinstance(split, ConceptSplit) or split is None else ConceptSplit.load(Path(split))
    if opened is not None:
        warn_of_other_data(opened, data.load(job.data, job.options, seed=opened.seed))
    return opened


def resume(folder: Path, *, threads: int | None, progress: bool) -> Run:
    """Resume the run in a folder, with other CPU threads where ``threads`` is given."""
    with distributed.joined():
        run = Run(folder)
        job, split = on_rank0(lambda: _unfinished(run))
        if threads is not None:
            job = dataclasses.replace(job, training=dataclasses.replace(job.training, threads=threads))
        return run_job(job, folder, split=split, resume=True, progress=progress)


def _unfinished(run: Run) -> tuple[Job, ConceptSplit | None]:
    job = Job.from_json(run.config["job"], str(run.path / "config.json"))
    if run.finished:
        raise SlmlpError(f"{run.path} is finished already: its encoder is {run.path / 'encoder.safetensors'}")
    return job, run.split
