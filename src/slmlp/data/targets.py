"""What pretraining is told of an image: its class, or the coarser group its class belongs to."""

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


def refuse_several(options: DataOptions) -> None:
    """Refuse images of several labels: a classifier with cross-entropy has one right answer an image."""
    if options.label_separator is not None:
        raise SlmlpError(
            "--label-separator is for evaluation (task linear): pretraining takes one label an image; leave it away, "
            "or pass --unlabelled with a method that uses no labels"
        )


def labelling(images: ImageSet, which: str) -> Labelling:
    """Return the labels of ``images`` by ``class`` or by ``class_group``."""
    if which == "class":
        return Labelling(images.labels, images.classes)
    if which != "class_group":
        raise unknown("labels", which, ["class", "class_group"])
    if images.groups is None:
        raise SlmlpError(
            f"--labels class_group: {images.name} names no groups; give them with --groups FILE (class<tab>group), "
            "--groups wordnet:N, or a class_group column in the manifest"
        )
    names = tuple(sorted(set(images.groups)))
    if len(names) < 2:
        raise SlmlpError(
            f"--labels class_group: all classes to train on are of one group ({names[0]}); at least 2 needed"
        )
    index = {name: i for i, name in enumerate(names)}
    of_class = np.array([index[group] for group in images.groups], dtype=np.int64)
    return Labelling(of_class[images.labels], names)
