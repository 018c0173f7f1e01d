"""All measures of one encoder, on the same number of images of every class."""

from __future__ import annotations

import numpy as np

from slmlp import config
from slmlp.probes.features import Features
from slmlp.probes.measures.collapse import cdnv, class_separation, effective_rank, nc1
from slmlp.probes.measures.mixtureness import mixtureness_ceilings, mixtureness_floor, mixtureness_many
from slmlp.probes.measures.ratio import class_means, discriminative_ratio
from slmlp.probes.measures.redundancy import feature_redundancy, redundancy_baseline
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator


def measure(source: Features | None, unseen: Features | None, cfg: config.Measures) -> dict[str, float]:
    """Return every measure by name; mixtureness needs both parts. docs/measures.md explains each name.

    ``source`` are images of the pretraining classes that were not trained on, ``unseen`` images of held-out classes.
    ``n_per_class`` images of every class are used. A measure that is not defined (no class has any width, say) is
    left out.
    """
    parts = {name: part for name, part in (("source", source), ("unseen", unseen)) if part is not None}
    if not parts:
        raise SlmlpError("no features to measure: give those of source classes, of unseen classes, or both")
    for name, part in parts.items():
        _check(name, part)
    n = _images_per_class(parts, cfg.images_per_class)
    parts = {name: take_per_class(part, n, cfg.seed) for name, part in parts.items()}
    values: dict[str, float] = {"n_per_class": float(n)}
    for name, part in parts.items():
        values |= _one_part(name, part)
    if len(parts) == 2:
        values |= _mixtureness(parts["source"], parts["unseen"], cfg)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def take_per_class(features: Features, n: int, seed: int) -> Features:
    """Return n images of each class, drawn by id: the same for every encoder, whatever the order of the images."""
    rows = []
    for index in np.unique(features.y):
        members = np.flatnonzero(features.y == index)
        members = members[np.argsort(features.ids[members], kind="stable")]
        drawn = numpy_generator(seed, "measures", features.classes[index]).permutation(len(members))[:n]
        rows.append(members[drawn])
    return features.select(np.sort(np.concatenate(rows)))


def _check(name: str, part: Features) -> None:
    bad = ~np.isfinite(part.x).all(axis=1)
    if bad.any():
        raise SlmlpError(
            f"features of {int(bad.sum())} of {len(part)} {name} images are NaN or infinite: pretraining has diverged"
        )
    if len(np.unique(part.y)) < 2:
        raise SlmlpError(f"measures need images of at least two {name} classes, found {len(np.unique(part.y))}")


def _images_per_class(parts: dict[str, Features], wanted: int) -> int:
    """Return how many images every class of both parts gives."""
    sizes = {}
    for name, part in parts.items():
        for index, count in zip(*np.unique(part.y, return_counts=True), strict=True):
            sizes[f"{name} class {part.classes[index]!r}"] = int(count)
    rarest = min(sizes, key=lambda key: sizes[key])
    if max(wanted, 2) > sizes[rarest]:
        raise SlmlpError(
            f"measures need {max(wanted, 2)} images of every class, and {rarest} has {sizes[rarest]}: "
            "lower --measures.images-per-class (2 at least; 0 takes what all have), or remove the class"
        )
    return wanted or sizes[rarest]


def _one_part(name: str, part: Features) -> dict[str, float]:
    x, y = part.x, part.y
    redundancy = feature_redundancy(x)
    values = {
        f"discriminative_ratio_{name}": discriminative_ratio(x, y),
        f"discriminative_ratio_{name}_corrected": discriminative_ratio(x, y, corrected=True),
        f"discriminative_ratio_{name}_normalised": discriminative_ratio(x, y, l2=True),
        f"redundancy_{name}": redundancy.value,
        f"dead_channels_{name}": float(redundancy.dead),
        f"class_separation_{name}": class_separation(x, y),
        f"nc1_{name}": nc1(x, y),
        f"cdnv_{name}": cdnv(x, y),
        f"effective_rank_{name}": effective_rank(x),
    }
    if redundancy.channels:
        values[f"redundancy_baseline_{name}"] = redundancy_baseline(len(part), redundancy.channels)
    return values


def _mixtureness(source: Features, unseen: Features, cfg: config.Measures) -> dict[str, float]:
    """Return mixtureness at every k that leaves a choice of neighbours, each between its floor and its ceiling.

    A k above half of the other centres says little, since most are neighbours anyway: it is left out, and if that
    leaves none, half is taken. The first k that is left is the headline, and stands in ``mixtureness_k``.
    """
    pre, evaluated = class_means(source.x, source.y)[0], class_means(unseen.x, unseen.y)[0]
    half = (len(pre) + len(evaluated) - 1) // 2
    ks = [k for k in cfg.mixtureness_k if k <= half] or [half]
    values = mixtureness_many(pre, evaluated, ks, cfg.mixtureness_distance)
    sizes = (len(pre), len(evaluated))
    ceilings = mixtureness_ceilings(*sizes, pre.shape[1], ks, cfg.seed, cfg.mixtureness_distance)
    measured = {"mixtureness_k": float(ks[0])}
    for place, (k, value, ceiling) in enumerate(zip(ks, values, ceilings, strict=True)):
        name = f"mixtureness_k{k}" if place else "mixtureness"
        measured |= {name: value, f"{name}_floor": mixtureness_floor(*sizes, k), f"{name}_ceiling": ceiling}
    return measured
