"""The learning rate of each method: the same grid, the same rule (source validation), nothing read of the test side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from slmlp import results
from slmlp.errors import SlmlpError
from slmlp.evaluation import UNSEEN, VALIDATION, Subject, encoder_hashes
from slmlp.features import Features
from slmlp.pretraining import Prepared, prepare
from slmlp.probes.linear import evaluate as probe_on_test
from slmlp.progress import say
from slmlp.results import Result
from slmlp.run import Run
from slmlp.studies import pool
from slmlp.studies.context import Context
from slmlp.studies.specs import Spec
from slmlp.studies.worker import Task

GRID_SEED = 0


@dataclass(frozen=True)
class Rates:
    """The chosen base rate of each contender, and the validation accuracy of every rate that could be trained."""

    chosen: dict[str, float]
    validation: dict[str, dict[float, float]] = field(default_factory=dict)
    failed: dict[str, dict[float, str]] = field(default_factory=dict)

    def of(self, spec: Spec) -> float:
        """Return the rate of a contender."""
        return self.chosen[spec.name]


def choose(context: Context) -> Rates:
    """Return the rate of every contender; a grid of one rate is taken as it is.

    Each rate is trained in full with one seed on the source images less the validation share; a linear probe on the
    frozen features of that training part is scored on the validation share. The unseen accuracy of these runs is
    recorded too (role ``grid``), for the table at equal rates; it chooses nothing.
    """
    grid = context.cfg.rates
    if len(grid) == 1:
        return Rates({spec.name: grid[0] for spec in context.specs})
    tasks = [Task("grid", spec.name, rate, GRID_SEED) for rate in grid for spec in context.specs]
    errors = pool.run_all(context.source, context.folder, context.cfg, tasks)
    rates = Rates({})
    scores = {
        (row.method, row.base_lr): row.value
        for row in results.read(context.evaluation.results_file)
        if row.role == "grid" and row.task == VALIDATION and row.hashes.get("split") == context.split.hash()
    }
    for task, error in errors.items():
        if "--base-lr" not in error:  # only a rate that cannot be trained is a result; anything else is an error
            raise SlmlpError(f"{task.words}: {error}")
        rates.failed.setdefault(task.spec, {})[task.rate] = error
        say(f"{task.words} cannot be trained and is left out: {error}")
    for spec in context.specs:
        found = {rate: scores[spec.name, rate] for rate in grid if rate not in rates.failed.get(spec.name, {})}
        if not found:
            raise SlmlpError(
                f"{spec.name} could not be trained at any of the rates {', '.join(f'{r:g}' for r in grid)}"
            )
        rates.validation[spec.name] = found
        best = max(found.values())
        rates.chosen[spec.name] = min(rate for rate, score in found.items() if score == best)
        shown = ", ".join(f"{rate:g}: {100 * score:.1f} %" for rate, score in found.items())
        say(f"{spec.name}: base rate {rates.chosen[spec.name]:g} chosen by source validation ({shown})")
    return rates


def train_and_score(context: Context, spec: Spec, rate: float) -> None:
    """Train one contender at one rate and add its validation and unseen accuracy to the results, once."""
    cfg = context.cfg
    run = Run(context.folder / "runs" / f"{spec.folder}-rate{rate:g}")
    job = context.job(spec, rate, GRID_SEED, validation=True)
    context.pretrain(run, job)
    encoder = run.encoder()
    hashes, transform = encoder_hashes(encoder)
    subject = Subject(run.name, spec.name, cfg.training.encoder, GRID_SEED, "grid", None, rate, cfg.labels)
    extract = context.evaluation.extractor(encoder)
    context.evaluation.run(subject, extract, hashes, (UNSEEN,), transform)
    for row in results.read(context.evaluation.results_file):
        if (row.run, row.task, row.hashes.get("encoder")) == (run.name, VALIDATION, hashes["encoder"]):
            return
    ready = prepare(job, context.images, context.split)
    assert ready.validation is not None
    train, held = (_told(extract(part), ready) for part in (ready.train, ready.validation))
    outcome = probe_on_test(train, held, cfg.probe)
    line = Result(
        run=run.name, method=spec.name, encoder=cfg.training.encoder, seed=GRID_SEED, task=VALIDATION,
        data=context.images.name, metric="accuracy", value=outcome.accuracy, n=outcome.n, role="grid", base_lr=rate,
        labels=cfg.labels, interval=outcome.interval,
        hashes={**hashes, "data": ready.validation.hash(), "split": context.split.hash(), "transform": transform},
    )  # fmt: skip
    results.append(context.evaluation.results_file, line)


def _told(features: Features, ready: Prepared) -> Features:
    """Return the features under the labels that pretraining was given: selection may use no others."""
    if ready.labels.names == features.classes:
        return features
    assert ready.train.groups is not None
    index = {name: i for i, name in enumerate(ready.labels.names)}
    of_class = np.array([index[group] for group in ready.train.groups], dtype=np.int64)
    return dataclasses.replace(features, y=of_class[features.y], classes=ready.labels.names)
