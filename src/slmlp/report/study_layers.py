"""Accuracy by layer: where in the network source and unseen classes are told apart best."""

from __future__ import annotations

from statistics import fmean

from markupsafe import Markup

from slmlp.config.names import CHANCE, display
from slmlp.report import words
from slmlp.report.grid import NOTHING, Cell, Grid, Row
from slmlp.report.inputs import Inputs, Spread
from slmlp.report.page import WHY, Section, block
from slmlp.results import layers
from slmlp.results.layers import OUTPUT, SOURCE, UNSEEN, Layers

PANELS = ((UNSEEN, "unseen", "Unseen accuracy, %"), (SOURCE, "source", "Source accuracy, %"))
AT = (OUTPUT, "projector.output")  # columns of the table
BEHIND = {"projector.hidden": "inside", "projector.output": "behind"}  # layers of the projector -> names on the axis


def sections(inputs: Inputs) -> list[Section]:
    """Return the section of accuracy by layer; none where no encoder was probed at its layers."""
    found = layers.of_runs(inputs.rows)
    if not any(found.values()):
        return []
    methods = [*inputs.methods, *(name for name in inputs.baselines if found.get(name))]
    behind = any(map(layers.behind, (name for of in found.values() for one in of.values() for name in one.lines)))
    caption = (
        "A linear probe on every layer, from the stem to the encoder's output"
        + (", then inside and behind the projector, which is thrown away" if behind else "")
        + ". Where unseen accuracy falls towards the output while source accuracy rises, the last layers serve the "
        "classes trained on only; the loss asks that of what stands next to it, which is the projector where there "
        f"is one. {seeds(max(found.values(), key=len))}"
    )
    blocks = [block("panels", _panels(inputs, methods), methods, caption), block("grid", grid(inputs))]
    return [Section("layers", "Accuracy by layer", blocks, WHY)]


def seeds(found: dict[int, Layers]) -> str:
    """Return in words how many seeds the layers were probed of."""
    return "One seed; bars: 95 % intervals over images." if len(found) == 1 else f"Means of {len(found)} seeds."


def _panels(inputs: Inputs, methods: list[str]) -> list[Markup]:
    from slmlp.report.figures import Curve, panel
    from slmlp.report.study_curves import levels

    drawn = []
    for task, own, title in PANELS:
        found = layers.of_runs(inputs.rows, task)
        lines = {m: _spreads(found[m]) for m in methods if found.get(m)}
        names = list(dict.fromkeys(name for spreads in lines.values() for name in spreads))
        names.sort(key=layers.behind)  # those of the projector stand to the right of every encoder's output
        curves = []
        for method, spreads in lines.items():
            points = [(float(names.index(name)), 100 * spread.mean) for name, spread in spreads.items()]
            ranges = [(100 * s.low, 100 * s.high) if s.low is not None and s.high is not None else None
                      for s in spreads.values()]  # fmt: skip
            curves.append(Curve(method, points, ranges))
        ticks = [BEHIND.get(name, name.removeprefix("stage").removeprefix("block")) for name in names]
        start = next((i for i, name in enumerate(names) if layers.behind(name)), None)
        band = None if start is None else (start, "projector")
        # chance lies so far below that nothing else could be told apart
        across = {name: value for name, value in levels(inputs, own, "accuracy").items() if name != display(CHANCE)}
        drawn.append(panel(curves, methods, title, "layer", task, ticks=ticks, levels=across, band=band))
    return drawn


def _spreads(found: dict[int, Layers]) -> dict[str, Spread]:
    """Return layer -> accuracy over the seeds, in the order of the layers."""
    names = dict.fromkeys(name for one in found.values() for name in one.lines)
    spreads = {name: Spread.of([one.lines[name] for one in found.values() if name in one.lines]) for name in names}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def grid(inputs: Inputs) -> Grid:
    """Return how much of its best layer's accuracy every encoder keeps."""
    found = layers.of_runs(inputs.rows)
    rows = []
    for method in (*inputs.methods, *inputs.baselines):
        if by_seed := found.get(method):
            kept = [100 * one.kept for one in by_seed.values()]
            ends = words.span(min(kept), max(kept)) if len(kept) > 1 else ""
            spreads = _spreads(by_seed)
            names = words.listed(list(dict.fromkeys(one.best for one in by_seed.values())))
            at = [Cell(words.number(100 * spreads[name].mean)) if name in spreads else NOTHING for name in AT]
            there = Cell(words.number(100 * fmean(one.lines[one.best].value for one in by_seed.values())))
            cells: list[Cell | str] = [names, there, *at, Cell(words.number(fmean(kept)), ends)]
            control = method in inputs.baselines
            of = None if control else inputs.methods.index(method)  # hidden with its curves
            rows.append(Row(display(method), cells, "baseline" if control else "", False, control, of))
    note = "Unseen accuracy. Kept: accuracy at the output over that at the encoder's best layer; 100 is no tunnel."
    columns = [("best layer", ""), ("there", "%"), ("at the output", "%"), ("behind the projector", "%"), ("kept", "%")]
    return Grid("What the output keeps", "method", columns, rows, note).without_empty_columns()
