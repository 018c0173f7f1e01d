"""One run of those that choose: a contender at one rate, scored on images that it was not trained on.

Those are source images held back (``--select source``), or classes held out of the source classes (``unseen-inner``).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.evaluation.engine import settings_hash
from slmlp.evaluation.sources import EncoderSource
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.specs import Spec
from slmlp.results.store import Key, Subject
from slmlp.train.job import Job
from slmlp.train.prepare import Prepared, prepare
from slmlp.train.run import Run

SEED = 0
ROLES = {"source": "grid", "unseen-inner": "inner"}  # of the numbers, by what chooses
TASKS = {"source": ("unseen", "validation"), "unseen-inner": ("unseen",)}
DECIDES = {"source": "validation", "unseen-inner": "unseen"}  # the task whose accuracy chooses


def train_and_score(context: Context, spec: Spec, rate: float) -> None:
    """Train one contender at one rate and add the accuracy that chooses to the results, once.

    With validation images, unseen accuracy is recorded too; it chooses nothing.
    """
    run, job, subject = _run(context, spec, rate)
    context.pretrain(run, job, context.inner)
    source = _source(context, run)
    if context.inner is None:
        prepared = prepare(job, context.images, context.split)
        assert prepared.validation is not None
        sets = {"rate train": prepared.train, "rate validation": prepared.validation}
        source.data = dataclasses.replace(source.data, more={k: _relabelled(v, prepared) for k, v in sets.items()})
    context.engine.run(subject, source, TASKS[context.cfg.select])


def done(context: Context, spec: Spec, rate: float) -> bool:
    """Return whether all numbers of a run of the grid are in the results.

    Nothing after the choice reads its weights, so its folder may be deleted: then its numbers count, of whatever
    weights, since the folder takes no study of other data or settings.
    """
    run, job, subject = _run(context, spec, rate)
    tasks = TASKS[context.cfg.select]
    if not run.path.exists():
        held = {"split": split_of(context).hash()}
        settings = {task: settings_hash(task, context.cfg) for task in tasks}
        keys = [Key(subject, task, context.data.name, held, settings[task]) for task in tasks]
    elif context.trained(run, job, context.inner):
        keys = context.engine.keys(subject, _source(context, run), tasks)
    else:
        return False
    return not context.engine.store.missing(keys)


def split_of(context: Context) -> ConceptSplit:
    """Return the split that the runs of the grid are trained under."""
    return context.inner or context.split


def folder(context: Context, spec: Spec, rate: float) -> str:
    """Return the name of the folder of a run of the grid."""
    return f"{spec.folder}-{'inner-' if context.inner else ''}rate{rate:g}"


def _source(context: Context, run: Run) -> EncoderSource:
    source = context.features(run.encoder())
    if context.inner is not None:
        source.data = dataclasses.replace(source.data, split=context.inner)
    return source


def _run(context: Context, spec: Spec, rate: float) -> tuple[Run, Job, Subject]:
    """Return the run of a rate, its job, and the subject of its numbers."""
    run = Run(context.folder / "runs" / folder(context, spec, rate))
    cfg = context.cfg
    role = ROLES[cfg.select]
    subject = Subject(run.name, spec.name, cfg.training.network, SEED, role, None, rate, cfg.labels)
    return run, context.job(spec, rate, SEED, validation=context.inner is None), subject


def _relabelled(images: ImageSet, prepared: Prepared) -> ImageSet:
    """Return the images under the labels of pretraining: selection may use no others."""
    names = prepared.labels.names
    if names == images.classes:
        return images
    assert images.superclasses is not None
    index = np.array([names.index(superclass) for superclass in images.superclasses], dtype=np.int64)
    return dataclasses.replace(images, labels=index[images.labels], classes=names, superclasses=None)
