"""The page of a transfer suite: one section per task, over all encoders and data sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from slmlp.config import TASKS
from slmlp.config.names import display, task_title
from slmlp.report import task_blocks, words
from slmlp.report.grid import NOTHING, Cell, Grid, Row, percent
from slmlp.report.inputs import Inputs, Spread
from slmlp.report.page import ANSWER, WHY, Page, Section, block, fold, machine, settings, warnings
from slmlp.runtime.plain import plural

EVERY_LAYER = [name for name, task in TASKS.items() if task.every_layer]
CURVES = {
    "label-efficiency": "Bars: lowest to highest seed, or the 95 % interval of one. See where the curves part: few "
    "labels ask more of the features.",
    **dict.fromkeys(
        EVERY_LAYER,
        "A probe on each stage's pooled output, last the encoder's own. The paper finds that plain supervised "
        "pretraining loses in the last stage what it had before.",
    ),
}
FOREST = (
    "Large dots and bars: one data set each, with its 95 % interval over seeds and images; small dots: its seeds; "
    "shaded: differences too small to find reliably there. Diamonds: the mean over data sets, each counting alike; "
    "fixed effects are other seeds and images of these data sets, random effects other data sets too."
)


def page(inputs: Inputs) -> Page:
    """Return the page of a suite."""
    about, sets = inputs.about, _sets(inputs)
    encoders = [(contender["run"], contender["described"]) for contender in about["encoders"]]
    data = [
        block(
            "facts",
            [(facts["name"], facts["description"]) for facts in about["data"]],
            ("The images as they were read"),
        )
    ]
    if about["missing"]:
        data.append(block("text", f"Of Islam et al. 2021, not there: {', '.join(about['missing'])}.", "gap"))
    lines = every_number(inputs)
    sections = [
        _verdict(inputs),
        *sorted((_task(inputs, task, i) for i, task in enumerate(about["tasks"], 1)), key=lambda one: one.part == WHY),
        *warnings(about["warnings"]),
        Section("every", "Every number", [fold(f"{len(lines.rows)} lines", block("grid", lines))]),
        Section("encoders", "Encoders", [block("facts", encoders, "Each encoder, and how its images are prepared")]),
        Section("data", "Data", data),
        settings(about["settings"]),
        machine(about),
    ]
    eyebrow = f"slmlp suite · {plural(len(sets), 'data set')} · {words.day(about.get('finished'))}"
    return Page(about["title"], eyebrow, about["versions"].get("slmlp"), sections)


def _sets(inputs: Inputs) -> list[str]:
    """Return the names of the data sets, in order."""
    return [facts["name"] for facts in inputs.about["data"]]


def _verdict(inputs: Inputs) -> Section:
    """Return the answer in words, the ranking, and each encoder against the baseline on the headline's number."""
    from slmlp.report import suite_ranking

    sentences = inputs.verdict.get("sentences") or ["No verdict was written for this suite."]
    blocks = [block("text", inputs.about["how"], "how"), block("verdict", sentences)]
    if inputs.comparisons:
        task, metric = inputs.verdict["headline"].split(" ", 1)
        number = title(task, metric)
        blocks += suite_ranking.blocks(inputs, number[0].lower() + number[1:] + " accuracy" * (metric == "accuracy"))
        blocks += _by_data_set(inputs)
    return Section("verdict", "Verdict", blocks, ANSWER)


def _by_data_set(inputs: Inputs) -> list[Markup]:
    """Return each encoder against the baseline on each data set; the tables have the untrained ones."""
    compared = [c for c in inputs.comparisons if c["b"] not in inputs.about["untrained"] and len(c["sets"]) > 1]
    drawn = [
        block(
            "forest", *forest(inputs.methods, c, f"sets-{i}"), FOREST if c is compared[-1] else "",
            f"{display(c['b'])} against {display(c['a'])}",
        )
        for i, c in enumerate(compared)
    ]  # fmt: skip
    return [fold("By data set", *drawn)] if drawn else []


