"""The linear probe: exact logistic regression on data with a training and a test part."""

from __future__ import annotations

from typing import Any

import numpy as np

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import at_output
from slmlp.probes import linear as probes
from slmlp.probes import multilabel as matrices
from slmlp.probes.features import Features
from slmlp.probes.linear import ProbeResult
from slmlp.probes.multilabel import MultiLabel
from slmlp.results.metrics import bootstrap_interval
from slmlp.results.records import Score, Scores


def run(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return the scores of ``linear``, or of ``multilabel`` where images have several labels, on training and test."""
    train, test = inputs.sets
    if isinstance(train, MultiLabel) and isinstance(test, MultiLabel):
        return multilabel(train, test, cfg)
    assert isinstance(train, Features)
    assert isinstance(test, Features)
    return linear(train, test, cfg)


def source_at_layer(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return accuracy and mean_class_accuracy on the classes of pretraining at one layer."""
    return at_output(inputs, "source") or run(inputs, cfg)[:2]


def validation(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return the accuracy that chooses a learning rate: under the labels of pretraining, without its predictions."""
    train, held_back = inputs.features
    result = probes.evaluate(train, held_back, cfg)
    return [Score("accuracy", result.accuracy, result.n, result.interval)]


def linear(train: Features, test: Features, cfg: config.Probe) -> list[Score]:
    """Return accuracy (with predictions and interval), mean_class_accuracy and ece of the probe on ``test``.

    The l2 is chosen inside ``train``; ``test`` is read once.
    """
    return probe_scores(probes.evaluate(train, test, cfg))


def probe_scores(result: ProbeResult) -> list[Score]:
    """Return accuracy, mean_class_accuracy and ece of a probe, with how its fits went."""
    extra = _extra(result.l2, result.at_edge, result.gradient_norms, result.unfinished, result.constant_features)
    return [
        Score("accuracy", result.accuracy, result.n, result.interval, result.predictions, extra),
        Score("mean_class_accuracy", result.mean_class_accuracy, result.n, extra=extra),
        Score("ece", result.ece, result.n, extra=extra),
    ]


def multilabel(train: MultiLabel, test: MultiLabel, cfg: config.Probe) -> list[Score]:
    """Return map and map_11_point of one logistic regression per class on ``test``.

    The scores of every image and class are kept with map, so that two encoders can be paired (``results.metrics``);
    its interval is over groups. ``extra`` holds the average precision of each class, and the names of the classes
    without a test image, which are left out of the mean.
    """
    result = matrices.evaluate(train, test, cfg)
    probe, choice = result.probe, result.choice
    norms, unfinished = (probe.gradient_norm,), int(not probe.finished)
    common = _extra((choice.l2,), int(choice.at_edge), norms, unfinished, probe.constant_features)
    absent = [name for name, area in zip(test.classes, result.areas, strict=True) if np.isnan(area)]
    rows = Scores(test.ids, test.groups, test.classes, np.asarray(test.y, dtype=np.bool_), result.scores)
    scores = []
    for metric, values in (("map", result.areas), ("map_11_point", result.points)):
        by_class = {n: float(v) for n, v in zip(test.classes, values, strict=True) if not np.isnan(v)}
        extra = {**common, "average_precision": by_class, "classes_without_test_images": absent}
        main = metric == "map"
        scores.append(
            Score(
                metric,
                float(np.mean(list(by_class.values()))),
                len(test),
                bootstrap_interval(rows, metric) if main else None,
                scores=rows if main else None,
                extra=extra,
            )
        )
    return scores


def _extra(
    l2: tuple[float, ...], at_edge: int, norms: tuple[float, ...], unfinished: int, constant: int
) -> dict[str, Any]:
    """Return how the fits went, under the names that the lines of all probes share."""
    return {
        "l2": list(l2),
        "at_grid_edge": at_edge,
        "gradient_norm": max(norms),
        "unfinished_fits": unfinished,
        "constant_features": constant,
    }
