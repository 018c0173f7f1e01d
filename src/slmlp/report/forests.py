"""Values and differences with their intervals, one a row: forest plots around zero, and rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import INK, NARROW, PAPER, SOFT, WIDE, axes_in, look, sheet, style, to_svg


@dataclass(frozen=True)
class Difference:
    """One row of a forest plot, in the unit of its axis."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    color: str = INK
    per_seed: Sequence[float] = ()
    detectable: float | None = None  # half width of the band of differences too small to be found reliably
    mean: bool = True  # a diamond; else a dot

    @property
    def text(self) -> str:
        """Return value and interval as text."""
        interval = words.signed_span(self.low, self.high)
        return words.signed(self.value) + (f"  ({interval})" if interval else "")

    @property
    def seeds(self) -> Sequence[float]:
        """Return the differences of the seeds; one seed is the mean itself."""
        return self.per_seed if len(self.per_seed) > 1 else ()


def paired(
    methods: Sequence[str], comparison: Mapping[str, Any], label: str | None = None, *, mean: bool = True
) -> Difference:
    """Return a comparison, as ``results.verdict`` writes it, as a row."""
    a, b = comparison["a"], comparison["b"]
    return Difference(
        label or f"{display(b)} − {display(a)}",
        comparison["difference"],
        comparison.get("low"),
        comparison.get("high"),
        look(methods, b)["color"] if b in methods else INK,
        comparison.get("per_seed") or (),
        comparison.get("detectable"),
        mean,
    )


def forest(
    rows: Sequence[Difference], axis: str, name: str, spoken: str = "", ends: tuple[str, str] | None = None
) -> tuple[Markup, Markup]:
    """Return differences around zero, drawn for a wide screen and for a phone.

    Args:
        rows: top to bottom; at least one.
        axis: what the differences are of.
        name: starts the ids inside the drawings.
        spoken: what the figure says to a screen reader; the rows in words where none is given.
        ends: who is better left of zero, and right of it.
    """
    spoken = spoken or "; ".join(_spoken(row) for row in rows)
    wide, narrow = (_forest(rows, axis, f"{name}-{width}", spoken, ends, width) for width in (WIDE, NARROW))
    return wide, narrow


def _spoken(row: Difference) -> str:
    interval = words.signed_span(row.low, row.high)
    text = f"{row.label.replace('−', 'minus')}: {words.signed(row.value)} points"
    seeds = ", ".join(words.signed(v) for v in row.per_seed)
    return text + (f", 95 % interval {interval}" if interval else "") + (f"; by seed {seeds}" if seeds else "")


def _forest(
    rows: Sequence[Difference], axis: str, name: str, spoken: str, ends: tuple[str, str] | None, width: int
) -> Markup:
    """Return one drawing of a forest plot; of a row the text stands above, the seeds below its bar."""
    wide = width >= WIDE
    height = 74 if any(row.seeds for row in rows) else 56
    below = 48 if wide else 62  # a phone has no room for the axis label between the two ends
    with style(**{"font.size": 12 if wide else 11}):
        figure = sheet(width, 2 + height * len(rows) + below)
        axes = axes_in(figure, 1, 1, 2, below)
        axes.set_ylim(-len(rows) * height, 0)
        axes.set_xlim(*_limits(rows))
        axes.set_yticks([])
        axes.grid(visible=True, axis="x")
        axes.axvline(0, color=INK, linewidth=1.2)
        for i, row in enumerate(rows):
            _row(axes, row, -i * height, height, letters=width // 11)
        _ticks_inside(axes, width)
        axes.set_xlabel(axis)
        if ends:
            axes.xaxis.labelpad = 6 if wide else 22
            for x, side, text in ((0, "left", "← {} better"), (1, "right", "{} better →")):
                axes.annotate(
                    text.format(words.short(ends[x], width // 16)), (x, 0), (0, -24), xycoords="axes fraction",
                    textcoords="offset points", ha=side, va="top", color=SOFT, annotation_clip=False, parse_math=False,
                )  # fmt: skip
        return to_svg(figure, name, spoken)


def _ticks_inside(axes: Axes, width: int) -> None:
    """Turn the number at an end of the axis inwards: centred on its tick, half of it would lie outside."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    axes.set_xticks(ticks)
    for tick, text, label in zip(
        ticks, axes.xaxis.get_major_formatter().format_ticks(ticks), axes.get_xticklabels(), strict=True
    ):
        half = 4 * len(text) / width * (high - low)  # 8 CSS pixels a letter are more than it takes
        label.set_horizontalalignment("left" if tick - low < half else "right" if high - tick < half else "center")


def _limits(rows: Sequence[Difference]) -> tuple[float, float]:
    """Return the axis: all that is drawn, zero included, and a margin."""
    values = [0.0]
    for row in rows:
        values += [v for v in (row.value, row.low, row.high) if v is not None]
        values += list(row.per_seed)
        values += [sign * row.detectable for sign in (-1, 1) if row.detectable is not None]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _row(axes: Axes, row: Difference, top: float, height: float, letters: int) -> None:
    """Draw one difference below ``top``; distances are CSS pixels."""
    axes.axhspan(top - 22, top, color=PAPER, linewidth=0, zorder=2.2)  # no grid behind the words
    middle = top - 40
    if row.detectable is not None:
        axes.fill_between(
            [-row.detectable, row.detectable], top - height + 4, top - 25, color=SOFT, alpha=0.16, linewidth=0
        )
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [middle] * 2, color=row.color, linewidth=3, solid_capstyle="butt")
    marker, size = ("D", 9) if row.mean else ("o", 7)
    axes.plot([row.value], [middle], marker=marker, markersize=size, color=row.color, markeredgecolor=PAPER)
    axes.plot(
        row.seeds, [top - 59] * len(row.seeds), linestyle="", marker="o", markersize=6, color=row.color, alpha=0.55,
        markeredgewidth=0,
    )  # fmt: skip
    for side, x, text, weight in (
        ("left", 0.0, words.short(row.label, letters), "normal"),
        ("right", 1.0, row.text, "bold"),
    ):
        axes.text(
            x, top - 4, text, transform=axes.get_yaxis_transform(), ha=side, va="top", weight=weight, parse_math=False
        )