def forest(methods: Sequence[str], comparison: dict[str, Any], name: str) -> tuple[Markup, Markup]:
    """Return one encoder against the baseline: a row per data set, then the mean with the intervals of both kinds."""
    from slmlp.report import forests

    rows = [forests.paired(methods, one, one["data"][0], mean=False) for one in comparison["sets"]]
    if len(rows) > 1:
        random = {"low": comparison["random_effects"]["low"], "high": comparison["random_effects"]["high"]}
        rows.append(forests.paired(methods, {**comparison, "detectable": None}, "mean, fixed effects"))
        rows.append(forests.paired(methods, {**comparison, "detectable": None, **random}, "mean, random effects"))
    by_set = ", ".join(f"{one['data'][0]} {words.signed(one['difference'])}" for one in comparison["sets"])
    ends = (display(comparison["a"]), display(comparison["b"]))
    return forests.forest(rows, "difference, percentage points", name, f"{comparison['sentence']}; {by_set}", ends)


def _task(inputs: Inputs, task: str, place: int) -> Section:
    """Return curves or tables of a task, and every comparison in words."""
    blocks = []
    if task in CURVES:
        drawn = _label_curves(inputs) if task == "label-efficiency" else _layer_curves(inputs, task)
        if drawn:
            blocks.append(block("panels", drawn, inputs.methods, CURVES[task]))
    grids = _grids(inputs, task)
    for table in grids:
        if len(grids) > 1 or table.title != title(task):
            blocks.append(block("heading", table.title))
        blocks.append(block("grid", table))
    blocks += task_blocks.comparisons(inputs, task, "seeds, images and data sets (fixed effects)")
    return Section(f"task-{place}", title(task), blocks, WHY if task == "layerwise" else "By task")


def title(task: str, metric: str = "accuracy") -> str:
    """Return what a table or figure is of."""
    return task_title(task) + ("" if metric == "accuracy" else f": {words.metric(metric)}")


def grids(inputs: Inputs) -> list[Grid]:
    """Return a table for every task with one number for each encoder and data set."""
    return [table for task in inputs.about["tasks"] for table in _grids(inputs, task)]


def _grids(inputs: Inputs, task: str) -> list[Grid]:
    if task in EVERY_LAYER:
        return []  # a curve
    return [grid(inputs, task, metric) for metric in task_blocks.main_metrics(inputs, task)]


def grid(inputs: Inputs, task: str, metric: str) -> Grid:
    """Return the table of one number: encoders down, data sets across, the mean at the end."""
    sets, untrained = _sets(inputs), inputs.about["untrained"]
    verdict = (inputs.verdict.get("tasks") or {}).get(f"{task} {metric}") or {}
    winners = {c["winner"] for c in verdict.get("comparisons") or [] if c["winner"] == c["b"]}
    columns = [(name, "%") for name in sets]
    if len(sets) > 1:
        columns += [("mean", "%"), ("mean log-odds", "")]
    rows = []
    for method in inputs.methods:
        seeds = _seeds(inputs, method)
        note = "untrained" if method in untrained else f"{seeds} seeds" if seeds > 1 else ""
        for contender, layer in inputs.places(task, method):
            cells = [percent(inputs.spread(task, metric, method, data=name, layer=layer)) for name in sets]
            mean = (verdict.get("means") or {}).get(contender)
            if len(sets) > 1 and mean:
                cells += [Cell(words.number(mean["value"])), Cell(words.number(mean["log_odds"], 2))]
            elif len(sets) > 1:
                cells += [NOTHING] * 2
            of = inputs.methods.index(method)
            rows.append(Row(display(contender), cells, note, contender in winners, method in untrained, of))
    return Grid(title(task, metric), "encoder", columns, rows, _note(inputs))


def _seeds(inputs: Inputs, method: str) -> int:
    return len({r.seed for r in inputs.rows if r.method == method})


