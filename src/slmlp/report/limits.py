"""What a page can and cannot tell, each limit as (lead, sentence), as far as the facts call for it."""

from __future__ import annotations

from typing import Any

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.inputs import Inputs
from slmlp.runtime.plain import plural

Limit = tuple[str, str]


def of_study(inputs: Inputs, data: dict[str, Any]) -> list[Limit]:
    """Return the limits of a study; ``data`` are its counts."""
    study, split, seeds = inputs.about, inputs.about["split"], inputs.about["seeds"]
    edges = _edge_rates(inputs)
    random = str(split.get("rule", "")).startswith("random")
    cases: list[tuple[Any, str, str]] = [
        (
            study.get("demo"),
            "A demonstration.",
            "A small encoder and a short training show how the tool works and what its page looks like. The numbers "
            "are real, but say nothing about other data, encoders or longer training.",
        ),
        (
            seeds == 1,
            "One seed.",
            "Every method was trained once. Another seed moves accuracy by an amount this study did not measure, so a "
            "difference seen here may be chance; five seeds or more would tell.",
        ),
        (
            1 < seeds < 5,
            "Few seeds.",
            f"With {seeds} seeds per method the spread between seeds is known only roughly, and the intervals are wide "
            "for that reason.",
        ),
        (
            seeds > 1 and inputs.comparisons and not inputs.better(),
            "No difference found is not the same as no difference.",
            f"This study could not tell.{_detectable(inputs)}",
        ),
        (
            small := _small(data),
            "Small data.",
            f"There are {words.listed(small)}: methods that differ at scale can look alike here, and the reverse.",
        ),
        (
            leaks := split.get("leaks"),
            "Leaks.",
            f"{plural(leaks or 0, 'image')} of held-out classes also occur among the source classes; unseen "
            "accuracy may be too high.",
        ),
        (
            random,
            "Held out at random.",
            "The unseen classes are of the same kind as the source classes. Classes further away, or images from "
            "elsewhere, can order the methods differently.",
        ),
        (
            edges,
            "Rate at the edge.",
            f"The chosen rate of {words.listed(edges)} is the lowest or highest that was tried; a better one may lie "
            "outside the grid.",
        ),
        (
            True,
            "One data set, one split, one budget.",
            "The answer holds for these images, these held-out classes, this encoder and this length of training. The "
            "measures go along with the accuracy; they do not prove its cause.",
        ),
    ]
    return [(lead, sentence) for applies, lead, sentence in cases if applies]


def _detectable(inputs: Inputs) -> str:
    differences = [c["detectable"] for c in inputs.comparisons if c.get("detectable") is not None]
    return (
        f" A true difference under {words.number(max(differences))} points would likely be missed."
        if differences
        else ""
    )


def _small(data: dict[str, Any]) -> list[str]:
    """Return what makes the data small; nothing where it is not."""
    train, least = (data.get("parts") or {}).get("train"), (data.get("per_class") or {}).get("min")
    if not ((train is not None and train < 10_000) or (least is not None and least < 20)):
        return []
    facts = [plural(train, "training image")] if train is not None else []
    return facts + ([f"as few as {plural(least, 'image')} in a class"] if least is not None else [])


def _edge_rates(inputs: Inputs) -> list[str]:
    """Return the methods whose chosen rate is the first or last of the grid."""
    rates = inputs.about.get("rates") or {}
    grid, chosen = rates.get("grid") or [], rates.get("chosen") or {}
    return [display(m) for m in inputs.methods if len(grid) > 1 and chosen.get(m) in (min(grid), max(grid))]


def of_detection(about: dict[str, Any]) -> list[Limit]:
    """Return the limits of a comparison of detectors."""
    settings, steps, images = about["settings"], about["resolved"]["steps"], about["images"]
    names = [row["name"] for row in about["rows"]]
    rough = ", and with so few images they are themselves only rough." if images < 50 else "."
    cases = [
        (
            steps * settings["batch_size"] < 1_000_000 or settings["short_side"] < 800,
            "A short training.",
            f"{steps:,} updates of {plural(settings['batch_size'], 'image')} at a short side of up to "
            f"{settings['short_side']} pixels; the published schedule takes 1,440,000 images at 640 to 800. Encoders "
            "that differ there can look alike here, and the reverse; AP here is no number to set beside published "
            "ones.",
        ),
        (
            images < 500,
            "Few images.",
            f"AP is measured on {plural(images, 'image')}; the intervals are wide for that reason{rough}",
        ),
        (
            len(set(names)) == len(names),
            "One training each.",
            "Intervals are over images; another seed of pretraining or of the detector moves AP by an amount not "
            "measured here.",
        ),
        (True, "One detector.", "The answer holds for this data, detector, schedule and size of image."),
    ]
    return [(lead, sentence) for applies, lead, sentence in cases if applies]
