"""Draws of few-shot episodes from seed, labels, ids and groups only: the same ones for every encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.probes.features import Features
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.runtime.seeds import numpy_generator

ATTEMPTS = 1000  # draws tried for one class and one episode; only classes of very few groups need more than one
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Episodes:
    """E episodes of ``ways`` classes, as positions of images; rows of a class stand together, classes rising."""

    classes: Rows  # (E, ways)
    support: Rows  # (E, ways * shots)
    queries: Rows  # (E, ways * queries)


@dataclass(frozen=True)
class _Class:
    """The images of a class, in the order of their ids."""

    rows: Rows  # (n,) positions
    groups: Rows  # (n,) codes
    sizes: Rows  # (n,) how many of the class's images share the image's group


def draw(images: Features, cfg: config.FewShot) -> Episodes:
    """Draw the episodes.

    Classes are drawn uniformly, then the images of a class uniformly: the first are the support, and others, of groups
    without an image in the support, are the queries. A group is not taken into the support where too few images would
    be left for queries. A group with images of several classes is for the support or for the queries in a whole
    episode.
    """
    by_id = np.argsort(images.ids, kind="stable")
    _, codes = np.unique(images.groups, return_inverse=True)
    present = np.unique(images.y)
    if len(present) < cfg.ways:
        raise SlmlpError(f"fewshot: {cfg.ways} ways asked for, the data have {len(present)} classes: lower ways")
    members = {}
    for label in present.tolist():
        rows = by_id[images.y[by_id] == label].astype(np.int64)
        groups = codes[rows].astype(np.int64)
        members[label] = _Class(rows, groups, np.bincount(groups)[groups])
    # Groups of one class keep to one side by the draw of the class; only the others need a side for the episode.
    owners = np.unique(np.stack([codes, images.y]), axis=1)[0]
    shared = np.flatnonzero(np.bincount(owners) > 1)
    _check_sizes(images, members, cfg, int(codes.max()) + 1)
    drawn = list(_episodes(members, present, shared, int(codes.max()) + 1, cfg))
    chosen, support, queries = (np.stack(part) for part in zip(*drawn, strict=True))
    return Episodes(chosen, support, queries)


def _check_sizes(images: Features, members: dict[int, _Class], cfg: config.FewShot, number: int) -> None:
    """Raise SlmlpError for classes that are too small for an episode, whatever the draw."""
    random = numpy_generator(cfg.seed, "episodes", "check")
    free = np.full(number, -1, dtype=np.int8)
    small = []
    for label, its in members.items():
        if len(its.rows) < cfg.shots + cfg.queries or not any(
            _draw_class(its, free, cfg, random) for _ in range(1 if its.sizes.max() == 1 else ATTEMPTS)
        ):
            small.append(label)
    if small:
        first = members[small[0]]
        count, groups = len(first.rows), len(np.unique(first.groups))
        size = plural(count, "image") + (f" of {plural(groups, 'group')}" if groups < count else "")
        raise SlmlpError(
            f"fewshot: class {images.classes[small[0]]!r} has {size}, too few for {cfg.shots} shots and {cfg.queries} "
            f"queries of other groups ({len(small)} such class{'es' * (len(small) > 1)}): lower shots or queries, "
            "or remove the class"
        )


def _episodes(
    members: dict[int, _Class], present: npt.NDArray[np.int64], shared: Rows, number: int, cfg: config.FewShot
) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Yield classes, support and queries of each episode; each episode has its own generator."""
    side = np.full(number, -1, dtype=np.int8)  # of each group: 1 support, 0 queries, -1 free
    for episode in range(cfg.episodes):
        random = numpy_generator(cfg.seed, "episodes", episode)
        for _ in range(ATTEMPTS):
            chosen = np.sort(random.choice(present, cfg.ways, replace=False)).astype(np.int64)
            side[shared] = random.random(len(shared)) < cfg.shots / (cfg.shots + cfg.queries)
            drawn = [_draw_class(members[label], side, cfg, random) for label in chosen.tolist()]
            parts = [part for part in drawn if part is not None]
            if len(parts) == cfg.ways:
                break
        else:
            raise SlmlpError(
                f"fewshot: {ATTEMPTS} draws gave no episode whose support and queries share no group "
                f"({len(shared)} groups have images of several classes): lower ways, shots or queries"
            )
        yield chosen, np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _draw_class(
    its: _Class, side: npt.NDArray[np.int8], cfg: config.FewShot, random: np.random.Generator
) -> tuple[Rows, Rows] | None:
    """Return positions of shots and queries of one class; None where this draw leaves too few."""
    order = random.permutation(len(its.rows))
    groups, sides = its.groups[order], side[its.groups[order]]
    left = int((sides != 1).sum())  # images that may still be queries
    given = np.zeros(len(side), dtype=np.bool_)  # groups that are in the support
    support: list[int] = []
    for i in range(len(order)):
        group = int(groups[i])
        if sides[i] == 0:
            continue
        if sides[i] == -1 and not given[group]:
            size = int(its.sizes[order[i]])
            if left - size < cfg.queries:
                continue
            left -= size
        given[group] = True
        support.append(i)
        if len(support) == cfg.shots:
            break
    queries = np.flatnonzero((sides != 1) & ~given[groups])[: cfg.queries]
    if len(support) < cfg.shots or len(queries) < cfg.queries:
        return None
    return its.rows[order[support]], its.rows[order[queries]]
