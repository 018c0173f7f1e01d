"""Apply a split that was made for other files."""

from __future__ import annotations

from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.runtime.progress import say


def warn_of_other_data(held: ConceptSplit, images: ImageSet) -> None:
    """Say when a split's classes are there but not the very files it was made for; missing classes are an error."""
    held.check(images, strict=False)
    found = images.of_classes((*held.source, *held.unseen)).hash()
    if found != held.data_hash:
        say(
            f"warning: the split was made for data hash {held.data_hash[:12]}, {images.source} has {found[:12]}: the "
            "classes agree, the files do not; numbers pair only with runs on the same files"
        )
