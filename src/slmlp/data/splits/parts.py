"""Assign images to parts: stratified by class, in whole groups, independent of the images' order."""

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
Contents = list[list[tuple[int, int]]]  # (class, number of images) of each group
ATTEMPTS = 20  # random orders tried where groups have several images; the nearest to the requested shares wins
ENOUGH = 100_000  # stop after this many groups over all attempts: with many groups one order is near enough


def ensure_test_part(images: ImageSet, fraction: float, seed: int) -> ImageSet:
    """Return the images with a test part: their own, else ``fraction`` of each class, in whole groups.

    Each class has at least one image in each part; ``has_test_part`` is unchanged.
    """
    if images.has_test_part:
        return images
    names = np.array(images.classes, dtype=np.str_)[images.labels]
    test = stratified_holdout(names, images.groups, fraction, seed, "test part")
    return dataclasses.replace(images, parts=np.where(test, "test", "train"))


def limit_per_class(images: ImageSet, number: int, seed: int) -> ImageSet:
    """Return the images with at most ``number`` training images of each class; the test part is unchanged.

    The images for a number are a subset of those for a larger number.
    """
    train = images.parts == "train"
    keys = random_ranks(np.array(images.ids, dtype=np.str_), numpy_generator(seed, "images per class"))
    keep: BoolArray = ~train
    keep[train] = rank_within(images.labels[train], keys[train]) < number
    return images.select(keep)


def stratified_holdout(
    labels: Labels, groups: npt.NDArray[np.str_], fraction: float, seed: int, *words: str | int
) -> BoolArray:
    """Return the mask (N,) of the images to hold out: about ``fraction`` of each class, in whole groups.

    ``labels`` (N,) may be class names, for errors. Every class has at least one image on each side. If each image is
    its own group the number per class is ``fraction`` of it, rounded; else the best of some greedy choices is used.
    ``words`` name the use, so that two uses of one seed are independent.

    Raises:
        SlmlpError: a class has one image or one group, or no attempt has every class on both sides.
    """
    if not 0 < fraction < 1:
        raise SlmlpError(f"the share to hold out must be above 0 and below 1, found {fraction}")
    classes, y, number, u = _codes(labels, groups)
    _check_two_groups(classes, y, u, groups, "to hold some out")
    total = np.bincount(y)
    target = np.clip(np.floor(fraction * total + 0.5).astype(np.int64), 1, total - 1)
    random = numpy_generator(seed, "holdout", *words)
    if number == len(y):
        mask: BoolArray = rank_within(y, random.permutation(number)[u]) < target[y]
        return mask
    contents = _contents(y, u, number)
    best, least = None, np.inf
    for attempt in range(ATTEMPTS):
        selected, miss = _draw_groups(contents, random.permutation(number).tolist(), total.tolist(), target.tolist())
        if miss < least:
            best, least = selected, miss
        if best is not None and (least == 0 or attempt * number > ENOUGH):
            break
    if best is None:
        raise SlmlpError(
            f"cannot hold out whole groups with each of {len(classes)} classes on both sides ({number} groups): add "
            "images of more groups, or leave the groups out"
        )
    return best[u]


def stratified_folds(
    labels: Labels, groups: npt.NDArray[np.str_], folds: int, seed: int, *words: str | int
) -> IntArray:
    """Return the fold (N,), 0 to ``folds`` - 1, of each image: whole groups, classes spread as evenly as possible.

    If each image is its own group, the counts of a class differ by at most one between folds, and so do the sizes of
    the folds. Every class is in at least two folds, so it is always trained on before it is tested.

    Raises:
        SlmlpError: as ``stratified_holdout``, or there are fewer groups than folds.
    """
    if folds < 2:
        raise SlmlpError(f"the number of folds must be at least 2, found {folds}")
    classes, y, number, u = _codes(labels, groups)
    if number < folds:
        raise SlmlpError(f"{folds} folds need at least as many groups, found {number}: ask for fewer folds")
    _check_two_groups(classes, y, u, groups, "for folds")
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
        f"cannot divide {number} groups into {folds} folds with each of {len(classes)} classes in two of them: ask for "
        "fewer folds, or leave the groups out"
    )


def _codes(labels: Labels, groups: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.generic], IntArray, int, IntArray]:
    """Return class names, each image's class, the number of groups, each image's group; in order of sorted names."""
    classes, y = np.unique(labels, return_inverse=True)
    names, u = np.unique(groups, return_inverse=True)
    return classes, y.astype(np.int64), len(names), u.astype(np.int64)


def _check_two_groups(
    classes: npt.NDArray[np.generic], y: IntArray, u: IntArray, groups: npt.NDArray[np.str_], purpose: str
) -> None:
    first = np.full(len(classes), -1, dtype=np.int64)
    first[y] = u  # some group of each class
    several = np.zeros(len(classes), dtype=np.bool_)
    several[y[u != first[y]]] = True
    if several.all():
        return
    wrong = int(np.flatnonzero(~several)[0])
    members = y == wrong
    count = int(members.sum())
    content = "one image" if count == 1 else f"{count} images, all of one group ({str(groups[members][0])!r})"
    needed = "two of different groups" if len(np.unique(groups)) < len(groups) else "two"
    raise SlmlpError(
        f"class {str(classes[wrong])!r} has {content}: it takes at least {needed} {purpose}; add images "
        f"or remove the class ({int((~several).sum())} such classes)"
    )


def random_ranks(ids: npt.NDArray[np.str_], random: np.random.Generator) -> IntArray:
    """Return a random rank (N,) for each image that depends on its id, not on its index."""
    rank: IntArray = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(ids, kind="stable")] = random.permutation(len(ids))
    return rank


def rank_within(y: IntArray, keys: IntArray) -> IntArray:
    """Return, for each image, how many of its class have a smaller key."""
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
    """Choose the groups to hold out greedily in ``order``; return their mask and the relative miss of the targets.

    A group is chosen if that brings its classes nearer to their targets and leaves some of each class. Then each class
    without a chosen group gets the one that disturbs the others least; the mask is None if there is no such group.
    """
    selected: BoolArray = np.zeros(len(contents), dtype=np.bool_)
    counts = [0] * len(total)

    def allowed(group: int) -> bool:
        return all(counts[c] + k < total[c] for c, k in contents[group])

    def gain(group: int) -> float:
        """Return how much nearer the classes come to their targets, relative to their sizes."""
        return sum((abs(target[c] - counts[c]) - abs(target[c] - counts[c] - k)) / total[c] for c, k in contents[group])

    def take(group: int) -> None:
        selected[group] = True
        for c, k in contents[group]:
            counts[c] += k

    for group in order:
        if allowed(group) and gain(group) > 0:
            take(group)
    for label in range(len(total)):
        if not counts[label]:
            choices = [group for group in order if any(c == label for c, _ in contents[group]) and allowed(group)]
            if not choices:
                return None, float("inf")
            take(max(choices, key=gain))
    return selected, sum(abs(t - k) / n for t, k, n in zip(target, counts, total, strict=True))


def _deal_groups(contents: Contents, order: Sequence[int], total: IntArray, folds: int) -> IntArray:
    """Return each group's fold: from the largest group on, the fold with least of its classes."""
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
