"""Find near-identical images across a split once, and record them in it."""

from __future__ import annotations

import dataclasses

from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import leak
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime.progress import say

SIDE = 16  # pixels; enough to tell two drawings of one thing from two copies of one drawing


def check(split: ConceptSplit, image_cache: ImageCache, images: ImageSet) -> ConceptSplit:
    """Return the split with its leaks recorded, and say how many there are."""
    source, unseen = images.of_classes(split.source), images.of_classes(split.unseen)
    sides = [image_cache.squares(image_cache.rows(part), SIDE).numpy() for part in (source, unseen)]
    found = leak.near_duplicates(sides[0], sides[1])
    pairs = [
        {"source": source.ids[i], "unseen": unseen.ids[j], "distance": round(float(distance), 4)}
        for i, j, distance in found
    ]
    if pairs:
        share = len({j for _, j, _ in found}) / max(1, len(unseen))
        say(
            f"warning: {len(pairs)} near-identical pairs of images between source and held-out classes "
            f"({100 * share:.2f} % of the held-out images), listed in split.json"
        )
    return dataclasses.replace(split, leaks=tuple(pairs))
