"""Say which pictures and annotations of a COCO data set were read, and write it beside the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmlp.detection.coco import DetectionSet, copies_of_training
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import few
from slmlp.runtime.progress import say, warn

COUNTED, LISTED = "data.json", "unreadable.txt"
EXAMPLES = 3  # entries that a line names


def announce(parts: Mapping[str, DetectionSet], folder: Path) -> None:
    """Say the counts of every part, and write them: ``data.json`` and, where any was left out, ``unreadable.txt``.

    ``unreadable.txt`` has a line ``part <tab> picture or annotation <tab> reason`` each.
    """
    summaries = summary(parts)
    for name, part in parts.items():
        say(part.describe())
        if part.left_out:
            say(f"  left out of {name}: {few((f'{entry}: {why}' for entry, why in part.left_out), EXAMPLES, '; ')}")
        if pairs := summaries[name]["duplicates_with_training"]:
            warn(
                f"{len(pairs):,} of {len(part):,} {name} images equal a training image byte for byte: "
                + few((" = ".join(pair) for pair in pairs), EXAMPLES)
            )
    json_files.write(folder / COUNTED, summaries)
    lines = [f"{name}\t{entry}\t{reason}\n" for name, part in parts.items() for entry, reason in part.left_out]
    if lines:
        files.write_text(folder / LISTED, "".join(lines))
    else:
        (folder / LISTED).unlink(missing_ok=True)


def summary(parts: Mapping[str, DetectionSet]) -> dict[str, dict[str, Any]]:
    """Return what was read of each part, as JSON values: see docs/detection.md."""
    return {name: _of_part(part, copies_of_training(parts, name)) for name, part in parts.items()}


def _of_part(part: DetectionSet, duplicates: list[tuple[str, str]]) -> dict[str, Any]:
    annotations = [a for picture in part.pictures for a in picture.annotations]
    per_category = Counter(a["category_id"] for a in annotations if not a["iscrowd"])
    left_out = Counter(entry.split(" ", 1)[0] for entry, _ in part.left_out)
    return {
        "source": part.source,
        "hash": part.hash(),
        "images": len(part),
        "images_to_train_on": len(part.usable()),
        "objects": part.objects,
        "crowd_regions": len(annotations) - part.objects,
        "masks": part.masks,
        "categories": [{"id": key, "name": name, "objects": per_category[key]} for key, name in part.categories],
        "left_out": {"images": left_out["image"], "annotations": left_out["annotation"]},
        "duplicates_with_training": [list(pair) for pair in duplicates],
    }
