"""Accuracy over the number of labels: the linear probe on shares of the training images, or on a few per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.data.splits.parts import random_ranks, rank_within
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import check_parts, predictions
from slmlp.probes.features import Features
from slmlp.probes.linear import train_probe
from slmlp.results.intervals import crossed_mean
from slmlp.results.records import Predictions, Score
from slmlp.runtime.seeds import numpy_generator

FIXED = 1.0  # l2 where too few classes have two groups for an inner split to choose one; see docs/tasks.md
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Fitted:
    """The probe of one draw."""

    rows: Predictions
    l2: float
    rule: str  # how the l2 was chosen
    at_edge: bool
    gradient_norm: float
    finished: bool


def run(inputs: Inputs, cfg: config.LabelEfficiency, probe: config.Probe) -> list[Score]:
    """Return the scores of ``label_efficiency`` on training and test part."""
    train, test = inputs.features
    return label_efficiency(train, test, cfg, probe)


def label_efficiency(train: Features, test: Features, cfg: config.LabelEfficiency, probe: config.Probe) -> list[Score]:
    """Return one score per point: the mean accuracy on all test images over draws of the training images.

    A draw is an order of the images of each class, made from seed and ids; a point takes its first images, so
    that within a draw every point holds the images of the smaller ones. The predictions have a row for each draw and
    test image: ``fold`` is the draw, and the images stand in the same order in each. A point that takes all images
    has one draw, and equals the number of the linear task.
    """
    check_parts("label-efficiency", train, test)
    totals = np.bincount(train.y, minlength=len(train.classes))
    ranks = [rank(train, cfg.seed, draw) for draw in range(cfg.draws)]
    scores = []
    for name, counts in _points(cfg, totals):
        whole = bool((counts == totals).all())
        fits = []
        for draw, order in enumerate(ranks[:1] if whole else ranks):
            words = ("evaluate",) if whole else ("labels", name, draw)  # of the inner split
            fits.append(_fit(train.select(order < counts[train.y]), test, probe, words))
        mean = crossed_mean(np.stack([fit.rows.correct for fit in fits]), test.groups)
        low, high = mean.interval
        scores.append(
            Score(
                f"accuracy_at_{name}",
                mean.value,
                len(test),
                (max(0.0, low), min(1.0, high)),
                _stacked([fit.rows for fit in fits]),
                {"draws": len(fits), "training_images": int(counts.sum()), "seed": cfg.seed, **_fit_details(fits)},
            )
        )
    return scores


def rank(train: Features, seed: int, draw: int) -> Counts:
    """Return the place (N,) of each image in the order of its class, from 0; the order of the rows does not matter."""
    return rank_within(train.y, random_ranks(train.ids, numpy_generator(seed, "labels", draw)))


def _points(cfg: config.LabelEfficiency, totals: Counts) -> Iterator[tuple[str, Counts]]:
    """Yield the name of each point and how many images of each class (C,) it takes."""
    for share in cfg.fractions:
        rounded = np.floor(share * totals + 0.5).astype(np.int64)
        yield f"{100 * share:g}_percent", np.minimum(np.maximum(rounded, 1), totals)
    for shots in cfg.shots:
        yield f"{shots}_shots", np.minimum(shots, totals)


def _fit(images: Features, test: Features, cfg: config.Probe, seed_words: tuple[str | int, ...]) -> _Fitted:
    """Train the probe, predict the test images, and record how the l2 was chosen.

    An inner split needs two groups per class. Classes with one take no part in the choice, but do in the fit; where
    they are more than half of all, or leave fewer than two, the l2 is ``FIXED``.
    """
    pairs = np.unique(np.stack([images.y.astype(np.str_), images.groups]), axis=1)[0].astype(np.int64)
    counts = np.bincount(pairs, minlength=len(images.classes))  # groups of each class
    single, several = np.flatnonzero(counts == 1), np.flatnonzero(counts > 1)
    rule, at_edge, final = "given", False, cfg
    if len(cfg.l2) > 1:
        rule = "chosen"
        if len(single) and len(several) >= max(2, len(single)):
            _, choice = train_probe(images.select(np.isin(images.y, several)), cfg, seed_words)
            rule, at_edge = f"chosen without {len(single)} classes of one group", choice.at_edge
            final = dataclasses.replace(cfg, l2=(choice.l2,))
        elif len(single):
            rule, final = "fixed", dataclasses.replace(cfg, l2=(FIXED,))
    fit, last = train_probe(images, final, seed_words)
    rows = predictions(test, fit.predict(test.x))
    return _Fitted(rows, fit.l2, rule, at_edge or last.at_edge, fit.gradient_norm, fit.finished)


def _fit_details(fits: list[_Fitted]) -> dict[str, Any]:
    return {
        "l2": [fit.l2 for fit in fits],
        "l2_rules": [fit.rule for fit in fits],
        "at_grid_edge": sum(fit.at_edge for fit in fits),
        "gradient_norm": max(fit.gradient_norm for fit in fits),
        "unfinished_fits": sum(not fit.finished for fit in fits),
    }


def _stacked(rows: list[Predictions]) -> Predictions:
    """Return the rows of all draws, one draw after the other."""
    return Predictions(
        ids=np.concatenate([r.ids for r in rows]),
        groups=np.concatenate([r.groups for r in rows]),
        labels=np.concatenate([r.labels for r in rows]),
        predictions=np.concatenate([r.predictions for r in rows]),
        folds=np.repeat(np.arange(len(rows)), len(rows[0].ids)),
    )
