"""Choose the labels of pretraining: classes or superclasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slmlp.config import DataOptions
from slmlp.data.dataset import ImageSet, IntArray
from slmlp.runtime.errors import SlmlpError, unknown


@dataclass(frozen=True)
class Labelling:
    """Labels (N,) and their names."""

    y: IntArray
    names: tuple[str, ...]


def check_one_label(options: DataOptions) -> None:
    """Raise SlmlpError for multilabel data: cross-entropy needs one label per image."""
    if options.label_separator is not None:
        raise SlmlpError(
            "--label-separator is for evaluation (task linear): pretraining takes one label per image; leave it out, "
            "or pass --unlabelled with a method that uses no labels"
        )


def labelling(images: ImageSet, which: str) -> Labelling:
    """Return the labels of ``images`` by ``class`` or by ``superclass``."""
    if which == "class":
        return Labelling(images.labels, images.classes)
    if which != "superclass":
        raise unknown("labels", which, ["class", "superclass"])
    if images.superclasses is None:
        raise SlmlpError(
            f"--labels superclass: {images.name} names no superclasses; give them with --superclasses FILE "
            "(class<tab>superclass), --superclasses wordnet:N, or a superclass column in the manifest"
        )
    names = tuple(sorted(set(images.superclasses)))
    if len(names) < 2:
        raise SlmlpError(
            f"--labels superclass: all classes to train on are of one superclass ({names[0]}); at least 2 needed"
        )
    index = {name: i for i, name in enumerate(names)}
    of_class = np.array([index[superclass] for superclass in images.superclasses], dtype=np.int64)
    return Labelling(of_class[images.labels], names)
