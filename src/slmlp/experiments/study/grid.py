"""One run of the rate grid: trained on the source images less the validation share, scored on that share."""

from __future__ import annotations

import dataclasses

import numpy as np

from slmlp.evaluation.evaluation import UNSEEN, VALIDATION, encoder_hashes
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.specs import Spec
from slmlp.probes.features import Features
from slmlp.probes.linear import evaluate as probe_on_test
from slmlp.results import records
from slmlp.results.records import Result
from slmlp.results.store import Subject
from slmlp.train.job import Job
from slmlp.train.pretrain import Prepared, prepare
from slmlp.train.run import Run

SEED = 0


def train_and_score(context: Context, spec: Spec, rate: float) -> None:
    """Train one contender at one rate and add its validation and unseen accuracy to the results, once."""
    cfg = context.cfg
    run, job, subject = _asked(context, spec, rate)
    context.pretrain(run, job)
    encoder = run.encoder()
    hashes, transform = encoder_hashes(encoder)
    extract = context.evaluation.extractor(encoder)
    context.evaluation.run(subject, extract, hashes, (UNSEEN,), transform)
    if _validated(context, run, hashes):
        return
    ready = prepare(job, context.images, context.split)
    assert ready.validation is not None
    train, held = (_told(extract(part), ready) for part in (ready.train, ready.validation))
    outcome = probe_on_test(train, held, cfg.probe)
    line = Result(
        run=run.name, method=spec.name, encoder=cfg.training.encoder, seed=SEED, task=VALIDATION,
        data=context.images.name, metric="accuracy", value=outcome.accuracy, n=outcome.n, role="grid", base_lr=rate,
        labels=cfg.labels, interval=outcome.interval,
        hashes={**hashes, "data": ready.validation.hash(), "split": context.split.hash(), "transform": transform},
    )  # fmt: skip
    records.append(context.evaluation.results_file, line)


def done(context: Context, spec: Spec, rate: float) -> bool:
    """Whether a run of the grid has said what it is for.

    Nothing after the choice of a rate reads its weights, so its folder may be deleted, or lost with a machine: its
    numbers stand for it, in a folder that takes no study of other data or settings.
    """
    run, job, subject = _asked(context, spec, rate)
    if not run.path.exists():
        return _scored(context, subject)
    if not context.trained(run, job):
        return False
    hashes, _ = encoder_hashes(run.encoder())
    return context.evaluation.done(subject, hashes, (UNSEEN,)) and _validated(context, run, hashes)


def _asked(context: Context, spec: Spec, rate: float) -> tuple[Run, Job, Subject]:
    """Return the run of a rate, its job, and whose numbers its are."""
    run = Run(context.folder / "runs" / f"{spec.folder}-rate{rate:g}")
    cfg = context.cfg
    subject = Subject(run.name, spec.name, cfg.training.encoder, SEED, "grid", None, rate, cfg.labels)
    return run, context.job(spec, rate, SEED, validation=True), subject


def _validated(context: Context, run: Run, hashes: dict[str, str]) -> bool:
    """Whether the validation accuracy of these weights is in the results."""
    return any(
        (row.run, row.task, row.hashes.get("encoder")) == (run.name, VALIDATION, hashes["encoder"])
        for row in records.read(context.evaluation.results_file)
    )


def _scored(context: Context, subject: Subject) -> bool:
    """Whether both accuracies of a grid run, of whatever weights, are in the results under this split."""
    tasks = {
        row.task
        for row in records.read(context.evaluation.results_file)
        if (row.run, row.method, row.role, row.base_lr, row.labels)
        == (subject.run, subject.method, subject.role, subject.base_lr, subject.labels)
        and row.hashes.get("split") == context.split.hash()
    }
    return {VALIDATION, UNSEEN} <= tasks


def _told(features: Features, ready: Prepared) -> Features:
    """Return the features under the labels that pretraining was given: selection may use no others."""
    if ready.labels.names == features.classes:
        return features
    assert ready.train.superclasses is not None
    index = {name: i for i, name in enumerate(ready.labels.names)}
    of_class = np.array([index[superclass] for superclass in ready.train.superclasses], dtype=np.int64)
    return dataclasses.replace(features, y=of_class[features.y], classes=ready.labels.names)
