"""Where two contenders differ: classes gained and lost, with pictures, and the nearest neighbours of some images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from markupsafe import Markup
from PIL import Image

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.grid import Cell, Grid, Row
from slmlp.report.inputs import Inputs, found
from slmlp.report.page import WHERE, Section, block, fold
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural


class WhereFile(TypedDict):
    """The content of where.json; pictures are numbers of thumbnails in where.webp."""

    a: str  # the baseline
    b: str  # what is set beside it
    classes: list[dict[str, Any]]  # that which gains most first: name, images, a, b (percent), low, high, p_holm ...
    pictures: dict[str, list[int]]  # classes that gain and lose most -> images that changed most
    queries: list[int]
    neighbours: dict[str, list[list[int]]]  # encoder -> images near each query
    labels: list[str]  # of the thumbnails
    side: int
    columns: int


@dataclass(frozen=True)
class Sprite:
    """All thumbnails in one image, so that the page carries each of them once; a drawing shows a part of it."""

    uri: str
    side: int
    columns: int
    width: int
    height: int

    @classmethod
    def of(cls, content: bytes, image: Image.Image, side: int, columns: int) -> Sprite:
        """Return thumbnails of this side, so many in a row, from the bytes of a WebP file and its image."""
        uri = "data:image/webp;base64," + base64.b64encode(content).decode()
        return cls(uri, side, columns, image.width, image.height)

    def box(self, i: int) -> str:
        """Return thumbnail ``i`` as a viewBox."""
        return f"{i % self.columns * self.side} {i // self.columns * self.side} {self.side} {self.side}"


def opened(path: Path) -> tuple[bytes, Image.Image]:
    """Return the bytes of a file of thumbnails, and its image."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            return content, image.convert("RGB")
    except (OSError, ValueError) as error:
        raise SlmlpError(f"cannot read {path}: {error}; run the study again to have it written") from error


class Pictures:
    """Thumbnails with their classes, by number."""

    def __init__(self, path: Path, where: WhereFile) -> None:
        self.sprite, self.labels = Sprite.of(*opened(path), where["side"], where["columns"]), where["labels"]

    def one(self, i: int) -> tuple[str, str]:
        """Return the class of a thumbnail and its place as a viewBox."""
        return self.labels[i], self.sprite.box(i)


def sections(inputs: Inputs) -> list[Section]:
    """Return classes gained and lost, and neighbours, where the study wrote them."""
    path = inputs.folder / "where.json"
    if not path.exists():
        return []
    where = json_files.read(path, WhereFile)
    pictures = Pictures(inputs.folder / "where.webp", where)
    parts = [("neighbours", "Nearest neighbours", _neighbours(inputs, where, pictures))]
    if where["classes"]:
        parts.insert(0, ("classes", "Classes gained and lost", _classes(inputs, where, pictures)))
    parts[0][2].insert(0, block("sprite", pictures.sprite))
    return [Section(*part, WHERE) for part in parts]


def _classes(inputs: Inputs, where: WhereFile, pictures: Pictures) -> list[Markup]:
    """Return the classes that change most with their pictures, and the table of all."""
    a, b = display(where["a"]), display(where["b"])
    by_name = {c["name"]: c for c in where["classes"]}
    rows = []
    for name, images in where["pictures"].items():
        c = by_name[name]
        text = (
            f"{words.signed(c['b'] - c['a'])} points: {words.number(c['a'])} % with {a}, {words.number(c['b'])} % with "
            f"{b}, {plural(c['images'], 'image')}"
        )
        rows.append((name, text, found(c), c["b"] > c["a"], [pictures.one(i) for i in images]))
    sure = [c["name"] for c in where["classes"] if found(c)]
    least, count = min(c["images"] for c in where["classes"]), len(where["classes"])
    seeds = "seeds and images" if inputs.about["seeds"] > 1 else "images only"
    marked = f"Marked: beyond chance, corrected for all {count} classes. " if sure else ""
    caption = (
        f"The classes that gain and lose most from {b} in place of {a}, each with the images whose answers changed "
        f"most. {marked}{len(sure) or 'None'} of {count} classes {'differs' if len(sure) == 1 else 'differ'} beyond "
        f"chance; the order of {'the others' if sure else 'all'} is partly luck: a class has as few as "
        f"{plural(least, 'image')}. "
        f"n = {inputs.images('unseen', 'accuracy')} held-out images."
    )
    note = (
        f"Unseen accuracy by class, and its difference in points with a 95 % interval over {seeds}, for one class "
        f"alone; p is Holm's for all {count}."
    )
    every = block("grid", _grid(where, a, b, note))
    return [block("changes", rows, a, b, caption), fold(f"Every class: {count}", every)]


def _grid(where: WhereFile, a: str, b: str, note: str) -> Grid:
    rows = [
        Row(
            c["name"],
            [
                f"{c['images']:,}",
                words.number(c["a"]),
                words.number(c["b"]),
                Cell(words.signed(c["b"] - c["a"]), words.signed_span(c["low"], c["high"])),
                words.p_value(c["p_holm"]),
            ],
        )
        for c in where["classes"]
    ]
    columns = [("images", ""), (a, "%"), (b, "%"), ("difference", "points"), ("p, Holm", "")]
    return Grid("Every class", "class", columns, rows, note, main=False)


def _neighbours(inputs: Inputs, where: WhereFile, pictures: Pictures) -> list[Markup]:
    """Return each query with its nearest images under every encoder."""
    rows: list[tuple[tuple[str, str], Sequence[tuple[str, int | None, Sequence[tuple[str, str, bool]]]]]] = []
    for k, query in enumerate(where["queries"]):
        label = where["labels"][query]
        near = [
            (
                display(name),
                inputs.methods.index(name) if name in inputs.methods else None,
                [(*pictures.one(i), where["labels"][i] == label) for i in of[k]],
            )
            for name, of in where["neighbours"].items()
        ]
        rows.append((pictures.one(query), near))
    caption = (
        "Held-out images, one drawn from each class above, and the held-out images nearest to them by the cosine of "
        "the features, the nearest first; images of one group are left out. A bar below: of the same class. One seed, "
        f"n = {len(where['queries'])} images to look from."
    )
    return [block("neighbours", rows, caption)]
