"""Curves of contenders over some axis: one drawing a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import NARROW, PAPER, axes_in, look, sheet, style, to_svg

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """The numbers of one contender along an axis, in the unit of the chart."""

    method: str
    points: Sequence[Point]
    ranges: Sequence[tuple[float, float] | None] = ()  # of each point: lowest and highest
    seeds: Sequence[Sequence[Point]] = ()  # thin lines behind
    ring: float | None = None  # where on the axis a point was chosen

    def text(self, ticks: Sequence[str]) -> str:
        """Return the curve in words: every point of a few, the ends of many."""
        few = self.points if len(self.points) <= 6 else [self.points[0], self.points[-1]]
        where = [ticks[int(x)] if ticks else f"{x:g}" for x, _ in few]
        values = ", ".join(f"{y:.3g} at {at}" for at, (_, y) in zip(where, few, strict=True))
        return f"{display(self.method)}: {values or 'no point that all seeds have'}"


def panel(
    curves: Sequence[Curve], methods: Sequence[str], title: str, axis: str, name: str, *, log: bool = False,
    ticks: Sequence[str] = (), from_zero: bool = False,
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
    """
    slanted = len(ticks) > 7
    with style():
        figure = sheet(NARROW, 240 if slanted else 226)
        axes = axes_in(figure, 38, 14, 32, 56 if slanted else 42)
        axes.set_title(words.short(title, 44), x=-28 / (NARROW - 52), parse_math=False)
        axes.set_xlabel(axis)
        axes.locator_params(axis="y", nbins=5)
        for curve in curves:
            _curve(axes, curve, look(methods, curve.method))
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
        if from_zero:
            axes.set_ylim(bottom=0)
        return to_svg(figure, name, f"{title}. {'; '.join(curve.text(ticks) for curve in curves)}")


def _curve(axes: Axes, curve: Curve, style: dict[str, Any]) -> None:
    for seed in curve.seeds if len(curve.seeds) > 1 else ():
        axes.plot(*zip(*seed, strict=True), color=style["color"], linewidth=0.8, alpha=0.4)
    for (x, _), ends in zip(curve.points, curve.ranges, strict=False):
        if ends is not None:
            axes.plot([x, x], ends, color=style["color"], linewidth=1.2, alpha=0.45)
    if curve.points:
        every = max(1, len(curve.points) // 12)  # markers tell lines apart, not points
        axes.plot(
            *zip(*curve.points, strict=True), linewidth=2.2, markersize=5.5, markeredgecolor=PAPER,
            markeredgewidth=0.8, markevery=every, **style,
        )  # fmt: skip
    for x, y in curve.points:
        if x == curve.ring:
            axes.plot(
                [x], [y], marker="o", markersize=14, markerfacecolor="none", markeredgecolor=style["color"],
                markeredgewidth=1.6, clip_on=False,
            )  # fmt: skip
