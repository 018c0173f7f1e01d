"""Nearest class mean, a classifier without a fit (Mensink et al. 2013; Snell et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_scores, check_parts, predictions
from slmlp.probes.features import Features
from slmlp.probes.nearest import ROWS
from slmlp.results.records import Score
from slmlp.runtime.errors import SlmlpError

Matrix = npt.NDArray[np.float64]


def run(inputs: Inputs, cfg: config.Centroid) -> list[Score]:
    """Return the scores of ``centroid`` on training and test part."""
    train, test = inputs.features
    return centroid(train, test, cfg)


def centroid(train: Features, test: Features, cfg: config.Centroid) -> list[Score]:
    """Return accuracy and mean class accuracy; of equally near means the first class wins.

    ``cosine``: images are brought to length 1, averaged by class, and the means compared by their direction;
    ``euclidean``: features as they are. All in float64.
    """
    check_parts("centroid", train, test)
    if cfg.distance not in ("cosine", "euclidean"):
        raise SlmlpError(f"centroid: distance must be cosine or euclidean, found {cfg.distance!r}")
    cosine = cfg.distance == "cosine"
    present = np.unique(train.y)
    sums, counts = np.zeros((len(train.classes), train.x.shape[1])), np.bincount(train.y)
    for i, x in enumerate(_blocks(train.x, cosine)):
        np.add.at(sums, train.y[i * ROWS : (i + 1) * ROWS], x)
    means: Matrix = sums[present] / counts[present, None]  # (C', D)
    if cosine:
        means = _unit(means)
    half = 0.0 if cosine else (means**2).sum(axis=1) / 2  # ||x - m||^2 falls as x m - ||m||^2 / 2 grows
    nearest = [present[(x @ means.T - half).argmax(axis=1)] for x in _blocks(test.x, cosine)]
    return accuracy_scores(predictions(test, np.concatenate(nearest)), {"distance": cfg.distance})


def _blocks(x: npt.NDArray[np.floating], cosine: bool) -> Iterator[Matrix]:
    """Yield ``ROWS`` rows at a time in float64, of length 1 where asked for."""
    for start in range(0, len(x), ROWS):
        wide = np.asarray(x[start : start + ROWS], dtype=np.float64)
        yield _unit(wide) if cosine else wide


def _unit(x: Matrix) -> Matrix:
    """Return rows of length 1; a row of zeros stays as it is."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Matrix = x / np.where(length > 0, length, 1.0)
    return unit
