"""Differences to whichever contender a reader compares with: as they were computed, one drawing for each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import forests
from slmlp.report.grid import comparison_grid
from slmlp.report.page import block, fold

Found = Mapping[str, Any]  # a comparison, as ``results.verdict`` writes it
Caption = Callable[[Sequence[Found]], str]  # what a drawing of these comparisons shows


def turned(c: Found) -> dict[str, Any]:
    """Return the same comparison seen from its other side.

    >>> turned({"a": "x", "b": "y", "difference": 2.0, "low": 1.0, "high": 3.0, "per_seed": [2.0]})["low"]
    -3.0
    """
    found = dict(c) | {"a": c["b"], "b": c["a"], "difference": -c["difference"], **_ends(c)}
    found["per_seed"] = [-value for value in c.get("per_seed") or ()]
    if c.get("random_effects"):
        found["random_effects"] = dict(c["random_effects"]) | _ends(c["random_effects"])
    return found


def _ends(c: Found) -> dict[str, float | None]:
    low, high = c.get("low"), c.get("high")
    return {"low": None if high is None else -high, "high": None if low is None else -low}


def against(task: Mapping[str, Any], methods: Sequence[str], baseline: str) -> list[dict[str, Any]]:
    """Return every contender against one of them, in their order, from the verdict of a task; empty where it has none.

    The comparisons with the verdict's own baseline are those that the study was made for, corrected for their number;
    all others are corrected for every two contenders.
    """
    if baseline == task.get("baseline", methods[0]):
        return [dict(c) for c in task.get("comparisons") or ()]
    found = {}
    for c in task.get("every") or ():
        if baseline in (c["a"], c["b"]):
            one = dict(c) if c["a"] == baseline else turned(c)
            found[one["b"]] = one
    return [found[name] for name in methods if name in found]


def differences(
    task: Mapping[str, Any], methods: Sequence[str], axis: str, name: str, caption: Caption, note: str,
    *, beside: Sequence[forests.Difference] = (),
) -> Markup:  # fmt: skip
    """Return the drawing of all differences with their numbers folded below, for the reader's choice of a baseline."""
    options = []
    for i, baseline in enumerate(methods):
        compared = against(task, methods, baseline)
        if not compared:
            continue
        ends = (display(compared[0]["a"]), display(compared[0]["b"])) if len(compared) == 1 else None
        rows = [forests.paired(methods, c) for c in compared]
        drawn = forests.forest(rows, axis, f"{name}-{i}", ends=ends, beside=beside)
        own = baseline == task.get("baseline", methods[0])
        correction = "" if own else f" Here that is all {len(task['every'])} pairs of contenders."
        title = "The comparison in numbers" if own else f"Against {display(baseline)} in numbers"
        table = block("grid", comparison_grid(compared, title, note + correction))
        options.append((display(baseline), block("forest", *drawn, caption(compared)) + fold(title, table)))
    return block("choice", name, options)
