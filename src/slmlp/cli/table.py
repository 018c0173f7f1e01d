"""One table for all commands: for readers as wide as the terminal, for scripts as tab-separated values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slmlp.runtime.plain import plain

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Value = str | int | float | None
SHOWN = 3  # columns beside the name
GAP, EDGES = 3, 2  # between columns, and at both ends
NAME, LONG, PROSE = 16, 24, 20  # the least that a long name is given; a cell that is prose, and what that is given


@dataclass(frozen=True)
class Table:
    """Rows of values; the first column is the name. In a terminal a cell may have several lines."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    title: str = ""
    note: str = ""
    styles: Sequence[str] = field(default=())  # of rows: "bold", "dim" or ""
    shown: int = SHOWN  # columns beside the name that are shown unless all are asked for

    def leading(self, *names: str) -> Table:
        """Return the table with the columns of these names first."""
        order = sorted(range(len(self.columns)), key=lambda at: (self.columns[at] not in names, at))
        return self._part(order)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        rows = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)

    def tsv(self) -> str:
        """Return a line of names, then a line for each row: numbers in full, nothing where there is no value."""
        return "\n".join("\t".join(map(_bare, row)) for row in (self.columns, *self.rows))

    def fitting(self, width: int, wide: bool) -> tuple[list[Table], int]:
        """Return the tables to print below each other, each within ``width``, and how many columns are left out.

        Without ``wide`` that is one, of the first columns; with it the columns that do not fit go into further ones.
        """
        rest = list(range(1, len(self.columns)))
        if not wide:
            rest = rest[: self.shown]
        parts: list[list[int]] = []
        while rest:
            count = len(rest)
            while count > 1 and self._least([0, *rest[:count]]) > width:
                count -= 1
            parts.append([0, *rest[:count]])
            rest = rest[count:]
            if not wide:
                break
        parts = parts or [[0]]
        tables = [self._part(part) for part in parts]
        left_out = len(self.columns) - 1 - sum(len(part) - 1 for part in parts)
        return [replace(one, title="" if i else self.title, note="") for i, one in enumerate(tables)], left_out

    def rich(self) -> RichTable:
        """Return the table as rich prints it."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(plain(self.title), "bold") if self.title else None, title_justify="left",
            box=box.SIMPLE_HEAD if any(self.columns) else None, show_header=any(self.columns),
            pad_edge=False, show_edge=False,
        )  # fmt: skip
        for at, heading in enumerate(self.columns):
            prose = self._is_prose(at)
            lines = heading if prose or at == 0 else "\n".join(self._heading(at))
            table.add_column(
                Text(plain(lines)), justify="right" if self._is_number(at) else "left", overflow="fold",
                no_wrap=at > 0 and not prose, min_width=self._width(at) if at else None,
            )  # fmt: skip
        for at, row in enumerate(self.rows):
            style = self.styles[at] if self.styles else ""
            table.add_row(*(Text(plain(shown(value))) for value in row), style=style)
        return table

    def _part(self, columns: Sequence[int]) -> Table:
        rows = [[row[at] for at in columns] for row in self.rows]
        return replace(self, columns=[self.columns[at] for at in columns], rows=rows)

    def _least(self, columns: Sequence[int]) -> int:
        """Return how much room these columns need."""
        return sum(self._width(at) + GAP for at in columns) - GAP + EDGES

    def _width(self, at: int) -> int:
        longest = self._longest(at)
        if at == 0:
            return min(NAME, max(longest, 1))
        return PROSE if self._is_prose(at) else max([longest, *map(len, self._heading(at))])

    def _longest(self, at: int) -> int:
        return max((len(line) for row in self.rows for line in shown(row[at]).splitlines()), default=0)

    def _heading(self, at: int) -> list[str]:
        """Return a heading in lines no longer than the values below it, where its words allow that."""
        longest = max([self._longest(at), 8, *map(len, self.columns[at].split())])
        return textwrap.wrap(self.columns[at], longest, break_long_words=False) or [""]

    def _is_prose(self, at: int) -> bool:
        return at > 0 and self._longest(at) > LONG

    def _is_number(self, at: int) -> bool:
        """Whether the column is aligned at its right end: numbers, or ranges of them."""
        cells = [shown(row[at]).strip() for row in self.rows]
        return at > 0 and not self._is_prose(at) and any(c[:1].isdigit() or c[:1] in "+−<-" for c in cells if c)


def shown(value: Value) -> str:
    """Return a value for readers."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _bare(value: Value) -> str:
    """Return a value for scripts: in full, on one line."""
    return "" if value is None else " ".join(plain(str(value)).split())
