"""Values and differences with their intervals, one per row: forest plots around zero, and rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import INK, NARROW, PAPER, SOFT, WIDE, axes_in, hit, sheet, style, style_of, tag, to_svg
from slmlp.report.inputs import found

LABEL, VALUE = 226, 136  # CSS pixels beside a ranking on a wide screen


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
    of: int | None = None  # the contender's place: a row is hidden with it
    level: bool = False  # a contender's own value, no difference
    more: str = ""  # what the row says besides under the pointer

    @property
    def text(self) -> str:
        """Return value and interval as text."""
        interval = words.span(self.low, self.high) if self.level else words.signed_span(self.low, self.high)
        value = words.number(self.value) if self.level else words.signed(self.value)
        return value + (f"  ({interval})" if interval else "")

    @property
    def seeds(self) -> Sequence[float]:
        """Return the differences of the seeds; one seed is the mean itself."""
        return self.per_seed if len(self.per_seed) > 1 else ()

    @property
    def spoken(self) -> str:
        """Return the row in words."""
        unit = "%" if self.level else "points"
        text = f"{self.label.replace('−', 'minus')}: {self.text.split('  ')[0]} {unit}"
        interval = words.span(self.low, self.high) if self.level else words.signed_span(self.low, self.high)
        seeds = ", ".join(words.signed(v) for v in self.per_seed)
        return text + (f", 95 % interval {interval}" if interval else "") + (f"; by seed {seeds}" if seeds else "")


def paired(
    methods: Sequence[str], comparison: Mapping[str, Any], label: str | None = None, *, mean: bool = True
) -> Difference:
    """Return a comparison, as ``results.verdict`` writes it, as a row.

    The band of what was too small to find is drawn only where nothing was found: a difference that was found is none of
    those, however small it is.
    """
    a, b = comparison["a"], comparison["b"]
    p = comparison.get("p_holm")
    return Difference(
        label or f"{display(b)} − {display(a)}",
        comparison["difference"],
        comparison.get("low"),
        comparison.get("high"),
        style_of(methods, b)["color"] if b in methods else INK,
        comparison.get("per_seed") or (),
        None if found(comparison) else comparison.get("detectable"),
        mean,
        of=list(methods).index(b) if b in methods else None,
        more=f"p {words.p_value(p)}, corrected" if p is not None else "",
    )


def forest(
    rows: Sequence[Difference], axis: str, name: str, spoken: str = "", ends: tuple[str, str] | None = None,
    *, beside: Sequence[Difference] = (),
) -> tuple[Markup, Markup]:  # fmt: skip
    """Return rows with their intervals, drawn for a wide screen and for a phone; differences have a line at zero.

    Args:
        rows: top to bottom; at least one; differences, or levels.
        axis: what the differences are of.
        name: starts the ids inside the drawings.
        spoken: what the figure says to a screen reader; the rows in words where none is given.
        ends: who is better left of zero, and right of it.
        beside: rows of another drawing of differences, which the axis covers too, so that the two can be compared.
    """
    spoken = spoken or "; ".join(row.spoken for row in rows)
    draw = _ranking if rows[0].level else _forest
    limits = _limits([*rows, *beside])
    wide, narrow = (draw(rows, axis, f"{name}-{width}", spoken, ends, width, limits) for width in (WIDE, NARROW))
    return wide, narrow


def _forest(
    rows: Sequence[Difference], axis: str, name: str, spoken: str, ends: tuple[str, str] | None, width: int,
    limits: tuple[float, float],
) -> Markup:  # fmt: skip
    """Return one drawing of a forest plot; of a row the text stands above, the seeds below its bar."""
    wide = width >= WIDE
    height = 74 if any(row.seeds for row in rows) else 56
    below = 48 if wide else 62  # a phone has no room for the axis label between the two ends
    with style(**{"font.size": 12 if wide else 11}):
        figure = sheet(width, 2 + height * len(rows) + below)
        axes = axes_in(figure, 1, 1, 2, below)
        axes.set_ylim(-len(rows) * height, 0)
        axes.set_xlim(*limits)
        axes.set_yticks([])
        axes.grid(visible=True, axis="x")
        if not rows[0].level:
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
        # the words above a bar stay free of the hit, so that they can be selected
        hits = [_hit(row, (0, 24 + i * height, width, height - 24)) for i, row in enumerate(rows)]
        return to_svg(figure, name, spoken, "", Markup("").join(hits))


def _ranking(
    rows: Sequence[Difference], axis: str, name: str, spoken: str, ends: tuple[str, str] | None, width: int,
    limits: tuple[float, float],
) -> Markup:  # fmt: skip
    """Return one drawing of a ranking: a line for each row, or, on a phone, as a forest plot."""
    if width < WIDE:
        return _forest(rows, axis, name, spoken, ends, width, limits)
    height = 30
    with style(**{"font.size": 12}):
        figure = sheet(width, 2 + height * len(rows) + 44)
        axes = axes_in(figure, LABEL, VALUE, 2, 44)
        axes.set_ylim(-len(rows) * height, 0)
        axes.set_xlim(*limits)
        axes.set_yticks([])
        axes.grid(visible=True, axis="x")
        for i, row in enumerate(rows):
            middle = -(i + 0.5) * height
            _bar(axes, row, middle)
            for x, offset, side, text, weight in (
                (0, -LABEL, "left", words.short(row.label, 34), "normal"), (1, VALUE, "right", row.text, "bold")
            ):  # fmt: skip
                tag(axes.annotate(
                    text, (x, middle), (offset, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                    ha=side, va="center", weight=weight, annotation_clip=False, parse_math=False,
                ), row.of)  # fmt: skip
        _ticks_inside(axes, width - LABEL - VALUE)
        axes.set_xlabel(axis)
        hits = [_hit(row, (LABEL, 2 + i * height, width - LABEL - VALUE, height)) for i, row in enumerate(rows)]
        return to_svg(figure, name, spoken, "", Markup("").join(hits))


def _hit(row: Difference, box: tuple[float, float, float, float]) -> Markup:
    interval = words.span(row.low, row.high) if row.level else words.signed_span(row.low, row.high)
    seeds = ", ".join(words.signed(v) for v in row.seeds)
    lines = [
        f"{row.label}: {row.text.split('  ')[0]}{' %' if row.level else ' points'}",
        f"95 % interval {interval}" if interval else "",
        row.more,
        f"by seed {seeds}" if seeds else "",
    ]
    return hit([(None, line) for line in lines if line], box, of=row.of)


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
    """Return the axis: all that is drawn, zero included where rows are differences, and a margin."""
    values = [] if rows[0].level else [0.0]
    for row in rows:
        values += [v for v in (row.value, row.low, row.high) if v is not None]
        values += list(row.per_seed)
        values += [sign * row.detectable for sign in (-1, 1) if row.detectable is not None]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _bar(axes: Axes, row: Difference, middle: float) -> None:
    """Draw interval and value at the height ``middle``."""
    if row.low is not None and row.high is not None:
        tag(
            axes.plot([row.low, row.high], [middle] * 2, color=row.color, linewidth=3, solid_capstyle="butt")[0], row.of
        )
    marker, size = ("D", 9) if row.mean else ("o", 7)
    [value] = axes.plot([row.value], [middle], marker=marker, markersize=size, color=row.color, markeredgecolor=PAPER)
    tag(value, row.of)


def _row(axes: Axes, row: Difference, top: float, height: float, letters: int) -> None:
    """Draw one difference below ``top``; distances are CSS pixels."""
    axes.axhspan(top - 22, top, color=PAPER, linewidth=0, zorder=2.2)  # no grid behind the words
    if row.detectable is not None:
        tag(axes.fill_between(
            [-row.detectable, row.detectable], top - height + 4, top - 25, color=SOFT, alpha=0.16, linewidth=0
        ), row.of)  # fmt: skip
    _bar(axes, row, top - 40)
    [seeds] = axes.plot(
        row.seeds, [top - 59] * len(row.seeds), linestyle="", marker="o", markersize=6, color=row.color, alpha=0.55,
        markeredgewidth=0,
    )  # fmt: skip
    tag(seeds, row.of)
    for side, x, text, weight in (
        ("left", 0.0, words.short(row.label, letters), "normal"),
        ("right", 1.0, row.text, "bold"),
    ):
        tag(axes.text(
            x, top - 4, text, transform=axes.get_yaxis_transform(), ha=side, va="top", weight=weight, parse_math=False
        ), row.of)  # fmt: skip
