"""Assign images to parts: stratified by class, whole groups only, independent of the order of the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slmlp.data.dataset import ImageSet, IntArray
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator

BoolArray = npt.NDArray[np.bool_]
Labels = IntArray | npt.NDArray[np.str_]
Contents = list[list[tuple[int, int]]]  # of each group: (class, number of its images)
ATTEMPTS = 20  # shuffles tried where groups hold several images; the nearest to the wanted shares is kept
ENOUGH = 100_000  # groups handled in all these shuffles: with many groups one draw is near enough


def ensure_test_part(images: ImageSet, fraction: float, seed: int) -> ImageSet:
    """Return the images with a test part: their own, else ``fraction`` of each class, in whole groups.

    Each class keeps at least one image on each side; ``has_test_part`` goes on saying what the data came with.
    """
    if images.has_test_part:
        return images
    names = np.array(images.classes, dtype=np.str_)[images.labels]
    test = stratified_holdout(names, images.groups, fraction, seed, "test part")
    return dataclasses.replace(images, parts=np.where(test, "test", "train"))


def limit_per_class(images: ImageSet, number: int, seed: int) -> ImageSet:
    """Return the images with at most ``number`` training images of each class; a larger number keeps the same and more.

    The test part stays whole.
    """
    train = images.parts == "train"
    keys = _keys(np.array(images.ids, dtype=np.str_), numpy_generator(seed, "images per class"))
    keep: BoolArray = ~train
    keep[train] = _rank_within(images.labels[train], keys[train]) < number
    return images.select(keep)


def stratified_holdout(
    labels: Labels, groups: npt.NDArray[np.str_], fraction: float, seed: int, *words: str | int
) -> BoolArray:
    """Return the mask (N,) of the images to hold out: about ``fraction`` of each class, in whole groups.

    ``labels`` (N,) may be names, which errors then show. Every class has at least one image on each side. Where each
    image is its own group the share of a class is exact, ``fraction`` of it rounded; where groups hold several images,
    the nearest of some greedy draws is taken. ``words`` name the use, so that two uses of one seed draw apart. Raises
    SlmlpError naming a class that has one image or one group, or that no draw could put on both sides.
    """
    if not 0 < fraction < 1:
        raise SlmlpError(f"the share to hold out must be above 0 and below 1, found {fraction}")
    classes, y, number, u = _codes(labels, groups)
    _refuse_single(classes, y, u, groups, "to hold some out")
    total = np.bincount(y)
    target = np.clip(np.floor(fraction * total + 0.5).astype(np.int64), 1, total - 1)
    random = numpy_generator(seed, "holdout", *words)
    if number == len(y):
        chosen: BoolArray = _rank_within(y, random.permutation(number)[u]) < target[y]
        return chosen
    contents = _contents(y, u, number)
    best, least = None, np.inf
    for attempt in range(ATTEMPTS):
        held, missed = _draw_groups(contents, random.permutation(number).tolist(), total.tolist(), target.tolist())
        if missed < least:
            best, least = held, missed
        if best is not None and (least == 0 or attempt * number > ENOUGH):
            break
    if best is None:
        raise SlmlpError(
            f"no way was found to hold out whole groups so that each of {len(classes)} classes is on both sides "
            f"({number} groups): add images of more groups, or leave the groups out"
        )
    return best[u]


def stratified_folds(
    labels: Labels, groups: npt.NDArray[np.str_], folds: int, seed: int, *words: str | int
) -> IntArray:
    """Return the fold (N,), 0 to ``folds`` - 1, of each image: whole groups, each class spread as evenly as possible.

    Where each image is its own group, the counts of a class differ by at most one between folds, and so do the sizes of
    the folds. Every class is in at least two folds, so that none is tested without having been trained on. Raises
    SlmlpError as ``stratified_holdout`` does, and for fewer groups than folds.
    """
    if folds < 2:
        raise SlmlpError(f"the number of folds must be at least 2, found {folds}")
    classes, y, number, u = _codes(labels, groups)
    if number < folds:
        raise SlmlpError(f"{folds} folds need at least as many groups, found {number}: ask for fewer folds")
    _refuse_single(classes, y, u, groups, "for folds")
    random = numpy_generator(seed, "folds", *words)
    if number == len(y):
        order = np.lexsort((random.permutation(number)[u], y))
        fold = np.empty(len(y), dtype=np.int64)
        fold[order] = np.arange(len(y)) % folds
        return fold
    contents = _contents(y, u, number)
    for _ in range(ATTEMPTS):
        fold = _deal_groups(contents, random.permutation(number).tolist(), np.bincount(y), folds)[u]
        spread = np.zeros((len(classes), folds), dtype=np.bool_)
        spread[y, fold] = True
        if (spread.sum(axis=1) > 1).all() and spread.any(axis=0).all():
            return fold
    raise SlmlpError(
        f"no way was found to deal {number} groups to {folds} folds with each of {len(classes)} classes in two of "
        "them: ask for fewer folds, or leave the groups out"
    )


def _codes(labels: Labels, groups: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.generic], IntArray, int, IntArray]:
    """Return class names, class of each image, number of groups, group of each image; codes follow sorted names."""
    classes, y = np.unique(labels, return_inverse=True)
    names, u = np.unique(groups, return_inverse=True)
    return classes, y.astype(np.int64), len(names), u.astype(np.int64)


def _refuse_single(
    classes: npt.NDArray[np.generic], y: IntArray, u: IntArray, groups: npt.NDArray[np.str_], purpose: str
) -> None:
    first = np.full(len(classes), -1, dtype=np.int64)
    first[y] = u  # some group of each class
    several = np.zeros(len(classes), dtype=np.bool_)
    several[y[u != first[y]]] = True
    if several.all():
        return
    wrong = int(np.flatnonzero(~several)[0])
    mine = y == wrong
    count = int(mine.sum())
    found = "one image" if count == 1 else f"{count} images, all of one group ({str(groups[mine][0])!r})"
    raise SlmlpError(
        f"class {str(classes[wrong])!r} has {found}: it takes at least two of different groups {purpose}; add images "
        f"or remove the class ({int((~several).sum())} such classes)"
    )


def _keys(ids: npt.NDArray[np.str_], random: np.random.Generator) -> IntArray:
    """Return a random place (N,) for each image that depends on its id, not on where it stands."""
    place: IntArray = np.empty(len(ids), dtype=np.int64)
    place[np.argsort(ids, kind="stable")] = random.permutation(len(ids))
    return place


def _rank_within(y: IntArray, keys: IntArray) -> IntArray:
    """Return of each image how many of its class have a smaller key."""
    order = np.lexsort((keys, y))
    ordered = y[order]
    rank = np.empty(len(y), dtype=np.int64)
    rank[order] = np.arange(len(y)) - np.searchsorted(ordered, ordered)
    return rank


def _contents(y: IntArray, u: IntArray, number: int) -> Contents:
    contents: Contents = [[] for _ in range(number)]
    width = int(y.max()) + 1
    pairs, counts = np.unique(u * width + y, return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        contents[pair // width].append((pair % width, count))
    return contents


def _draw_groups(
    contents: Contents, order: Sequence[int], total: Sequence[int], target: Sequence[int]
) -> tuple[BoolArray | None, float]:
    """Return which groups are held out, going through ``order``, and how far the classes miss their targets.

    A group is taken when that brings its classes nearer to their targets and leaves some of each class behind. A class
    that got nothing then takes the group that disturbs the others least; None where no group may be taken.
    """
    held: BoolArray = np.zeros(len(contents), dtype=np.bool_)
    have = [0] * len(total)

    def allowed(group: int) -> bool:
        return all(have[c] + k < total[c] for c, k in contents[group])

    def gain(group: int) -> float:
        """How much nearer the classes come, each counted by its own size."""
        return sum((abs(target[c] - have[c]) - abs(target[c] - have[c] - k)) / total[c] for c, k in contents[group])

    def take(group: int) -> None:
        held[group] = True
        for c, k in contents[group]:
            have[c] += k

    for group in order:
        if allowed(group) and gain(group) > 0:
            take(group)
    for wanted in range(len(total)):
        if not have[wanted]:
            able = [group for group in order if any(c == wanted for c, _ in contents[group]) and allowed(group)]
            if not able:
                return None, float("inf")
            take(max(able, key=gain))
    return held, sum(abs(t - h) / n for t, h, n in zip(target, have, total, strict=True))


def _deal_groups(contents: Contents, order: Sequence[int], total: IntArray, folds: int) -> IntArray:
    """Return the fold of each group: from the largest on, each goes where least of its classes is."""
    size = [sum(k for _, k in group) for group in contents]
    counts = np.zeros((folds, len(total)))  # share of each class in each fold
    filled = np.zeros(folds)
    fold: IntArray = np.zeros(len(contents), dtype=np.int64)
    for group in sorted(order, key=lambda group: -size[group]):
        classes = [c for c, _ in contents[group]]
        share = np.array([k for _, k in contents[group]]) / total[classes]
        best = np.lexsort((filled, counts[:, classes] @ share))[0]
        fold[group] = best
        counts[best, classes] += share
        filled[best] += size[group]
    return fold
