"""The one table of a study, for the page, the terminal and the docs: the same cells everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.inputs import Inputs, read


@dataclass(frozen=True)
class Cell:
    """One value as text, and the range that stands beneath it."""

    value: str
    range: str = ""

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.value} ({self.range})" if self.range else self.value


@dataclass(frozen=True)
class Row:
    """A method or a baseline."""

    method: str
    label: str
    note: str  # "compared with", "better than SL", "baseline"
    better: bool  # the verdict supports it as best
    baseline: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """The table: ``columns`` are (heading, group) and align with every row's cells."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    note: str


NOTHING = Cell(words.NOTHING)


def _unseen(inputs: Inputs, method: str) -> Cell:
    """Return unseen accuracy: the verdict's mean and interval where it has them."""
    mean = (inputs.task.get("means") or {}).get(method)
    if mean:
        return Cell(words.number(mean["value"]), words.span(mean.get("low"), mean.get("high")))
    return _accuracy("unseen")(inputs, method)


def _accuracy(task: str) -> Callable[[Inputs, str], Cell]:
    """Return the reader of an accuracy in percent."""

    def cell(inputs: Inputs, method: str) -> Cell:
        found = inputs.spread(task, "accuracy", method)
        if found is None:
            return NOTHING
        low, high = (None if v is None else 100 * v for v in (found.low, found.high))
        return Cell(words.number(100 * found.mean), words.span(low, high))

    return cell


def _difference(inputs: Inputs, method: str) -> Cell:
    """Return the difference to the first method, which is the baseline of every comparison."""
    for c in inputs.comparisons:
        if c["a"] == inputs.methods[0] and c["b"] == method:
            return Cell(words.signed(c["difference"]), words.signed_span(c.get("low"), c.get("high")))
    return Cell("reference") if method == inputs.methods[0] else NOTHING


def _measure(metric: str, digits: int) -> Callable[[Inputs, str], Cell]:
    """Return the reader of one of the paper's measures."""

    def cell(inputs: Inputs, method: str) -> Cell:
        found = inputs.spread("measures", metric, method)
        return Cell(words.number(found.mean, digits), words.span(found.low, found.high, digits)) if found else NOTHING

    return cell


def _mixtureness(inputs: Inputs, method: str) -> Cell:
    """Return mixtureness between its floor (sets apart) and its ceiling (fully mixed)."""
    value, floor, ceiling = (
        inputs.spread("measures", f"mixtureness{end}", method) for end in ("", "_floor", "_ceiling")
    )
    if value is None:
        return NOTHING
    within = f"scale {words.span(floor.mean, ceiling.mean, 2)}" if floor and ceiling else ""
    return Cell(words.number(value.mean, 2), within)


def _compute(inputs: Inputs, method: str) -> Cell:
    """Return training compute relative to the first method."""
    value = (inputs.study.get("compute") or {}).get(method)
    return NOTHING if value is None else Cell(words.number(value, 2))


def _columns(inputs: Inputs) -> list[tuple[str, str, Callable[[Inputs, str], Cell]]]:
    """Return (heading, group, reader) of every column, the most asked for first."""
    columns: list[tuple[str, str, Callable[[Inputs, str], Cell]]] = [("unseen accuracy", "%", _unseen)]
    if inputs.comparisons:
        columns.append((f"difference to {display(inputs.methods[0])}", "points", _difference))
    if len(set((inputs.study.get("compute") or {}).values())) > 1:
        columns.append(("training compute", f"× {display(inputs.methods[0])}", _compute))
    return [
        *columns,
        ("source accuracy", "%", _accuracy("source")),
        ("discriminative ratio, source", "", _measure("discriminative_ratio_source", 2)),
        ("discriminative ratio, unseen", "", _measure("discriminative_ratio_unseen", 2)),
        ("mixtureness", "", _mixtureness),
        ("redundancy, unseen", "", _measure("redundancy_unseen", 3)),
    ]