def _note(inputs: Inputs) -> str:
    several = any(_seeds(inputs, method) > 1 for method in inputs.methods)
    note = "Ranges: 95 % interval over images"
    note += "; of several seeds, lowest to highest." if several else ", this encoder only."
    if len(_sets(inputs)) > 1:
        note += " Means count every data set alike; log-odds, ln(p / (1 - p)), weigh a point near the top more."
    if inputs.about["missing"]:
        note += f" Not in these means, because not there: {', '.join(inputs.about['missing'])}."
    return note


def every_number(inputs: Inputs) -> Grid:
    """Return every number of the suite, means over seeds."""
    rows = []
    for method, data, task, layer, metric in dict.fromkeys(
        (r.method, r.data, r.task, r.layer, r.metric) for r in inputs.rows
    ):
        lines = inputs.find(task, metric, method, data=data, layer=layer)
        spread = Spread.of(lines)
        assert spread is not None
        ends = words.span(spread.low, spread.high, 4) or words.NOTHING
        cells = [
            data,
            task,
            layer,
            words.metric(metric),
            str(len(lines)),
            f"{spread.mean:.4f}",
            ends,
            f"{lines[0].n:,}",
        ]
        rows.append(Row(display(method), cells))
    headings = ("data", "task", "layer", "number", "seeds", "mean", "range", "images")
    return Grid("Every number", "encoder", [(name, "") for name in headings], rows, main=False)


def _label_curves(inputs: Inputs) -> list[Markup]:
    """Return accuracy over the number of labels, a panel per data set and kind of axis (shares, images per class)."""
    metrics = {r.metric for r in inputs.rows if r.task == "label-efficiency"}
    panels = []
    for kind, pattern, axis in (
        ("percent", r"accuracy_at_([\d.]+)_percent", "share of the training labels, %"),
        ("shots", r"accuracy_at_(\d+)_shots?", "labelled images per class"),
    ):
        found = [(float(match[1]), metric) for metric in metrics if (match := re.fullmatch(pattern, metric))]
        places = [(x, metric, "output") for x, metric in sorted(found)]
        if len(places) > 1:
            for i, data in enumerate(_sets(inputs)):
                name = f"labels-{kind}-{i}"
                panels.append(_panel(inputs, "label-efficiency", data, inputs.methods, places, axis, name, log=True))
    return panels


def _layer_curves(inputs: Inputs, task: str) -> list[Markup]:
    """Return accuracy of a linear probe at every depth, a panel per data set and network."""
    panels = []
    for i, data in enumerate(_sets(inputs)):
        networks: dict[tuple[str, ...], list[str]] = {}
        for method in inputs.methods:
            rows = [r for r in inputs.rows if (r.task, r.data, r.method) == (task, data, method)]
            layers = tuple(dict.fromkeys(r.layer for r in rows if not r.layer.startswith("projector")))
            if layers:
                networks.setdefault(layers, []).append(method)
        for k, (layers, methods) in enumerate(networks.items()):
            places = [(float(x), "accuracy", layer) for x, layer in enumerate(layers)]
            ticks = [layer.removeprefix("stage").removeprefix("block") for layer in layers]
            panels.append(_panel(inputs, task, data, methods, places, "depth", f"{task}-{i}-{k}", ticks=ticks))
    return panels


def _panel(
    inputs: Inputs, task: str, data: str, methods: Sequence[str], places: Sequence[tuple[float, str, str]], axis: str,
    name: str, **more: Any,
) -> Markup:  # fmt: skip
    """Return accuracy on one data set; ``places`` are (where on the axis, metric, layer)."""
    from slmlp.report.figures import Curve, panel

    curves = []
    for method in methods:
        spreads = [(x, inputs.spread(task, metric, method, data=data, layer=layer)) for x, metric, layer in places]
        points = [(x, spread) for x, spread in spreads if spread is not None]
        ranges = [(100 * s.low, 100 * s.high) if s.low is not None and s.high is not None else None for _, s in points]
        curves.append(Curve(method, [(x, 100 * s.mean) for x, s in points], ranges))
    return panel(curves, inputs.methods, f"{data}, accuracy, %", axis, name, **more)
