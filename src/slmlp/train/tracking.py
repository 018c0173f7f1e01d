"""The trackers of a run: where its numbers go, under which name and settings."""

from __future__ import annotations

from pathlib import Path

from slmlp.runtime import files
from slmlp.train.job import Job
from slmlp.train.run import Run
from slmlp.train.trackers import Place, Trackers


def trackers(run: Run, job: Job, store: Path, step: int) -> Trackers | None:
    """Return the trackers of a run in a folder ``store``; None where none was asked for."""
    if not job.training.track:
        return None
    about = run.config
    place = Place(run.path, store, files.hash_json([run.name, about["identity"], about["started"]])[:16])
    return Trackers(job.training.track, place, {**job.to_json(), "resolved": about["resolved"]}, step)
