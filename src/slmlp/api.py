"""The functions behind the commands, for Python: each takes plain values and returns what it made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.concepts.split import ConceptSplit
from slmlp.errors import SlmlpError
from slmlp.job import Job
from slmlp.pretrain import run_job
from slmlp.run import Run


def pretrain(
    data: str,
    out: str | Path,
    *,
    method: str = "sl-mlp",
    projector: config.ProjectorFlags | None = None,
    settings: dict[str, Any] | None = None,
    split: str | Path | ConceptSplit | None = None,
    labels: str = "class",
    seed: int = 0,
    training: config.Training | None = None,
    options: config.DataOptions | None = None,
    validation_fraction: float = 0.0,
    progress: bool = True,
) -> Run:
    """Pretrain one encoder into the folder ``out`` and return the run.

    Args:
        data: folder of class folders, tar, manifest, .npz, ``torchvision:NAME`` or ``emoji``.
        out: a new folder.
        method: ``sl``, ``sl-mlp``.
        projector: overrides of the method's projector.
        settings: overrides of the method's other settings, by name.
        split: only its source classes are trained on.
        labels: ``class`` or ``class_group``.
        seed: of encoder weights, head weights, data order and augmentation.
        training: epochs, rate, augmentation and the rest.
        options: how the images are taken in.
        validation_fraction: share of the training images held back.
        progress: whether to show it on stderr.

    Raises:
        SlmlpError: bad input, another run in ``out``, or training that diverges.
    """
    chosen = config.method_config(method, projector)
    if settings:
        chosen = dataclasses.replace(chosen, **settings)
    job = Job(
        data=located(data), method=method, settings=chosen, training=training or config.Training(),
        options=options or config.DataOptions(), labels=labels, seed=seed, validation_fraction=validation_fraction,
    )  # fmt: skip
    held = split if isinstance(split, ConceptSplit) or split is None else ConceptSplit.load(Path(split))
    return run_job(job, Path(out), split=held, progress=progress)


def located(data: str) -> str:
    """Return a path as an absolute one, so that a run can be resumed from any folder; names stay as they are."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def resume(run: str | Path, *, threads: int | None = None, progress: bool = True) -> Run:
    """Go on with a run that was stopped; on a CPU it ends with the weights of the run that was not, bit for bit."""
    stopped = Run(Path(run))
    job = Job.from_json(stopped.config["job"], str(stopped.path / "config.json"))
    if threads is not None:
        job = dataclasses.replace(job, training=dataclasses.replace(job.training, threads=threads))
    if stopped.finished:
        raise SlmlpError(f"{run} is finished already: its encoder is {stopped.path / 'encoder.safetensors'}")
    return run_job(job, stopped.path, split=stopped.split, resume=True, progress=progress)
