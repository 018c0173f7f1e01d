"""The charts of a transfer suite: differences by data set, accuracy over labels, accuracy over depth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import INK, PAPER, SOFT, WIDE, axes_in, look, sheet, style, to_svg
from slmlp.report.suite_inputs import SuiteInputs

PANEL = (330, 250)  # CSS pixels


def forest(inputs: SuiteInputs, width: int, name: str, comparison: dict[str, Any]) -> Markup:
    """Return one encoder against the baseline: a row a data set, then the mean with the intervals of both kinds."""
    rows = comparison["sets"]
    row, below, top = 34, 52, 4
    several = len(rows) > 1
    count = len(rows) + 2 * several
    with style(**{"font.size": 12 if width >= WIDE else 11}):
        figure = sheet(width, top + row * count + below)
        left = 190 if width >= WIDE else 118
        axes = axes_in(figure, left, 8, top, below)
        axes.set_ylim(-count + 0.5, 0.5)
        axes.set_yticks([])
        axes.grid(visible=True, axis="x")
        axes.axvline(0, color=INK, linewidth=1.2)
        colour = look(inputs.methods, comparison["b"])["color"]
        letters = left // 8
        for i, one in enumerate(rows):
            _bar(axes, -i, one["difference"], one["low"], one["high"], colour, "o", 7)
            _label(axes, -i, words.short(one["data"][0], letters), "normal")
        other = comparison["random_effects"]
        if several:
            at = -len(rows)
            axes.axhline(at + 0.5, color=SOFT, linewidth=0.8)
            _bar(axes, at, comparison["difference"], comparison["low"], comparison["high"], colour, "D", 9)
            _label(axes, at, "fixed effects", "bold")
            _bar(axes, at - 1, comparison["difference"], other["low"], other["high"], colour, "D", 9, faint=True)
            _label(axes, at - 1, "random effects", "bold")
        by_set = ", ".join(f"{one['data'][0]} {words.signed(one['difference'])}" for one in rows)
        axes.margins(x=0.06)
        label = f"{display(comparison['b'])} − {display(comparison['a'])}, percentage points"
        if len(label) > max(30, width // 8):  # the heading above it names both
            label = "difference, percentage points"
        axes.set_xlabel(label, parse_math=False)
        return to_svg(figure, name, f"{comparison['sentence']}; {by_set}")


def _bar(
    axes: Axes, y: float, value: float, low: float | None, high: float | None, colour: str, marker: str, size: int,
    *, faint: bool = False,
) -> None:  # fmt: skip
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", alpha=0.5 if faint else 1.0)
    axes.plot([value], [y], marker=marker, markersize=size, color=colour, markeredgecolor=PAPER)


def _label(axes: Axes, y: float, text: str, weight: str) -> None:
    axes.annotate(
        text, (0, y), (-8, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points", ha="right", va="center",
        weight=weight, annotation_clip=False, parse_math=False,
    )  # fmt: skip


def label_curves(inputs: SuiteInputs) -> list[Markup]:
    """Return accuracy over the number of labels, a panel a data set and kind of axis (shares, images a class)."""
    panels = []
    for kind, pattern, axis in (
        ("percent", r"accuracy_at_([\d.]+)_percent", "share of the training labels, %"),
        ("shots", r"accuracy_at_(\d+)_shots?", "labelled images a class"),
    ):
        points = {m: float(found[1]) for m in inputs.metrics("label-efficiency") if (found := re.fullmatch(pattern, m))}
        if len(points) < 2:
            continue
        for i, name in enumerate(inputs.sets):
            series = {
                method: [
                    (x, spread)
                    for metric, x in sorted(points.items(), key=lambda p: p[1])
                    if (spread := inputs.spread("label-efficiency", metric, method, name)) is not None
                ]
                for method in inputs.methods
            }
            panels.append(_panel(inputs, f"labels-{kind}-{i}", name, axis, series, log=True))
    return panels


def layer_curves(inputs: SuiteInputs) -> list[Markup]:
    """Return accuracy of a linear probe at every depth, a panel a data set and network."""
    panels = []
    for i, name in enumerate(inputs.sets):
        kinds: dict[tuple[str, ...], list[str]] = {}
        for method in inputs.methods:
            found = tuple(
                layer for layer in inputs.layers("layerwise", name, method) if not layer.startswith("projector")
            )
            if found:
                kinds.setdefault(found, []).append(method)
        for k, (names, methods) in enumerate(kinds.items()):
            series = {
                method: [
                    (float(x), spread)
                    for x, layer in enumerate(names)
                    if (spread := inputs.spread("layerwise", "accuracy", method, name, layer)) is not None
                ]
                for method in methods
            }
            panels.append(_panel(inputs, f"layerwise-{i}-{k}", name, "depth", series, ticks=names))
    return panels


def _panel(
    inputs: SuiteInputs, name: str, title: str, axis: str, series: dict[str, list[tuple[float, Any]]],
    *, log: bool = False, ticks: Sequence[str] = (),
) -> Markup:  # fmt: skip
    told = []
    with style():
        figure = sheet(*PANEL)
        axes = axes_in(figure, 40, 10, 34, 46)
        for method, points in series.items():
            if not points:
                continue
            xs, ys = [x for x, _ in points], [100 * s.mean for _, s in points]
            how = look(inputs.methods, method)
            axes.plot(xs, ys, linewidth=1.8, markersize=5.5, markeredgecolor=PAPER, **how)
            for x, s in points:
                if s.low is not None and s.high is not None:
                    axes.plot([x, x], [100 * s.low, 100 * s.high], color=how["color"], linewidth=1.2, alpha=0.45)
            told.append(f"{display(method)}: " + ", ".join(f"{y:.1f}" for y in ys))
        if log:
            axes.set_xscale("log")
            shown = sorted({x for points in series.values() for x, _ in points})
            axes.set_xticks(shown, [f"{x:g}" for x in shown])
            axes.set_xticks([], minor=True)
        if ticks:
            slanted = len(ticks) > 7
            short = [t.removeprefix("stage").removeprefix("block") for t in ticks]
            axes.set_xticks(range(len(ticks)), short, rotation=60 if slanted else 0)
        axes.set_title(words.short(f"{title}, accuracy, %", 40), parse_math=False)
        axes.set_xlabel(axis)
        return to_svg(figure, name, f"{title}: " + "; ".join(told))
