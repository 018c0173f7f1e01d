"""The tables of a transfer suite, one a task: encoders down, data sets across, the mean at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from slmlp.config import TASKS
from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.suite_inputs import SuiteInputs, read
from slmlp.report.tables import NOTHING, Cell, Grid, Row, as_rich

MAIN_METRICS = ("accuracy", "map")  # where a task has one of these, it is shown first
OTHER_METRICS = ("mean_class_accuracy", "ece")  # beside accuracy, in the table of every number


def grid(inputs: SuiteInputs, task: str, metric: str) -> Grid:
    """Return the table of one number over encoders and data sets."""
    sets = inputs.sets
    verdict = (inputs.verdict.get("tasks") or {}).get(f"{task} {metric}") or {}
    winners = {c["winner"] for c in verdict.get("comparisons") or [] if c["winner"] == c["b"]}
    columns = [*((name, "%") for name in sets)]
    if len(sets) > 1:
        columns += [("mean", "%"), ("mean log-odds", "")]
    rows = []
    for method in inputs.methods:
        seeds = len({r.seed for r in inputs.rows if r.method == method})
        cells = [_cell(inputs, task, metric, method, name) for name in sets]
        if len(sets) > 1:
            mean = (verdict.get("means") or {}).get(method)
            cells += [
                Cell(words.number(mean["value"])) if mean else NOTHING,
                Cell(words.number(mean["log_odds"], 2)) if mean else NOTHING,
            ]
        note = "untrained" if method in inputs.untrained else f"{seeds} seeds" if seeds > 1 else ""
        rows.append(Row(method, display(method), note, method in winners, method in inputs.untrained, tuple(cells)))
    return Grid(tuple(columns), tuple(rows), _note(inputs))


def _cell(inputs: SuiteInputs, task: str, metric: str, method: str, data: str) -> Cell:
    found = inputs.spread(task, metric, method, data)
    if found is None:
        return NOTHING
    low, high = (None if v is None else 100 * v for v in (found.low, found.high))
    return Cell(words.number(100 * found.mean), words.span(low, high))


def _note(inputs: SuiteInputs) -> str:
    seeds = max((len({r.seed for r in inputs.rows if r.method == m}) for m in inputs.methods), default=1)
    what = "Ranges: 95 % interval over images"
    note = what + ("; of several seeds, lowest to highest." if seeds > 1 else ", this encoder only.")
    if len(inputs.sets) > 1:
        note += " Means count every data set alike; log-odds, ln(p / (1 - p)), weigh a point near the top more."
    if inputs.about["missing"]:
        note += f" Not in these means, because not there: {', '.join(inputs.about['missing'])}."
    return note


def headline(inputs: SuiteInputs, task: str) -> Sequence[str]:
    """Return the metrics of a task that get a table of their own."""
    metrics = inputs.metrics(task)
    main = [m for m in metrics if m in MAIN_METRICS]
    return main or [m for m in metrics if m not in OTHER_METRICS]


def print_tables(folder: Path) -> None:
    """Print a table for every task with one number for each encoder and data set."""
    inputs = read(folder)
    console = Console()
    if not console.is_terminal:  # a file or pipe has no width of its own
        console = Console(width=160)
    for task in inputs.tasks:
        if task == "layerwise":
            continue  # a curve, on the page
        for metric in headline(inputs, task):
            console.print(as_rich(grid(inputs, task, metric), title(task, metric), "encoder"))


def title(task: str, metric: str) -> str:
    """Return what a table or figure is of."""
    return TASKS[task].title + ("" if metric == "accuracy" else f": {words.metric(metric)}")
