"""Accuracy on held-out classes by their distance from the source classes, from the predictions of the task unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slmlp import config
from slmlp.data import wordnet
from slmlp.data.wordnet.similarity import nearest
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_score
from slmlp.results.records import Predictions, Score
from slmlp.runtime.errors import SlmlpError


def run(inputs: Inputs, probe: config.Probe) -> list[Score]:
    """Return the accuracy by superclass where the data have superclasses, else by WordNet distance."""
    unseen = inputs.data.of("unseen")
    levels: dict[str, int | str] = {}
    if unseen.superclasses is not None:
        levels.update(zip(unseen.classes, unseen.superclasses, strict=True))
    else:
        levels.update(wordnet_levels(inputs.data.held_out.source, inputs.data.held_out.unseen))
    return by_level(inputs.predictions("unseen"), levels)


def by_level(rows: Predictions, levels: Mapping[str, int | str]) -> list[Score]:
    """Return the accuracy of each level (class -> level), lowest number or first name first.

    The probe chose among all held-out classes; a level's accuracy is over the images whose true class is of it. Levels
    are named ``accuracy_at_level_2`` where they are numbers and ``accuracy_in_NAME`` where they are superclasses.
    """
    classes = np.unique(rows.labels).tolist()
    missing = [name for name in classes if name not in levels]
    if missing:
        raise SlmlpError(
            f"semantic-distance: class {missing[0]!r} has no level ({len(missing)} of {len(classes)} classes)"
        )
    scores = []
    for level in sorted({levels[name] for name in classes}, key=lambda level: (isinstance(level, str), level)):
        members = [name for name in classes if levels[name] == level]
        keep = np.isin(rows.labels, members)
        confidence = None if rows.confidence is None else rows.confidence[keep]
        selected = Predictions(
            rows.ids[keep], rows.groups[keep], rows.labels[keep], rows.predictions[keep], rows.folds[keep], confidence
        )
        metric = f"accuracy_in_{level}" if isinstance(level, str) else f"accuracy_at_level_{level}"
        scores.append(accuracy_score(metric, selected, {"level": level, "classes": members}))
    return scores


def wordnet_levels(
    source: Sequence[str], unseen: Sequence[str], count: int = 5, senses: Sequence[str] = ()
) -> dict[str, int]:
    """Return unseen class -> level, 1 (nearest to the source classes) to ``count``, levels of equal size.

    Classes are ranked by their largest Lin similarity to any source class (``data.wordnet.similarity``), equal ones by
    name; sizes differ by one at most, the first levels being the larger. Names are resolved as ``wordnet.resolve``
    does; SlmlpError for names that WordNet lacks.
    """
    if not 1 <= count <= len(unseen):
        raise SlmlpError(
            f"semantic-distance: {count} levels of {len(unseen)} held-out classes: expected 1 to {len(unseen)}"
        )
    if not source:
        raise SlmlpError("semantic-distance: there are no source classes to be near to")
    synsets = {name: sense.id for name, sense in wordnet.resolve([*source, *unseen], senses).items()}
    similarity = nearest([synsets[name] for name in source], [synsets[name] for name in unseen])
    ranked = sorted(unseen, key=lambda name: (-similarity[synsets[name]], name))
    parts = np.array_split(np.array(ranked, dtype=np.str_), count)
    return {str(name): level for level, part in enumerate(parts, 1) for name in part}
