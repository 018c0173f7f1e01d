"""The answer of the commands that end with a page: its tables and sentences, its numbers row by row, its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from slmlp import report
from slmlp.cli.answer import Answer
from slmlp.cli.table import Table, Value
from slmlp.report.grid import Grid, Row
from slmlp.report.inputs import AT_THE_END, Inputs, Spread, read
from slmlp.runtime import json_files

ROWS = ("method", "data", "task", "layer", "metric", "value", "low", "high", "seeds", "n")
FIRST = "mean"  # over data sets: the column of a suite that is shown where not all of them fit


def answer(page: Path) -> Answer:
    """Return what the folder of a page holds."""
    inputs = read(page.parent)
    following = inputs.about.get("next")
    lines = [*([f"next: {following['command']}"] if following else []), f"report: {page}"]
    document = {
        "folder": page.parent,
        "report": page,
        "verdict": _verdict(page.parent),
        "results": [dataclasses.asdict(row) for row in inputs.rows if row.role in AT_THE_END],
        "next": following,
        "warnings": inputs.about.get("warnings") or [],
    }
    tables = [table(grid) for grid in report.tables(page.parent)]
    sentences = inputs.verdict["sentences"]
    lead, rest = inputs.opening
    if rest and len(lead) > 1:  # the question has several answers: what else was compared is on the page
        sentences = [*lead, f"{len(rest)} further findings stand on the page"]
    return Answer(document, tables, sentences, lines, numbers(inputs))


def _verdict(folder: Path) -> dict[str, Any]:
    return json_files.read(folder / "verdict.json", dict[str, Any])


def table(grid: Grid) -> Table:
    """Return a table of a page for the terminal."""
    first = [i for i, (heading, _) in enumerate(grid.columns) if heading == FIRST]
    order = first + [i for i in range(len(grid.columns)) if i not in first]
    return Table(
        (grid.corner, *(grid.headings[i] for i in order)), [_cells(row, order) for row in grid.rows], grid.title,
        grid.note, ["bold" if row.better else "dim" if row.baseline else "" for row in grid.rows],
    )  # fmt: skip


def _cells(row: Row, order: list[int]) -> list[Value]:
    cells = (row.cells[i] for i in order)
    texts = (cell if isinstance(cell, str) else f"{cell.value}\n{cell.range}".strip() for cell in cells)
    return [f"{row.label}\n{row.note}".strip(), *texts]


def numbers(inputs: Inputs) -> Table:
    """Return every number at the end of training: means over seeds, shares as in results.jsonl, with their range."""
    rows: list[list[Value]] = []
    found = [row for row in inputs.rows if row.role in AT_THE_END]
    for method, data, task, layer, metric in dict.fromkeys(
        (r.method, r.data, r.task, r.layer, r.metric) for r in found
    ):
        lines = inputs.find(task, metric, method, data=data, layer=layer)
        spread = Spread.of(lines)
        assert spread is not None
        ends = (spread.low, spread.high)
        rows.append([method, data, task, layer, metric, spread.mean, *ends, len(lines), lines[0].n])
    return Table(ROWS, rows)