def grid(inputs: Inputs) -> Grid:
    """Return the study's table; a column nobody has a number for is left out."""
    columns, better = _columns(inputs), inputs.better()
    first, *others = [display(m) for m in inputs.methods]
    rows = []
    for method in [*inputs.methods, *inputs.baselines]:
        baseline = method in inputs.baselines
        notes = ["baseline"] if baseline else []
        if method in better:
            notes.append(f"better than {words.listed(others) if method == inputs.methods[0] else first}")
        seeds = inputs.seeds(method)
        if not baseline and 0 < seeds < inputs.study["seeds"]:
            notes.append("one seed" if seeds == 1 else f"{seeds} seeds")
        cells = tuple(reader(inputs, method) for _, _, reader in columns)
        rows.append(Row(method, display(method), ", ".join(notes), method in better, baseline, cells))
    kept = [i for i in range(len(columns)) if any(r.cells[i] != NOTHING for r in rows)]
    return Grid(
        tuple(columns[i][:2] for i in kept),
        tuple(Row(r.method, r.label, r.note, r.better, r.baseline, tuple(r.cells[i] for i in kept)) for r in rows),
        _note(inputs),
    )


def _note(inputs: Inputs) -> str:
    """Return what value and range mean."""
    seeds = inputs.study["seeds"]
    if seeds == 1:
        return (
            "One seed a method, so nothing here shows the spread between seeds. Ranges are 95 % intervals over images."
        )
    parts = []
    if inputs.task.get("means"):
        fewer = any(inputs.seeds(m) < seeds for m in inputs.methods)
        over = f"{seeds} seeds{' (where fewer, the row says so)' if fewer else ''}"
        parts.append(f"Unseen accuracy of methods: mean over {over} and its 95 % interval.")
    if inputs.comparisons:
        parts.append("Difference: 95 % interval over seeds.")
    parts.append("All else: mean over seeds, lowest to highest; where there is one run only, its 95 % interval.")
    return " ".join(parts)


def every_number(inputs: Inputs) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """Return (labels, rows of (task, metric, values)) of every metric at the end of training, means over seeds."""
    methods = [*inputs.methods, *inputs.baselines]
    final = [r for r in inputs.rows if r.role in ("final", "baseline")]
    rows = []
    for task, metric in sorted({(r.task, r.metric) for r in final}, key=lambda pair: (pair[0] == "measures", pair)):
        spreads = [inputs.spread(task, metric, m) for m in methods]
        values = [f"{s.mean:.4g}".replace("-", "−") if s else words.NOTHING for s in spreads]
        rows.append((task, words.metric(metric), values))
    return [display(m) for m in methods], rows


def _read(source: Path | Inputs) -> Inputs:
    return source if isinstance(source, Inputs) else read(source)


def table_text(source: Path | Inputs) -> Table:
    """Return the table for the terminal; ``source`` is a study's folder, or what was read from it."""
    inputs = _read(source)
    return as_rich(grid(inputs), str(inputs.study["title"]), "method")


def as_rich(shown: Grid, title: str, who: str) -> Table:
    """Return a grid for the terminal under its title; ``who`` heads the first column."""
    table = Table(title=Text(title), caption=Text(shown.note), caption_justify="left")
    table.add_column(who)
    for heading, group in shown.columns:
        table.add_column(Text(f"{heading}, {group}" if group else heading), justify="right")
    for row in shown.rows:
        style = "bold" if row.better else "dim" if row.baseline else ""
        cells = [Text(f"{c.value}\n{c.range}".strip()) for c in row.cells]
        table.add_row(Text(f"{row.label}\n{row.note}".strip()), *cells, style=style)
    return table


def markdown_table(source: Path | Inputs) -> str:
    """Return the table in Markdown, for docs and issues."""
    shown = grid(_read(source))

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("<", "&lt;") for c in cells) + " |"

    lines = [line(["method", *(f"{heading}, {group}" if group else heading for heading, group in shown.columns)])]
    lines.append("| --- |" + " ---: |" * len(shown.columns))
    for row in shown.rows:
        label = f"**{row.label}**" if row.better else row.label
        lines.append(line([label, *(str(c) for c in row.cells)]))
    return "\n".join([*lines, "", shown.note, ""])
