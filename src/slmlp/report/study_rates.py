"""How a study's rates, and settings varied with them, were chosen."""

from __future__ import annotations

from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.figures import Curve, Point, panel
from slmlp.report.grid import NOTHING, Cell, Grid, Row
from slmlp.report.inputs import Inputs
from slmlp.report.page import WHY, Section, block, fold

INNER = "unseen-inner"  # the choice was made on classes held out of the source classes
AXIS = "base learning rate, per 256 images"


def section(inputs: Inputs) -> Section:
    """Return the grid of learning rates, what was chosen on it, and rates that could not be trained."""
    rates = inputs.about.get("rates") or {}
    drawn, grid, validation = panels(inputs), rates.get("grid") or [], rates.get("validation") or {}
    several = len(validation) > len(inputs.methods)  # settings were varied
    if drawn or several:
        caption = _caption(inputs)
        blocks = [block("panels", drawn, inputs.methods, caption) if drawn else block("text", caption)]
        if several:
            blocks.append(fold(f"All that was tried: {len(validation)} combinations", block("grid", tried(inputs))))
    elif len(grid) == 1:
        text = (
            f"One base learning rate was used for every method, {grid[0]} per 256 images; no grid was tried, so a "
            "better rate may exist for any of them."
        )
        blocks = [block("text", text, "absent")]
    else:
        blocks = [block("text", "No grid of rates was tried; every method ran at the rate in the settings.", "absent")]
    for method, reasons in (rates.get("failed") or {}).items():
        blocks += [
            block("text", f"{display(method)} could not be trained at {rate}: {reason}")
            for rate, reason in reasons.items()
        ]
    return Section("rates", "Learning rates", blocks, WHY)


def _caption(inputs: Inputs) -> str:
    """Return what the choice was made on."""
    rates = inputs.about.get("rates") or {}
    rings = "Rings mark the rate each method was given, chosen by accuracy on "
    if rates.get("by") == INNER:
        images = inputs.images("unseen", "accuracy", "inner")
        return (
            f"{rings}{images} images of classes held out of the source classes for this choice; the study's own "
            "held-out classes played no part."
        )
    images = inputs.images("validation", "accuracy", "grid")
    count = "" if images == "unknown" else f"{images} "
    seeds = len({r.seed for r in inputs.rows if r.role == "grid"})
    equal = (
        f"At equal rates, see whether one method leads at all of them: "
        f"{'one seed' if seeds == 1 else f'{seeds} seeds'} at each rate, n = "
        f"{inputs.images('unseen', 'accuracy', 'grid')} unseen images."
        if seeds
        else "Unseen accuracy was not measured on the grid."
    )
    return f"{rings}{count}source images held back for validation; held-out classes played no part. {equal}"


def tried(inputs: Inputs) -> Grid:
    """Return the accuracy that chose of every combination of varied settings, at every rate."""
    rates = inputs.about["rates"]
    names = [f"{rate:g}" for rate in rates["grid"]]
    rows = [
        Row(
            display(method),
            [Cell(words.number(100 * found[name])) if name in found else NOTHING for name in names],
            "chosen" if method in inputs.methods else "",
            method in inputs.methods,
        )
        for method, found in rates["validation"].items()
    ]
    note = "Accuracy on what the choice was made on, one seed; columns: base learning rates."
    return Grid("All that was tried", "method", [(f"rate {name}", "%") for name in names], rows, note, main=False)


def panels(inputs: Inputs) -> list[Markup]:
    """Return the accuracy that chose with the choice ringed, and unseen accuracy where it was measured beside it."""
    facts = inputs.about.get("rates") or {}
    chose: dict[str, list[Point]] = {
        method: sorted((float(rate), value) for rate, value in values.items())
        for method, values in (facts.get("validation") or {}).items()
    }
    unseen: dict[str, list[Point]] = {}
    for r in inputs.find("unseen", "accuracy", role="grid"):
        if r.base_lr is not None:
            unseen.setdefault(r.method, []).append((r.base_lr, r.value))
    title = "Accuracy on inner held-out classes, %" if facts.get("by") == INNER else "Source validation accuracy, %"
    drawn = []
    for key, name, lines in (
        ("validation", title, chose),
        ("unseen", "Unseen accuracy at equal rates, %", unseen),
    ):
        curves = [
            Curve(m, [(x, 100 * y) for x, y in sorted(points)], ring=(facts.get("chosen") or {}).get(m))
            for m, points in lines.items()
            if m in inputs.methods and points
        ]
        if any(len(curve.points) > 1 for curve in curves):
            drawn.append(panel(curves, inputs.methods, name, AXIS, f"rates-{key}", log=True))
    return drawn
