"""Few-shot classification: episodes of N classes with K labelled images each.

Islam et al., ICCV 2021: 5-way 5-shot, 15 queries, 600 episodes over all images of the data; features of length 1 and
multinomial logistic regression with scikit-learn's C = 1. Ericsson et al., CVPR 2021: the nearest class mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_score, check_features, joined
from slmlp.evaluation.tasks.episodes import Episodes, draw
from slmlp.probes.features import Features
from slmlp.probes.many import TOLERANCE, fit_many
from slmlp.results.records import Predictions, Score
from slmlp.runtime.errors import SlmlpError

NUMBERS = 4_000_000  # float64 feature entries of the episodes solved together: 32 MB


def run(inputs: Inputs, cfg: config.FewShot) -> list[Score]:
    """Return the scores of ``fewshot`` on all images, whatever their part."""
    return fewshot(joined(inputs.features), cfg)


def fewshot(images: Features, cfg: config.FewShot) -> list[Score]:
    """Return the accuracy over the queries of all episodes.

    The predictions have one row per query: ``id`` is the image's (one image may be in several episodes), ``fold`` the
    number of the episode, and ``group`` the episode too, so that every interval is over episodes.
    """
    check_features("fewshot", images, "")
    if cfg.classifier not in ("logistic", "centroid"):
        raise SlmlpError(f"fewshot: classifier must be logistic or centroid, found {cfg.classifier!r}")
    episodes = draw(images, cfg)
    at_once = max(1, NUMBERS // (cfg.ways * (cfg.shots + cfg.queries) * images.x.shape[1]))
    ways, norms = [], []
    for start in range(0, cfg.episodes, at_once):
        some = slice(start, start + at_once)
        way, norm = _classify(images, episodes, some, cfg)
        ways.append(way.numpy())
        norms.append(norm)
    extra: dict[str, Any] = {
        "episodes": cfg.episodes, "ways": cfg.ways, "shots": cfg.shots, "queries": cfg.queries,
        "classifier": cfg.classifier, "seed": cfg.seed,
    }  # fmt: skip
    if cfg.classifier == "logistic":
        norm = torch.cat(norms)
        extra |= {"gradient_norm": float(norm.amax()), "unfinished_fits": int((norm > TOLERANCE).sum())}
    predicted = np.take_along_axis(episodes.classes, np.concatenate(ways), axis=1)  # (E, ways * queries)
    return [accuracy_score("accuracy", _rows(images, episodes, predicted), extra)]


def _classify(
    images: Features, episodes: Episodes, some: slice, cfg: config.FewShot
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the way (e, ways * queries) of each query of some episodes, and the largest gradient entries (e,)."""
    support, queries = (
        torch.as_tensor(np.asarray(images.x[rows])).double()
        for rows in (episodes.support[some], episodes.queries[some])
    )
    if cfg.classifier == "centroid":
        means = support.reshape(len(support), cfg.ways, cfg.shots, -1).mean(dim=2)  # (e, ways, D)
        nearest = queries @ means.mT - (means**2).sum(dim=2)[:, None] / 2
        return nearest.argmax(dim=2), means.new_zeros(len(means))
    labels = torch.arange(cfg.ways).repeat_interleave(cfg.shots).expand(len(support), -1)
    fits = fit_many(_unit(support), labels, cfg.ways)
    return fits.decision(_unit(queries)).argmax(dim=2), fits.gradient_norm


def _rows(images: Features, episodes: Episodes, predicted: np.ndarray[Any, np.dtype[np.int64]]) -> Predictions:
    names = np.array(images.classes, dtype=np.str_)
    flat = episodes.queries.ravel()
    folds = np.repeat(np.arange(len(predicted)), predicted.shape[1])
    width = len(str(len(predicted) - 1))
    groups = np.array([f"episode-{fold:0{width}d}" for fold in range(len(predicted))], dtype=np.str_)[folds]
    return Predictions(images.ids[flat], groups, names[images.y[flat]], names[predicted.ravel()], folds)


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Return rows of length 1; a row of zeros stays as it is."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(length > 0, length, 1.0)
