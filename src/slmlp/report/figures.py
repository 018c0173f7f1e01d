"""The charts: differences, numbers along training, learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.drawing import INK, NARROW, PAPER, SOFT, WIDE, axes_in, look, sheet, style, to_svg
from slmlp.report.inputs import Inputs


def forest(inputs: Inputs, width: int, name: str, comparisons: Sequence[dict[str, Any]]) -> Markup | None:
    """Return every comparison as dots (one a seed), mean with interval, zero, and the smallest findable difference."""
    if not comparisons:
        return None
    row, below = 74, 48 if width >= WIDE else 62  # a phone has no room for the axis label between the directions
    with style(**{"font.size": 12 if width >= WIDE else 11}):
        figure = sheet(width, 2 + row * len(comparisons) + below)
        axes = axes_in(figure, 1, 1, 2, below)
        axes.set_ylim(-len(comparisons), 0)
        axes.set_xlim(*_limits(comparisons))
        axes.set_yticks([])
        axes.grid(visible=True, axis="x")
        axes.axvline(0, color=INK, linewidth=1.2)
        for i, c in enumerate(comparisons):
            _forest_row(axes, inputs, c, -i, letters=width // 11)
        axes.set_xlabel("difference in unseen accuracy, percentage points")
        if len(comparisons) == 1:
            axes.xaxis.labelpad = 6 if width >= WIDE else 22
            for x, side, text in ((0, "left", "← {} better"), (1, "right", "{} better →")):
                said = text.format(display(comparisons[0]["ab"[x]]))
                axes.annotate(
                    said,
                    (x, 0),
                    (0, -24),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    ha=side,
                    va="top",
                    color=SOFT,
                    annotation_clip=False,
                    parse_math=False,
                )
        return to_svg(figure, name, "; ".join(_told(c) for c in comparisons), "")


def _told(c: dict[str, Any]) -> str:
    """Return a comparison in words, for those who do not see the figure."""
    interval = words.signed_span(c.get("low"), c.get("high"))
    told = f"{display(c['b'])} minus {display(c['a'])}: {words.signed(c['difference'])} points"
    seeds = ", ".join(words.signed(v) for v in c.get("per_seed") or [])
    return told + (f", 95 % interval {interval}" if interval else "") + (f"; by seed {seeds}" if seeds else "")


def _limits(comparisons: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the axis: all that is drawn, zero included, and a margin."""
    values = [0.0]
    for c in comparisons:
        values += [v for v in (c["difference"], c.get("low"), c.get("high")) if v is not None]
        values += list(c.get("per_seed") or [])
        values += [s * c["detectable"] for s in (-1, 1) if c.get("detectable") is not None]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _forest_row(axes: Axes, inputs: Inputs, c: dict[str, Any], top: float, letters: int) -> None:
    """Draw one comparison between ``top`` and ``top - 1``: a line of text, the mean, the seeds below it."""
    colour = look(inputs.methods, c["b"])["color"] if c["b"] in inputs.methods else INK
    axes.axhspan(top - 0.3, top, color=PAPER, linewidth=0, zorder=2.2)  # no grid behind the words
    smallest, low, high = c.get("detectable"), c.get("low"), c.get("high")
    if smallest is not None:
        axes.fill_between([-smallest, smallest], top - 0.94, top - 0.34, color=SOFT, alpha=0.16, linewidth=0)
    if low is not None and high is not None:
        axes.plot([low, high], [top - 0.55] * 2, color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot([c["difference"]], [top - 0.55], marker="D", markersize=9, color=colour, markeredgecolor=PAPER)
    seeds = c.get("per_seed") or []
    seeds = seeds if len(seeds) > 1 else []  # one seed is the mean itself
    axes.plot(
        seeds,
        [top - 0.8] * len(seeds),
        linestyle="",
        marker="o",
        markersize=6,
        color=colour,
        alpha=0.55,
        markeredgewidth=0,
    )
    interval = words.signed_span(low, high)
    value = words.signed(c["difference"]) + (f"  ({interval})" if interval else "")
    pair = words.short(f"{display(c['b'])} − {display(c['a'])}", letters)
    sides = (("left", 0.0, pair, "normal"), ("right", 1.0, value, "bold"))
    for side, x, text, weight in sides:
        axes.text(
            x,
            top - 0.06,
            text,
            transform=axes.get_yaxis_transform(),
            ha=side,
            va="top",
            weight=weight,
            parse_math=False,
        )


PANELS = (
    ("unseen", "accuracy", "Unseen accuracy, %", 100),
    ("source", "accuracy", "Source accuracy, %", 100),
    ("measures", "discriminative_ratio_unseen", "Discriminative ratio, unseen", 1),
    ("measures", "discriminative_ratio_source", "Discriminative ratio, source", 1),
    ("measures", "mixtureness", "Mixtureness", 1),
    ("measures", "redundancy_unseen", "Redundancy, unseen", 1),
)


def epochs(inputs: Inputs) -> list[Markup]:
    """Return one panel for each number that was taken along training: seeds thin, their mean thick."""
    panels = []
    for task, metric, title, scale in PANELS:
        curves = {m: inputs.epochs_of(task, metric, m) for m in inputs.methods}
        if not any(len(line) > 1 for lines in curves.values() for line in lines.values()):
            continue
        with style():
            figure = sheet(NARROW, 222)
            axes = axes_in(figure, 38, 10, 32, 38)
            axes.set_title(title, x=-28 / (NARROW - 48))
            axes.set_xlabel("epoch")
            axes.locator_params(axis="y", nbins=5)
            axes.locator_params(axis="x", nbins=6, integer=True)
            told = []
            for method, lines in curves.items():
                if lines:
                    told.append(_curve(axes, inputs, method, list(lines.values()), scale))
            name = f"epochs-{task}-{metric.replace('_', '-')}"
            panels.append(to_svg(figure, name, f"{title} by epoch. {'; '.join(told)}"))
    return panels


def _curve(axes: Axes, inputs: Inputs, method: str, lines: list[list[tuple[int, float]]], scale: float) -> str:
    """Draw one method's seeds and their mean at the epochs that all seeds have; return the mean's ends in words."""
    shown = look(inputs.methods, method)
    if len(lines) > 1:
        for line in lines:
            axes.plot(
                [e for e, _ in line], [scale * v for _, v in line], color=shown["color"], linewidth=0.8, alpha=0.4
            )
    shared = sorted(set.intersection(*({e for e, _ in line} for line in lines)))
    means = [scale * sum(dict(line)[e] for line in lines) / len(lines) for e in shared]
    axes.plot(shared, means, linewidth=2.4, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.8, **shown)
    if not shared:
        return f"{display(method)}: no epoch that all seeds have"
    first, last = (f"{means[i]:.3g} at epoch {shared[i]}" for i in (0, -1))
    return f"{display(method)}: {first}, {last}"


def rates(inputs: Inputs) -> list[Markup]:
    """Return what the grid of learning rates gave: validation accuracy with the choice ringed, and unseen accuracy."""
    found = inputs.study.get("rates") or {}
    chosen = found.get("chosen") or {}
    validation = {
        m: sorted((float(rate), value) for rate, value in values.items())
        for m, values in (found.get("validation") or {}).items()
    }
    unseen: dict[str, list[tuple[float, float]]] = {}
    for r in inputs.find("unseen", "accuracy", role="grid"):
        if r.base_lr is not None:
            unseen.setdefault(r.method, []).append((r.base_lr, r.value))
    unseen = {m: sorted(points) for m, points in unseen.items()}
    panels = []
    for key, title, lines in (
        ("validation", "Source validation accuracy, %", validation),
        ("unseen", "Unseen accuracy at equal rates, %", unseen),
    ):
        lines = {m: points for m, points in lines.items() if m in inputs.methods and points}
        if any(len(points) > 1 for points in lines.values()):
            panels.append(_rate_panel(inputs, f"rates-{key}", title, lines, chosen))
    return panels


def _rate_panel(
    inputs: Inputs, name: str, title: str, lines: dict[str, list[tuple[float, float]]], chosen: dict[str, float]
) -> Markup:
    """Return one panel over the grid of rates, on a logarithmic axis with the tried rates as its only ticks."""
    with style():
        figure = sheet(NARROW, 222)
        axes = axes_in(figure, 38, 14, 32, 38)
        axes.set_title(title, x=-28 / (NARROW - 52))
        axes.set_xscale("log")
        axes.set_xlabel("base learning rate, per 256 images")
        told = []
        for method, points in lines.items():
            shown = look(inputs.methods, method)
            axes.plot(
                [r for r, _ in points],
                [100 * v for _, v in points],
                linewidth=2.2,
                markersize=6,
                markeredgecolor=PAPER,
                markeredgewidth=0.8,
                **shown,
            )
            for rate, value in points:
                if chosen.get(method) == rate:
                    axes.plot(
                        [rate],
                        [100 * value],
                        marker="o",
                        markersize=14,
                        markerfacecolor="none",
                        markeredgecolor=shown["color"],
                        markeredgewidth=1.6,
                        clip_on=False,
                    )
            told.append(f"{display(method)}: " + ", ".join(f"{100 * v:.1f} at {r:g}" for r, v in points))
        _rate_ticks(axes, sorted({r for points in lines.values() for r, _ in points}))
        axes.locator_params(axis="y", nbins=5)
        axes.margins(x=0.1, y=0.16)
        return to_svg(figure, name, f"{title}. {'; '.join(told)}")


def _rate_ticks(axes: Axes, tried: Iterable[float]) -> None:
    """Put a tick at each tried rate and nowhere else."""
    ticks = list(tried)
    axes.set_xticks(ticks, [f"{r:g}" for r in ticks])
    axes.set_xticks([], minor=True)
