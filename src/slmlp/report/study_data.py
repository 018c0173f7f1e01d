"""What a study was made from: the split and the images."""

from __future__ import annotations

from statistics import median
from typing import Any

from slmlp.report.page import Section, block, fold
from slmlp.runtime.plain import plural


def sections(about: dict[str, Any]) -> list[Section]:
    """Return the split and the data."""
    facts = block("facts", data_rows(counts(about["data"])), "The images as they were read")
    return [_split(about["split"]), Section("data", "Data", [facts])]


def _split(split: dict[str, Any]) -> Section:
    """Return how the classes were divided, and their names."""
    leaks = split.get("leaks")
    rows = [
        ("rule", split.get("rule")),
        ("seed", split.get("seed")),
        ("held-out superclasses", ", ".join(split.get("held_out_superclasses") or [])),
        ("leaks", None if leaks is None else f"{leaks:,}" if leaks else "none found"),
        ("hash of the source classes", split.get("source_hash")),
        ("hash of the unseen classes", split.get("unseen_hash")),
    ]
    facts = [(key, str(value)) for key, value in rows if value not in (None, "")]
    blocks = [block("facts", facts, "Which classes were held out of pretraining")]
    for title, classes in (("Unseen classes", split["unseen"]), ("Source classes", split["source"])):
        blocks.append(fold(f"{title}: {len(classes):,}", block("names", classes)))
    return Section("split", "The split", blocks)


def counts(data: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the data as counts, also where the loader's own, longer summary was written."""
    facts = dict(data)
    classes = facts["classes"]
    if isinstance(classes, dict):  # name -> images of each part
        sizes = [sum(n for n in of.values() if isinstance(n, int)) for of in classes.values()]
        facts.setdefault("per_class", {"min": min(sizes), "median": median(sizes), "max": max(sizes)})
    if "duplicates_across_parts" in facts:
        facts.setdefault("duplicates", facts["duplicates_across_parts"])
    if isinstance(facts.get("ignored"), dict):  # reason -> files
        facts["ignored"] = sum(facts["ignored"].values())
    for key in ("classes", "superclasses", "unreadable", "duplicates"):
        if isinstance(facts.get(key), dict | list):
            facts[key] = len(facts[key])
    return facts


def data_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the data, as ``counts`` gives them, as (name, value)."""
    parts = ", ".join(f"{n:,} {part}" for part, n in (data.get("parts") or {}).items())
    superclasses = data.get("superclasses")
    within = f" in {plural(superclasses, 'superclass', 'superclasses')}" if superclasses else ""
    rows = [
        ("name", data.get("name")),
        ("source", data.get("source")),
        ("images", f"{data['images']:,}" + (f" ({parts})" if parts else "")),
        ("classes", f"{data['classes']:,}{within}"),
        ("images per class", ", ".join(f"{key} {value:,g}" for key, value in (data.get("per_class") or {}).items())),
        *((key, f"{data[key]:,}") for key in ("unreadable", "duplicates", "ignored") if data.get(key) is not None),
        ("hash", data.get("hash")),
    ]
    return [(key, str(value)) for key, value in rows if value]
