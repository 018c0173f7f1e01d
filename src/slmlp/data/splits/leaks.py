"""Record near-identical images of source and held-out classes in a split."""

from __future__ import annotations

import dataclasses

from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import leak
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime.progress import warn

SIDE = 16  # pixels; enough to distinguish two drawings of an object from two copies of a drawing


def check(split: ConceptSplit, image_cache: ImageCache, images: ImageSet) -> ConceptSplit:
    """Return the split with near-identical pairs in ``leaks``; warn if there are any."""
    source, unseen = images.of_classes(split.source), images.of_classes(split.unseen)
    sides = [image_cache.squares(image_cache.rows(part), SIDE).numpy() for part in (source, unseen)]
    duplicates = leak.near_duplicates(sides[0], sides[1])
    pairs = [
        {"source": source.ids[i], "unseen": unseen.ids[j], "distance": round(float(distance), 4)}
        for i, j, distance in duplicates
    ]
    if pairs:
        share = len({j for _, j, _ in duplicates}) / max(1, len(unseen))
        warn(
            f"{len(pairs)} near-identical pairs of images between source and held-out classes "
            f"({100 * share:.2f} % of the held-out images), listed in split.json"
        )
    return dataclasses.replace(split, leaks=tuple(pairs))
