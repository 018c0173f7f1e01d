"""Novelty: telling test images of the source classes from images of classes that pretraining never saw.

Two scores of an image, the higher the newer: the distance to its k-th nearest source training image on features of
length 1 (Sun et al. 2022, arXiv 2204.06507), and the energy, minus the log-sum-exp of class logits (Liu et al. 2020,
arXiv 2010.03759). The logits are those of the linear probe on the source training images: a run keeps no classifier,
methods without labels and encoders from elsewhere have none, and one probe makes them, and layers, comparable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import check_features
from slmlp.probes.features import Features
from slmlp.probes.linear import check_width, train_probe
from slmlp.probes.nearest import nearest
from slmlp.results.metrics import bootstrap, bootstrap_interval
from slmlp.results.records import Score, Scores


def run(inputs: Inputs, cfg: config.Novelty, probe: config.Probe) -> list[Score]:
    """Return the scores of ``novelty`` at one layer: the encoder's output, or behind the projector."""
    train, test, unseen = inputs.features
    return novelty(train, test, unseen, cfg, probe)


def novelty(train: Features, test: Features, unseen: Features, cfg: config.Novelty, probe: config.Probe) -> list[Score]:
    """Return ``auroc`` and ``fpr95`` by both scores, 0 to 1: ``auroc_knn``, ``fpr95_knn``, ``auroc_energy`` ...

    ``train`` and ``test`` are of the source classes, ``unseen`` of others. AUROC is the chance that an unseen image has
    a higher score than a source test image, ties counting half; FPR95 the share of unseen images among those that are
    accepted where the threshold accepts 95 % of the source test images (lower is better). The scores of every image
    are kept, so that two encoders can be paired; intervals are over groups of images of both kinds.
    """
    for images, what in ((train, "source training"), (test, "source test"), (unseen, "unseen")):
        check_features("novelty", images, what)
        check_width(train.x, images.x)
    k = min(cfg.neighbours, len(train))
    warnings = {"neighbours_at_most": k} if k < cfg.neighbours else {}
    fit, choice = train_probe(train, probe, ("evaluate",))
    of_probe = {
        "l2": [fit.l2], "at_grid_edge": int(choice.at_edge), "gradient_norm": fit.gradient_norm,
        "unfinished_fits": int(not fit.finished),
    }  # fmt: skip
    distances = [_distance(train, images, k) for images in (test, unseen)]
    energies = [
        np.concatenate([-torch.logsumexp(part, dim=1).numpy() for _, part in fit.logits(images.x)])
        for images in (test, unseen)
    ]
    return [
        *_scores("knn", test, unseen, distances, {"neighbours": k}, warnings),
        *_scores("energy", test, unseen, energies, of_probe, {}),
    ]


def _distance(train: Features, images: Features, k: int) -> npt.NDArray[np.float64]:
    """Return the distance (N,) to the k-th nearest training image, both of length 1."""
    cosines = np.concatenate([near.cosines[:, -1] for near in nearest(train, images, k)])
    return np.asarray(np.sqrt(np.maximum(2 - 2 * cosines, 0)), dtype=np.float64)


def _scores(
    by: str, test: Features, unseen: Features, values: list[npt.NDArray[np.float64]], extra: dict[str, Any],
    warnings: dict[str, int],
) -> list[Score]:  # fmt: skip
    ids = np.concatenate([test.ids, unseen.ids])
    order = np.argsort(ids, kind="stable")
    on = np.repeat([False, True], [len(test), len(unseen)])[order]
    groups = np.concatenate([test.groups, unseen.groups])[order]
    rows = Scores(ids[order], groups, ("unseen",), on[:, None], np.concatenate(values)[order, None].astype(np.float32))
    extra = {**extra, "source_images": len(test), "unseen_images": len(unseen)}
    return [
        Score(
            metric, bootstrap(rows, metric).value, len(ids), bootstrap_interval(rows, metric),
            scores=rows if metric.startswith("auroc") else None, extra=extra, warnings=warnings,
        )
        for metric in (f"auroc_{by}", f"fpr95_{by}")
    ]  # fmt: skip
