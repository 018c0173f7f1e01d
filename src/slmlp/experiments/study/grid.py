"""One run of the rate grid: trained on the source images less the validation share, scored on that share."""

from __future__ import annotations

import dataclasses

import numpy as np

from slmlp.data.dataset import ImageSet
from slmlp.evaluation.engine import settings_hash
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.specs import Spec
from slmlp.results.store import Key, Subject
from slmlp.train.job import Job
from slmlp.train.prepare import Prepared, prepare
from slmlp.train.run import Run

SEED = 0
TASKS = ("unseen", "validation")


def train_and_score(context: Context, spec: Spec, rate: float) -> None:
    """Train one contender at one rate and add its validation and unseen accuracy to the results, once."""
    run, job, subject = _run(context, spec, rate)
    context.pretrain(run, job)
    prepared = prepare(job, context.images, context.split)
    assert prepared.validation is not None
    sets = {"rate train": prepared.train, "rate validation": prepared.validation}
    source = context.features(run.encoder())
    source.data = dataclasses.replace(source.data, more={k: _relabelled(v, prepared) for k, v in sets.items()})
    context.engine.run(subject, source, TASKS)


def done(context: Context, spec: Spec, rate: float) -> bool:
    """Return whether both numbers of a run of the grid are in the results.

    Nothing after the choice of a rate reads its weights, so its folder may be deleted: then its numbers count, of
    whatever weights, since the folder takes no study of other data or settings.
    """
    run, job, subject = _run(context, spec, rate)
    if not run.path.exists():
        split = {"split": context.split.hash()}
        settings = {task: settings_hash(task, context.cfg) for task in TASKS}
        keys = [Key(subject, task, context.data.name, split, settings[task]) for task in TASKS]
    elif context.trained(run, job):
        keys = context.engine.keys(subject, context.features(run.encoder()), TASKS)
    else:
        return False
    return not context.engine.store.missing(keys)


def _run(context: Context, spec: Spec, rate: float) -> tuple[Run, Job, Subject]:
    """Return the run of a rate, its job, and the subject of its numbers."""
    run = Run(context.folder / "runs" / f"{spec.folder}-rate{rate:g}")
    cfg = context.cfg
    subject = Subject(run.name, spec.name, cfg.training.network, SEED, "grid", None, rate, cfg.labels)
    return run, context.job(spec, rate, SEED, validation=True), subject


def _relabelled(images: ImageSet, prepared: Prepared) -> ImageSet:
    """Return the images under the labels of pretraining: selection may use no others."""
    names = prepared.labels.names
    if names == images.classes:
        return images
    assert images.superclasses is not None
    index = np.array([names.index(superclass) for superclass in images.superclasses], dtype=np.int64)
    return dataclasses.replace(images, labels=index[images.labels], classes=names, superclasses=None)
