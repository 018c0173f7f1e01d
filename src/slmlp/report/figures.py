"""Curves of contenders over some axis: one drawing per number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import NARROW, PAPER, SOFT, axes_in, hit, sheet, style, style_of, tag, to_svg

LETTER = 6  # CSS pixels that a letter of a tick takes
Point = tuple[float, float]
LEFT, RIGHT, TOP = 38, 14, 32  # margins of a panel in CSS pixels
NEAR = 12  # CSS pixels: the names of two levels that are closer stand above and below


@dataclass(frozen=True)
class Curve:
    """The numbers of one contender along an axis, in the unit of the chart."""

    method: str
    points: Sequence[Point]
    ranges: Sequence[tuple[float, float] | None] = ()  # of each point: lowest and highest
    seeds: Sequence[Sequence[Point]] = ()  # the mean of several has a band from the lowest to the highest
    ring: float | None = None  # where on the axis a point was chosen

    def text(self, ticks: Sequence[str]) -> str:
        """Return the curve in words: every point of a few, the ends of many."""
        few = self.points if len(self.points) <= 6 else [self.points[0], self.points[-1]]
        where = [ticks[int(x)] if ticks else f"{x:g}" for x, _ in few]
        values = ", ".join(f"{y:.3g} at {at}" for at, (_, y) in zip(where, few, strict=True))
        return f"{display(self.method)}: {values or 'no point that all seeds have'}"

    def spread(self) -> list[tuple[float, float] | None]:
        """Return lowest and highest of each point: as given, else of the seeds."""
        if len(self.seeds) < 2:
            return [*self.ranges, *[None] * (len(self.points) - len(self.ranges))]
        by_x = [[dict(seed)[x] for seed in self.seeds] for x, _ in self.points]
        return [(min(values), max(values)) for values in by_x]


def panel(
    curves: Sequence[Curve], methods: Sequence[str], title: str, axis: str, name: str, *, log: bool = False,
    ticks: Sequence[str] = (), from_zero: bool = False, levels: Mapping[str, float] | None = None,
    band: tuple[int, str] | None = None,
) -> Markup:  # fmt: skip
    """Return one chart of curves.

    Args:
        curves: one per contender.
        methods: all contenders, in the order of their colours.
        title: what the numbers are, above the chart.
        axis: what they are over.
        name: starts the ids inside the drawing.
        log: a logarithmic axis with the values in use as its only ticks.
        ticks: names of the places 0, 1, 2 ... on the axis.
        from_zero: whether the numbers' axis begins at zero.
        levels: what has one value all along, as chance: its name and value, drawn as a line across.
        band: the tick from which on the chart is shaded, and what that part is.
    """
    levels, longest = levels or {}, max(map(len, ticks), default=0)
    slanted = longest * LETTER > (NARROW - LEFT - RIGHT) / max(1, len(ticks))
    bottom = 30 + LETTER * longest if slanted else 42
    height = 184 + bottom
    with style():
        figure = sheet(NARROW, height)
        axes = axes_in(figure, LEFT, RIGHT, TOP, bottom)
        axes.set_title(words.short(title, 44), x=-28 / (NARROW - LEFT - RIGHT), parse_math=False)
        axes.set_xlabel(axis)
        axes.locator_params(axis="y", nbins=5)
        for curve in curves:
            _curve(axes, curve, methods)
        if log:
            values = sorted({x for curve in curves for x, _ in curve.points})
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{x:g}" for x in values])
            axes.set_xticks([], minor=True)
            axes.margins(x=0.1, y=0.16)
        elif ticks:
            axes.set_xticks(range(len(ticks)), ticks, rotation=60 if slanted else 0)
        else:
            axes.locator_params(axis="x", nbins=6, integer=True)
        _levels(axes, levels)
        if from_zero:
            axes.set_ylim(bottom=0)
        if band:
            _band(axes, *band, len(ticks))
        spoken = [*(curve.text(ticks) for curve in curves), *(f"{key}: {value:.3g}" for key, value in levels.items())]
        hits = _hits(axes, curves, methods, axis, ticks, levels, TOP, height - TOP - bottom)
        return to_svg(figure, name, f"{title}. {'; '.join(spoken)}", "", hits)


def _band(axes: Axes, start: int, what: str, places: int) -> None:
    """Shade the places from ``start`` on, and say what they are."""
    axes.axvspan(start - 0.5, places - 0.5, color=SOFT, alpha=0.12, linewidth=0, zorder=0)
    axes.set_xlim(-0.5, places - 0.5)
    axes.text(
        places - 0.55, 0.98, what, transform=axes.get_xaxis_transform(), ha="right", va="top", color=SOFT,
        parse_math=False,
    )  # fmt: skip


def _levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw a line across for each level, its name at the right end."""
    above = None
    for name, value in sorted(levels.items(), key=lambda item: -item[1]):
        axes.axhline(value, color=SOFT, linewidth=1, linestyle=(0, (1, 2)))
        axes.margins(y=0.12)
        low, high = axes.get_ylim()
        close = above is not None and (above - value) / (high - low) * 150 < NEAR
        axes.annotate(
            name, (1, value), (0, -2 if close else 2), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            ha="right", va="top" if close else "bottom", color=SOFT, size=10, parse_math=False,
        )  # fmt: skip
        above = value


