"""Classification of classes by features that were pretrained on superclasses (``--labels superclass``).

It measures how much variation within a superclass the features keep. Images are those of the source classes, scored on
the test part, which pretraining does not use.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_score, accuracy_scores, check_parts, predictions
from slmlp.probes.features import Features
from slmlp.probes.linear import train_probe
from slmlp.results.records import Predictions, Score
from slmlp.runtime.errors import SlmlpError


def run(inputs: Inputs, probe: config.Probe) -> list[Score]:
    """Return the scores of ``coarse_to_fine`` on training and test part of the source classes."""
    source = inputs.data.source
    if source.superclasses is None:
        raise SlmlpError(
            f"task coarse-to-fine: {inputs.data.name} names no superclasses; give them with --superclasses"
        )
    superclasses = dict(zip(source.classes, source.superclasses, strict=True))
    train, test = inputs.features
    return coarse_to_fine(train, test, superclasses, probe)


def coarse_to_fine(
    train: Features, test: Features, superclasses: Mapping[str, str], probe: config.Probe
) -> list[Score]:
    """Return four scores of one probe on the fine labels; ``superclasses`` is class -> superclass.

    ``accuracy`` and ``mean_class_accuracy``: the class is right. ``superclass_accuracy``: the superclass of the
    predicted class is right. ``within_superclass_accuracy``: of test images whose superclass has several classes, the
    class is right when it is chosen among the classes of the image's own superclass; chance is 1 / their number. A
    method that folds each superclass to a point keeps the second and loses the third.
    """
    check_parts("coarse-to-fine", train, test)
    lacking = [name for name in train.classes if name not in superclasses]
    if lacking:
        raise SlmlpError(
            f"coarse-to-fine: class {lacking[0]!r} has no superclass ({len(lacking)} of them): give "
            "superclasses for all"
        )
    names = np.array(train.classes, dtype=np.str_)
    superclass_of = np.array([superclasses[name] for name in train.classes], dtype=np.str_)  # (C,)
    trained = np.isin(np.arange(len(names)), train.y)
    kinds, sizes = np.unique(superclass_of[trained], return_counts=True)
    if len(kinds) < 2 or sizes.max() < 2:
        raise SlmlpError(
            f"coarse-to-fine: {int(trained.sum())} classes in {len(kinds)} superclasses, the largest of "
            f"{int(sizes.max())} classes: expected at least two superclasses, one of them with "
            "two classes (see superclasses)"
        )
    fit, choice = train_probe(train, probe, ("evaluate",))
    logits = fit.decision(test.x)  # (N, C)
    rows = predictions(test, logits.argmax(axis=1).astype(np.int64))
    extra = {
        "l2": [fit.l2], "at_grid_edge": int(choice.at_edge), "gradient_norm": fit.gradient_norm,
        "unfinished_fits": int(not fit.finished), "superclasses": len(kinds),
    }  # fmt: skip
    lookup = dict(zip(names.tolist(), superclass_of.tolist(), strict=True))
    implied = np.array([lookup[name] for name in rows.predictions.tolist()], dtype=np.str_)
    own = superclass_of[test.y]  # (N,)
    by_superclass = Predictions(rows.ids, rows.groups, own, implied, rows.folds)
    inside = np.isin(own, kinds[sizes > 1])
    among = np.where(own[:, None] == superclass_of, logits, -np.inf).argmax(axis=1)
    within = Predictions(
        rows.ids[inside], rows.groups[inside], rows.labels[inside], names[among[inside]], rows.folds[inside]
    )
    if not inside.any():
        raise SlmlpError("coarse-to-fine: no test image is of a superclass with several classes")
    chance = float((1 / sizes[np.searchsorted(kinds, own[inside])]).mean())
    return [
        *accuracy_scores(rows, extra),
        accuracy_score("superclass_accuracy", by_superclass, extra),
        accuracy_score("within_superclass_accuracy", within, {**extra, "chance": chance}),
    ]
