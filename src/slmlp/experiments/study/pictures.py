"""Write what a study's page shows with pictures: the map of held-out images, classes gained and lost, neighbours."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from slmlp.config import TASKS
from slmlp.data.dataset import ByteArray, ImageSet
from slmlp.data.readers import read_resized
from slmlp.encoders import Encoder
from slmlp.encoders.initial import RANDOM
from slmlp.experiments.study.baselines import STARTING, starting_encoder
from slmlp.experiments.study.context import Context
from slmlp.probes.measures.tsne import VERSION, embed
from slmlp.report.maps import TsneFile
from slmlp.report.where import WhereFile
from slmlp.results.by_class import ClassChange, by_class, change_by_image
from slmlp.results.comparison import BySeed
from slmlp.runtime import files, json_files, seeds
from slmlp.runtime.errors import SlmlpError

MAP_IMAGES = 500
THUMBNAIL = 32  # pixels, on the map
PICTURE = 64  # pixels, of a class or a neighbour
COLUMNS = 25  # thumbnails in a row of their picture
SHOWN = 4  # classes that gain, and as many that lose
OF_CLASS = 6  # pictures of each
NEIGHBOURS = 6

FloatArray = npt.NDArray[np.floating]


def write(context: Context, contenders: Mapping[str, BySeed], pair: tuple[str, str]) -> None:
    """Write tsne.json and where.json, each with its thumbnails.

    Args:
        context: the study.
        contenders: the predictions on unseen classes of each contender, by seed.
        pair: the two that are compared class by class, from the first to the second.
    """
    unseen = context.data.of("unseen")
    encoders = {spec.name: context.run(spec, 0).encoder() for spec in context.specs}
    _map(context, unseen, encoders)
    if context.cfg.training.init != RANDOM:
        encoders = {STARTING: starting_encoder(context).eval(), **encoders}
    _where(context, unseen, encoders, contenders, pair)


def _features(context: Context, encoder: Encoder, images: ImageSet) -> FloatArray:
    x: FloatArray = context.features(encoder).extract(TASKS["unseen"], images)["output"].x
    return x


def _map(context: Context, unseen: ImageSet, encoders: Mapping[str, Encoder]) -> None:
    """Write the t-SNE map of held-out features of every contender (seed 0), on the same images, with thumbnails.

    A map of the same weights and images is not computed again: it takes seconds per contender.
    """
    picked = np.sort(seeds.numpy_generator(0, "map").permutation(len(unseen))[:MAP_IMAGES])
    images = unseen.select(picked)
    file = context.folder / "tsne.json"
    earlier = _maps(file)
    maps = {}
    for name, encoder in encoders.items():
        identity = files.hash_json([VERSION, encoder.hash(), list(images.ids)])
        tsne = earlier.get(name, {})
        if tsne.get("of") != identity or len(tsne["xy"]) != len(images):
            tsne = {"xy": np.round(embed(_features(context, encoder, unseen)[picked], 0), 4).tolist(), "of": identity}
        maps[name] = tsne
    labels = [images.classes[y] for y in images.labels]
    squares = context.image_cache.squares(context.image_cache.rows(images), THUMBNAIL).numpy()
    _sheet(context.folder / "thumbnails.webp", squares)
    json_files.write(
        file,
        {"methods": maps, "ids": list(images.ids), "labels": labels, "thumbnails": "thumbnails.webp",
         "side": THUMBNAIL, "columns": COLUMNS}, seal=True,
    )  # fmt: skip


def _maps(file: Path) -> dict[str, Any]:
    """Return the maps of an earlier call, by contender; none where the file is missing or broken."""
    try:
        return {name: tsne for name, tsne in json_files.read(file, TsneFile)["methods"].items() if "of" in tsne}
    except SlmlpError:
        return {}


def _where(
    context: Context, unseen: ImageSet, encoders: Mapping[str, Encoder], contenders: Mapping[str, BySeed],
    pair: tuple[str, str],
) -> None:  # fmt: skip
    """Write which classes gain and lose, pictures of them, and the nearest neighbours of some of their images."""
    baseline, other = pair
    changes = by_class(baseline, other, contenders[baseline], contenders[other]) if other != baseline else []
    shown = _shown(changes)
    rows: dict[str, list[int]] = {}
    if shown:
        ids, change = change_by_image(contenders[baseline], contenders[other])
        more = dict(zip(ids.tolist(), change.tolist(), strict=True))
        for c in shown:
            members = _members(unseen, c.name)
            sign = 1 if c.b > c.a else -1
            rows[c.name] = sorted(members, key=lambda i: -sign * more[unseen.ids[i]])[:OF_CLASS]
    queries = _queries(unseen, list(rows))
    near = _neighbours(context, unseen, encoders, queries)
    used = dict.fromkeys([*(i for of in rows.values() for i in of), *queries,
                          *(i for of in near.values() for found in of for i in found)])  # fmt: skip
    place = {i: k for k, i in enumerate(used)}  # image -> its thumbnail
    images = unseen.select(np.array(list(used), dtype=np.int64))
    # read here: the cache would decode the whole set to this size
    _sheet(context.folder / "where.webp", np.stack([read_resized(images, i, PICTURE) for i in range(len(images))]))
    content: WhereFile = {
        "a": baseline,
        "b": other,
        "classes": [_change(c) for c in changes],
        "pictures": {name: [place[i] for i in of] for name, of in rows.items()},
        "queries": [place[i] for i in queries],
        "neighbours": {name: [[place[i] for i in found] for found in of] for name, of in near.items()},
        "labels": [images.classes[y] for y in images.labels],
        "side": PICTURE,
        "columns": COLUMNS,
    }
    json_files.write(context.folder / "where.json", files.as_json(content), seal=True)


def _shown(changes: list[ClassChange]) -> list[ClassChange]:
    """Return the classes that gain most, then those that lose most."""
    gained = [c for c in changes if c.b > c.a][:SHOWN]
    lost = [c for c in reversed(changes) if c.b < c.a][:SHOWN]
    return [*gained, *lost]


def _change(c: ClassChange) -> dict[str, Any]:
    """Return a class as where.json has it: shares in percent, differences in points."""
    low, high = c.comparison.estimate.interval if c.comparison else (None, None)
    return {
        "name": c.name, "images": c.images, "a": 100 * c.a, "b": 100 * c.b, "low": low, "high": high,
        "p_holm": c.comparison.p_holm if c.comparison else None,
        "winner": c.comparison.winner if c.comparison else None,
    }  # fmt: skip


def _members(images: ImageSet, name: str) -> list[int]:
    return [int(i) for i in np.flatnonzero(images.labels == images.classes.index(name))]


def _queries(unseen: ImageSet, names: list[str]) -> list[int]:
    """Return an image of each of the classes, drawn; of classes that are drawn too where none is shown."""
    random = seeds.numpy_generator(0, "neighbours")
    if not names:
        present = sorted({unseen.classes[y] for y in unseen.labels})
        names = [present[i] for i in sorted(random.permutation(len(present))[: 2 * SHOWN])]
    return [int(random.choice(_members(unseen, name))) for name in names]


def _neighbours(
    context: Context, unseen: ImageSet, encoders: Mapping[str, Encoder], queries: list[int]
) -> dict[str, list[list[int]]]:
    """Return the nearest images of other groups, by the cosine of features: encoder -> query -> images."""
    near: dict[str, list[list[int]]] = {}
    for name, encoder in encoders.items():
        x = np.asarray(_features(context, encoder, unseen), dtype=np.float32)
        length = np.maximum(np.linalg.norm(x, axis=1), np.finfo(np.float32).tiny)
        near[name] = []
        for query in queries:
            cosine = x @ (x[query] / length[query]) / length
            cosine[unseen.groups == unseen.groups[query]] = -np.inf
            order = np.argsort(-cosine, kind="stable")[:NEIGHBOURS]
            near[name].append([int(i) for i in order if np.isfinite(cosine[i])])
    return near


def _sheet(path: Path, squares: ByteArray) -> None:
    """Write images (N, side, side, 3) into one picture, row by row."""
    side, rows = squares.shape[1], -(-len(squares) // COLUMNS)
    sheet = np.full((rows * side, COLUMNS * side, 3), 255, dtype=np.uint8)
    for i, square in enumerate(squares):
        top, left = i // COLUMNS * side, i % COLUMNS * side
        sheet[top : top + side, left : left + side] = square
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=80)
    files.write_bytes(path, buffer.getvalue())
