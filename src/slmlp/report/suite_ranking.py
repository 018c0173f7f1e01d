"""Who won a suite: all encoders ranked, what each costs, and the differences to the one that a reader chooses."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import choice, forests, words
from slmlp.report.drawing import style_of
from slmlp.report.grid import NOTHING, Cell, Grid, Row
from slmlp.report.inputs import Inputs, found
from slmlp.report.page import block

FIXED = "other seeds and images of these data sets (fixed effects)"


def blocks(inputs: Inputs, number: str) -> list[Markup]:
    """Return the ranking, the costs and the differences by the headline's number; nothing where nothing is compared.

    ``number`` is what it is of, as "linear probe".
    """
    means = _means(inputs)
    if not means:
        return []
    rows = [
        forests.Difference(
            display(name), mean["value"], mean.get("low"), mean.get("high"), style_of(inputs.methods, name)["color"],
            of=inputs.methods.index(name), level=True,
        )
        for name, mean in means
    ]  # fmt: skip
    sets = len(means[0][1]["data"])
    where = f"mean over {sets} data sets, each counting alike" if sets > 1 else f"on {means[0][1]['data'][0]}"
    caption = (
        f"{words.opening(number)}, {where}, with 95 % intervals for {FIXED if sets > 1 else 'other seeds and images'}. "
        "Whether two differ is told by their difference, below, not by where their bars end."
    )
    drawn = forests.forest(rows, f"{number}, %", "levels")
    table = costs(inputs)
    axis = f"difference in {number}, percentage points"
    note = "Differences in percentage points. Holm's correction is for the number of comparisons."
    compared = choice.differences(inputs.task, inputs.methods, axis, "forest", functools.partial(_caption, sets), note)
    return [
        block("key", inputs.methods),
        block("forest", *drawn, caption),
        *([block("grid", table)] if table else []),
        compared,
    ]


def _caption(sets: int, comparisons: Sequence[choice.Found]) -> str:
    """Return what the drawing of the differences shows."""
    over = FIXED if sets > 1 else "other seeds and images"
    text = f"Each encoder minus the one compared with: mean difference and its 95 % interval for {over}"
    if sets == 1:
        text += "; dots: one seed each"
    if any(c["detectable"] and not found(c) for c in comparisons):
        text += "; shaded, where nothing was found: too small to find reliably"
    return f"{text}. Where the bar leaves out zero, chance is an unlikely explanation."


def _means(inputs: Inputs) -> list[tuple[str, dict[str, Any]]]:
    """Return the encoders with their means, the best first."""
    means = inputs.task.get("means") or {}
    ranked = [(name, means[name]) for name in inputs.methods if name in means]
    return sorted(ranked, key=lambda item: -item[1]["value"])


def costs(inputs: Inputs) -> Grid | None:
    """Return accuracy beside cost, where suite.json knows the costs."""
    first = {one["name"]: one for one in reversed(inputs.about["encoders"])}
    if not all("parameters" in one for one in first.values()):
        return None
    rows = []
    for name, mean in _means(inputs):
        one = first[name]
        cells = [
            Cell(words.number(mean["value"]), words.span(mean.get("low"), mean.get("high"))),
            _millions(one["parameters"]),
            _millions(one["multiply_adds"]),
            Cell(f"{one['features']:,}"),
            Cell(f"{one['side']:,}"),
            _speed(one.get("images_per_second")),
        ]
        control = name in inputs.about["untrained"]
        rows.append(
            Row(display(name), cells, "untrained" if control else "", False, control, inputs.methods.index(name))
        )
    headings = [
        ("mean", "%"),
        ("parameters", "M"),
        ("multiply-adds per image", "M"),
        ("features", ""),
        ("image", "px"),
        ("features", "images/s"),
    ]
    note = "Multiply-adds are counted in one forward pass, and the same on every machine. A dash: not to be seen."
    machines = list(dict.fromkeys(one["measured_on"] for one in first.values() if "measured_on" in one))
    if machines:
        note += f" Images a second were measured on a few images and on one machine: {' and '.join(machines)}."
    return Grid("Accuracy and cost", "encoder", headings, rows, note).without_empty_columns()


def _speed(value: float | None) -> Cell:
    return NOTHING if not value else Cell(words.number(value, 0 if value >= 100 else 1 if value >= 10 else 2))


def _millions(value: int | None) -> Cell:
    return (
        NOTHING if value is None else Cell(words.number(value / 1e6, 0 if value >= 1e8 else 1 if value >= 1e7 else 2))
    )
