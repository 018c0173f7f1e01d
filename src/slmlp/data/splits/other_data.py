"""Warn when a split is applied to other files than it was made for."""

from __future__ import annotations

from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime.progress import warn


def warn_of_other_data(split: ConceptSplit, images: ImageSet) -> None:
    """Warn if the data has the split's classes but other files; raise SlmlpError if classes are missing."""
    split.check(images, strict=False)
    data_hash = images.of_classes((*split.source, *split.unseen)).hash()
    if data_hash != split.data_hash:
        warn(
            f"the split was made for data hash {split.data_hash[:12]}, {images.source} has {data_hash[:12]}: "
            "same classes, other files; compare numbers only with runs on the same files"
        )
