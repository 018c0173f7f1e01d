"""The map of held-out images: t-SNE as it was computed, drawn with the images themselves where there is room."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from slmlp.config.names import display
from slmlp.report import drawing
from slmlp.report.inputs import Inputs
from slmlp.report.where import Sprite, opened
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST = 600  # images on a map: more are hard to tell apart and heavy to load
WIDTH = 500  # side of a map in CSS pixels
TILE = 28  # side of a drawn thumbnail in the same
SHARP = 48  # pixels a thumbnail keeps at most: enough for the enlarged view
SHAPES = "os^D"  # with eight colours they tell 32 classes apart


@dataclass(frozen=True)
class Maps:
    """What the page needs to show the maps."""

    panels: list[tuple[str, Markup]]  # (method's name for readers, drawing)
    legend: list[tuple[str, int, str | None]]  # class name, its place among colours and shapes, viewBox of an example
    sprite: Sprite | None
    data: dict[str, Any]  # for the pointer: class names, class of every point, places on every map
    count: int  # images drawn
    total: int


class TsneMap(TypedDict):
    """Where the images are on one method's map, and a hash of weights and images."""

    xy: list[list[float]]
    of: NotRequired[str]


class TsneFile(TypedDict):
    """The content of tsne.json."""

    methods: dict[str, TsneMap]
    ids: list[str]
    labels: list[str]
    thumbnails: NotRequired[str]
    side: NotRequired[int]
    columns: NotRequired[int]


def maps(inputs: Inputs) -> Maps | None:
    """Return a map for each method that has one, with the same images on all."""
    path = inputs.folder / "tsne.json"
    tsne = json_files.read(path, TsneFile) if path.exists() else None
    if tsne is None or not tsne["ids"] or not tsne["methods"]:
        return None
    names, every = np.unique(np.array([str(label) for label in tsne["labels"]]), return_inverse=True)
    sample = _sample(every)
    classes = every[sample]
    sprite = _sprite(inputs.folder / "thumbnails.webp", tsne, sample)
    panels, places = [], {}
    ordered = dict.fromkeys([*inputs.methods, *tsne["methods"]])
    for i, method in enumerate(m for m in ordered if m in tsne["methods"]):
        xy = np.array(tsne["methods"][method]["xy"], dtype=np.float64)
        if xy.shape != (len(every), 2):
            raise SlmlpError(f"tsne.json: {method} has {len(xy)} points for {len(every)} ids; run the study again")
        panel, place = _panel(f"map-{i}", display(method), xy[sample], classes, len(names), sprite)
        panels.append((display(method), panel))
        places[f"map-{i}"] = place.round(1).tolist()
    firsts = [int(np.flatnonzero(classes == c)[0]) for c in range(len(names))]
    legend = [(str(n), c, sprite.box(firsts[c]) if sprite else None) for c, n in enumerate(names)]
    data = {"classes": names.tolist(), "of": classes.tolist(), "places": places}
    if sprite:
        data["boxes"] = [sprite.box(i) for i in range(len(sample))]
    return Maps(panels, legend, sprite, data, len(sample), len(every))


def _sample(classes: IntArray) -> IntArray:
    """Return at most ``MOST`` positions in order, classes taken in turn so that none is lost."""
    if len(classes) <= MOST:
        return np.arange(len(classes))
    chance = np.random.default_rng(0).permutation(len(classes))
    turn = np.empty(len(classes), dtype=np.int64)
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        turn[members[np.argsort(chance[members])]] = np.arange(len(members))
    return np.sort(np.lexsort((chance, turn))[:MOST])


def _sprite(path: Path, tsne: TsneFile, sample: IntArray) -> Sprite | None:
    """Return the thumbnails of a sample of the images, or None where the study wrote none."""
    if not path.exists() or not tsne.get("side") or not tsne.get("columns"):
        return None
    side, columns = int(tsne["side"]), int(tsne["columns"])
    content, image = opened(path)
    if len(sample) < len(tsne["ids"]) or side > SHARP:
        sharp, across = min(side, SHARP), 25
        smaller = Image.new("RGB", (across * sharp, -(-len(sample) // across) * sharp))
        for to, i in enumerate(sample.tolist()):
            x, y = i % columns * side, i // columns * side
            tile = image.crop((x, y, x + side, y + side)).resize((sharp, sharp), Image.Resampling.LANCZOS)
            smaller.paste(tile, (to % across * sharp, to // across * sharp))
        image, side, columns = smaller, sharp, across
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=72)
        content = buffer.getvalue()
    return Sprite.of(content, image, side, columns)


def _panel(
    name: str, method: str, xy: FloatArray, classes: IntArray, count: int, sprite: Sprite | None
) -> tuple[Markup, FloatArray]:
    """Return one map and the place of every point on it, in the drawing's own groups."""
    with drawing.style():
        figure = drawing.sheet(WIDTH, WIDTH)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        low, high = xy.min(axis=0), xy.max(axis=0)
        reach = float((high - low).max()) / 2 * (1 + 1.9 * TILE / WIDTH) or 1.0
        centre = (low + high) / 2
        axes.set_xlim(centre[0] - reach, centre[0] + reach)
        axes.set_ylim(centre[1] - reach, centre[1] + reach)
        for c in np.unique(classes).tolist():
            x, y = xy[classes == c].T
            dots = axes.scatter(
                x,
                y,
                s=32,
                marker=SHAPES[c // 8 % 4],
                color=drawing.CLASS[c % 8],
                edgecolor=drawing.PAPER,
                linewidth=0.6,
            )
            dots.set_gid(f"{name}-c{c}")
        place = np.asarray(axes.transData.transform(xy), dtype=np.float64)
        place[:, 1] = WIDTH - place[:, 1]  # SVG counts downwards
        label = f"t-SNE map of {len(xy)} held-out images of {count} classes, features of {method}"
        return drawing.to_svg(figure, name, label, "map", _tiles(place, classes, sprite)), place


def _tiles(place: FloatArray, classes: IntArray, sprite: Sprite | None) -> Markup:
    """Return thumbnails wherever they do not cover one another, classes in turn; all other images stay dots."""
    if sprite is None:
        return Markup("")
    turn = np.zeros(len(classes), dtype=np.int64)
    for c in np.unique(classes):
        turn[classes == c] = np.arange(int((classes == c).sum()))
    taken: list[int] = []
    parts = []
    for i in np.argsort(turn, kind="stable").tolist():
        if taken and np.abs(place[taken] - place[i]).max(axis=1).min() < TILE + 3:
            continue
        taken.append(i)
        x, y = place[i] - TILE / 2
        c = int(classes[i])
        parts.append(
            f'<g data-c="{c}"><rect x="{x - 1.5:.1f}" y="{y - 1.5:.1f}" width="{TILE + 3}" height="{TILE + 3}" rx="3" '
            f'style="fill: var(--c{c % 8})"/><svg x="{x:.1f}" y="{y:.1f}" width="{TILE}" height="{TILE}" '
            f'viewBox="{sprite.box(i)}"><use href="#sprite"/></svg></g>'
        )
    return Markup("\n".join(parts))  # noqa: S704  numbers only
