"""Cross-validation: each image is predicted once, by a probe fitted without the images of its group."""

from __future__ import annotations

import numpy as np

from slmlp import config
from slmlp.probes.features import Features
from slmlp.probes.images import Rows, check_finite
from slmlp.probes.linear import ProbeResult, check_groups, summarise, train_probe


def cross_validate(features: Features, cfg: config.Probe) -> ProbeResult:
    """Predict each of ``cfg.folds`` parts with a probe trained, and its l2 chosen, on the other parts."""
    from slmlp.data.splits.parts import stratified_folds

    check_groups(features, cfg.folds, "cross-validation", "ask for fewer --probe.folds, or remove the class")
    check_finite(Rows(features.x))
    folds = np.asarray(stratified_folds(features.y, features.groups, cfg.folds, cfg.seed, "crossfit"), dtype=np.int64)
    predicted, confidence = np.full(len(features), -1, dtype=np.int64), np.zeros(len(features))
    probes, choices = [], []
    for fold in range(cfg.folds):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        probe, choice = train_probe(features, cfg, ("crossfit", fold), rows=outside)
        predicted[inside], confidence[inside] = probe.classify(features.x, inside)
        probes.append(probe)
        choices.append(choice)
    assert (predicted >= 0).all(), "every image is in one fold"
    return summarise(features, predicted, confidence, folds, probes, choices)