def _curve(axes: Axes, curve: Curve, methods: Sequence[str]) -> None:
    """Draw a curve with the band of its seeds, or a bar at each point that has a range."""
    kwargs, of = style_of(methods, curve.method), list(methods).index(curve.method)
    spread = curve.spread()
    band = [(x, *ends) for (x, _), ends in zip(curve.points, spread, strict=True) if ends is not None]
    if len(curve.seeds) > 1 and band:
        xs, lows, highs = zip(*band, strict=True)
        tag(axes.fill_between(xs, lows, highs, color=kwargs["color"], alpha=0.18, linewidth=0), of)
    else:
        for x, *ends in band:
            tag(axes.plot([x, x], ends, color=kwargs["color"], linewidth=1.2, alpha=0.45)[0], of)
    if curve.points:
        every = max(1, len(curve.points) // 12)  # markers tell lines apart, not points
        [line] = axes.plot(
            *zip(*curve.points, strict=True), linewidth=2.2, markersize=5.5, markeredgecolor=PAPER,
            markeredgewidth=0.8, markevery=every, **kwargs,
        )  # fmt: skip
        tag(line, of)
    for x, y in curve.points:
        if x == curve.ring:
            [ring] = axes.plot(
                [x], [y], marker="o", markersize=14, markerfacecolor="none", markeredgecolor=kwargs["color"],
                markeredgewidth=1.6, clip_on=False,
            )  # fmt: skip
            tag(ring, of)


def _hits(
    axes: Axes, curves: Sequence[Curve], methods: Sequence[str], axis: str, ticks: Sequence[str],
    levels: Mapping[str, float], top: float, height: float,
) -> Markup:  # fmt: skip
    """Return a strip for each place on the axis that says the numbers of all contenders there."""
    places = sorted({x for curve in curves for x, _ in curve.points})
    if not places:
        return Markup("")
    at = [float(axes.transData.transform((x, axes.get_ylim()[0]))[0]) for x in places]
    edges = [LEFT, *((a + b) / 2 for a, b in itertools.pairwise(at)), NARROW - RIGHT]
    parts: list[Markup] = []
    for i, x in enumerate(places):
        lines: list[tuple[int | None, str]] = [(None, f"{axis} {ticks[int(x)] if ticks else f'{x:g}'}")]
        for curve in curves:
            for (place, y), ends in zip(curve.points, curve.spread(), strict=True):
                if place == x:
                    span = f" ({_short(ends[0])} to {_short(ends[1])})" if ends else ""
                    lines.append((list(methods).index(curve.method), f"{display(curve.method)}: {_short(y)}{span}"))
        lines += [(None, f"{name}: {_short(value)}") for name, value in levels.items()]
        parts.append(hit(lines, (edges[i], top, edges[i + 1] - edges[i], height), line=at[i]))
    return Markup("").join(parts)


def _short(value: float) -> str:
    """Return a number as a reader of a chart wants it: three digits, more only before the point."""
    return words.number(value, 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3)
