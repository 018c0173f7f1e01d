"""The tasks that a study was asked for beside its own: a section each, methods and baselines down, numbers across."""

from __future__ import annotations

from slmlp.config.names import behind, display, task_title
from slmlp.report import task_blocks, words
from slmlp.report.grid import Cell, Grid, Row, percent
from slmlp.report.inputs import Inputs
from slmlp.report.page import ANSWER, Section, block


def sections(inputs: Inputs) -> list[Section]:
    """Return a section for each task, with its table and its comparisons."""
    seeds = "images only" if inputs.about["seeds"] == 1 else "seeds and images"
    return [
        Section(f"task-{i}", table.title, [block("grid", table), *task_blocks.comparisons(inputs, task, seeds)], ANSWER)
        for i, (task, table) in enumerate(zip(_tasks(inputs), grids(inputs), strict=True), start=1)
    ]


def grids(inputs: Inputs) -> list[Grid]:
    """Return the table of each task."""
    return [_grid(inputs, task) for task in _tasks(inputs)]


def _tasks(inputs: Inputs) -> list[str]:
    asked = inputs.about.get("tasks") or []
    return [task for task in asked if task_blocks.main_metrics(inputs, task)]


def _grid(inputs: Inputs, task: str) -> Grid:
    metrics = task_blocks.main_metrics(inputs, task)
    rows = [
        Row(
            display(name), [_cell(inputs, task, metric, method, layer) for metric in metrics],
            "baseline" if method in inputs.baselines else "", baseline=method in inputs.baselines,
            of=inputs.methods.index(method) if method in inputs.methods else None,
        )
        for method in (*inputs.methods, *inputs.baselines)
        for name, layer in inputs.places(task, method)
    ]  # fmt: skip
    counts = {r.n for r in inputs.rows if r.task == task}
    note = (
        f"Ranges: 95 % intervals, of methods over {'images' if inputs.about['seeds'] == 1 else 'seeds and images'}, of "
        f"baselines over images. n = {words.listed([f'{n:,}' for n in sorted(counts)])} images."
    )
    return Grid(task_title(task), "method", [(words.metric(metric), "%") for metric in metrics], rows, note)


def _cell(inputs: Inputs, task: str, metric: str, method: str, layer: str) -> Cell:
    """Return the verdict's mean and interval, else the line's own."""
    mean = inputs.mean(task, metric, method if layer == "output" else behind(method))
    if mean is None:
        return percent(inputs.spread(task, metric, method, layer=layer))
    return Cell(words.number(mean["value"]), words.span(mean.get("low"), mean.get("high")))
