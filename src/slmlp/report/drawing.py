"""What every chart shares: matplotlib draws SVG whose colours and letters are the page's own (light, dark, print)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins that matplotlib writes into the SVG and that become the page's CSS variables, so that one drawing serves
# light, dark and print. Any colour does that nothing else uses.
INK, SOFT, LINE, PAPER = "#010101", "#010102", "#010103", "#010104"
METHOD = tuple(f"#0102{i:02x}" for i in range(6))
CLASS = tuple(f"#0103{i:02x}" for i in range(8))
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    **{colour: f"--m{i}" for i, colour in enumerate(METHOD)},
    **{colour: f"--c{i}" for i, colour in enumerate(CLASS)},
}
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (2, 1.2)), "-.", ":", (0, (7, 2, 2, 2)))
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0,
    "svg.fonttype": "none",  # letters stay letters: searchable, selectable, in the reader's own font
}
NO_MARKUP = Markup("")
WIDE, NARROW = 720, 330  # CSS pixels; 330 is what a phone of 360 leaves


def style(**more: Any) -> AbstractContextManager[None]:
    """Return the context in which every chart is drawn: ours on matplotlib's defaults, not on the user's."""
    return matplotlib.style.context(["default", STYLE | more])


def sheet(width: float, height: float) -> Figure:
    """Return an empty figure of a size in CSS pixels (at 72 dots an inch, one point is one pixel of the SVG)."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def axes_in(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes with margins in CSS pixels, so that panels of one size line up whatever their tick labels."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


def to_svg(figure: Figure, name: str, label: str, classes: str = "", on_top: Markup = NO_MARKUP) -> Markup:
    """Return the figure as an inline ``<svg>`` that says ``label`` to a screen reader.

    ``name`` keeps the ids of clip paths and markers apart from those of other figures; of all other ids only those
    that start with it are kept. ``on_top`` is put above what matplotlib drew.
    """
    text = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for pattern in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        body = re.sub(pattern, "", body, flags=re.S)
    body = re.sub(r'<g id="of-(\d+)"', r'<g data-m="\1"', body)
    body = re.sub(rf'<g id="(?!{re.escape(name)})[^"]*"', "<g", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body).replace("xlink:href", "href")
    body = re.sub(r"font: (?:bold|700) ([\d.]+)px [^;\"]*", r"font-size: \1px; font-weight: 600", body)
    body = re.sub(r"#010[1-3]\w\w", lambda m: f"var({VARIABLES[m[0]]})", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    head = Markup('<svg class="chart {}" viewBox="{}" role="img" aria-label="{}">').format(classes, box[1], label)
    end = body.rindex("</svg>")
    return head + Markup(body[:end]) + on_top + Markup("</svg>")  # noqa: S704  matplotlib escapes the text it draws


def tag(artist: Artist, contender: int | None) -> None:
    """Mark what is drawn for a contender, so that a reader can hide it."""
    if contender is not None:
        artist.set_gid(f"of-{contender}")


def hit(
    lines: Sequence[tuple[int | None, str]], box: tuple[float, float, float, float], *, of: int | None = None,
    line: float | None = None,
) -> Markup:  # fmt: skip
    """Return a part of a drawing that tells its numbers under a pointer, with or without the page's script.

    Args:
        lines: what it tells; with each line the contender that it is of, if it is of one.
        box: left, top, width and height in CSS pixels.
        of: the contender that all of it is of.
        line: where an upright line shows the place on the axis.
    """
    own = "" if of is None else Markup(' data-m="{}"').format(of)
    whose = " ".join("-" if contender is None else str(contender) for contender, _ in lines)
    text = "\n".join(text for _, text in lines)
    left, top, width, height = (f"{value:.1f}" for value in box)
    area = Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(left, top, width, height)
    upright = "" if line is None else Markup('<path d="M{} {}v{}"/>').format(f"{line:.1f}", top, height)
    head = Markup('<g class="hit"{} data-of="{}"><title>{}</title>').format(own, whose, text)
    return head + area + upright + Markup("</g>")


def style_of(methods: Sequence[str], method: str) -> dict[str, Any]:
    """Return colour, dash and marker of a method: told apart without colour too.

    From the seventh on colours come again with the next dash and marker, so 36 are told apart; the key in
    ``blocks.html.j2`` counts in the same way.
    """
    i = methods.index(method)
    colour, line = i % len(METHOD), (i + i // len(METHOD)) % len(METHOD)
    return {"color": METHOD[colour], "linestyle": DASHES[line], "marker": MARKERS[line]}
