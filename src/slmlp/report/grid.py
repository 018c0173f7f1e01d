"""A table of numbers with a range beneath each: the same cells on the page, in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.inputs import Spread


@dataclass(frozen=True)
class Cell:
    """One value as text, and the range that stands beneath it."""

    value: str
    range: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.range})" if self.range else self.value


NOTHING = Cell(words.NOTHING)


@dataclass(frozen=True)
class Row:
    """A contender or a baseline; its cells align with the columns."""

    label: str
    cells: Sequence[Cell | str]
    note: str = ""  # beneath the label: "better than SL", "baseline", "seed 0, 1"
    better: bool = False  # the verdict supports it as best
    baseline: bool = False
    of: int | None = None  # the contender's place: a row is hidden with it


@dataclass(frozen=True)
class Grid:
    """A table: ``columns`` are (heading, unit), the first cell of a row is its label under ``corner``."""

    title: str
    corner: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    note: str = ""
    main: bool = True  # what the page is read for

    @property
    def headings(self) -> list[str]:
        """Return the headings with their units."""
        return [f"{heading}, {unit}" if unit else heading for heading, unit in self.columns]

    def without_empty_columns(self) -> Grid:
        """Return the table without the columns that nobody has a number for."""
        used = [i for i in range(len(self.columns)) if any(row.cells[i] != NOTHING for row in self.rows)]
        rows = [replace(row, cells=[row.cells[i] for i in used]) for row in self.rows]
        return Grid(self.title, self.corner, [self.columns[i] for i in used], rows, self.note, self.main)

    def markdown(self) -> str:
        """Return the table in Markdown, for docs and issues."""

        def line(cells: list[str]) -> str:
            return "| " + " | ".join(c.replace("|", "\\|").replace("<", "&lt;") for c in cells) + " |"

        lines = [line([self.corner, *self.headings]), "| --- |" + " ---: |" * len(self.columns)]
        for row in self.rows:
            lines.append(line([f"**{row.label}**" if row.better else row.label, *(str(c) for c in row.cells)]))
        return "\n".join([*lines, "", self.note, ""])


def percent(spread: Spread | None) -> Cell:
    """Return a share in percent with its range."""
    if spread is None:
        return NOTHING
    mean, low, high = spread.percent
    return Cell(words.number(mean), words.span(low, high))


COMPARISON: dict[str, Callable[[dict[str, Any]], str]] = {  # heading -> cell; a column that nobody fills is left out
    "number": lambda c: c.get("title", ""),
    "difference": lambda c: words.signed(c["difference"]),
    "95 % interval": lambda c: words.signed_span(c["low"], c["high"]) or words.NOTHING,
    "p": lambda c: words.p_value(c["p"]),
    "p, Holm": lambda c: words.p_value(c["p_holm"]),
    "minimum detectable": lambda c: words.number(c["detectable"]),
    "seeds": lambda c: f"{c['seeds']:,}",
    "images": lambda c: f"{c['images']:,}",
    "groups": lambda c: f"{c['groups']:,}",
}


def comparison_grid(rows: Sequence[dict[str, Any]], title: str, note: str) -> Grid:
    """Return paired differences in numbers; ``rows`` are comparisons as ``results.verdict`` writes them."""
    columns = {name: [read(c) for c in rows] for name, read in COMPARISON.items()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    lines = [
        Row(f"{display(c['b'])} − {display(c['a'])}", [cells[i] for cells in columns.values()])
        for i, c in enumerate(rows)
    ]
    return Grid(title, "comparison", [(name, "") for name in columns], lines, note, main=False)
