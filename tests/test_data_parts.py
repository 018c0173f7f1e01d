"""Drawn parts: whole groups, every class on both sides, the wanted shares, and the same for the same words."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmlp.config import DataOptions
from slmlp.data import ensure_test_part, limit_per_class, load, stratified_folds, stratified_holdout
from slmlp.runtime.errors import SlmlpError


def alone(count):
    return np.array([f"image {i}" for i in range(count)])


def whole_groups(mask_or_fold, groups):
    return all(len(set(mask_or_fold[groups == group].tolist())) == 1 for group in set(groups.tolist()))


def test_without_groups_the_share_of_every_class_is_exact():
    labels = np.repeat([0, 1, 2, 3], [2, 10, 33, 200])
    held = stratified_holdout(labels, alone(245), 0.3, 0)
    assert np.bincount(labels[held]).tolist() == [1, 3, 10, 60]
    assert np.bincount(labels[stratified_holdout(labels, alone(245), 0.01, 0)]).tolist() == [1, 1, 1, 2]
    assert np.bincount(labels[~stratified_holdout(labels, alone(245), 0.999, 0)]).tolist() == [1, 1, 1, 1]


def test_without_groups_folds_differ_by_one_at_most():
    labels = np.repeat([0, 1, 2, 3], [2, 7, 33, 200])
    folds = stratified_folds(labels, alone(242), 5, 0)
    counts = np.array([np.bincount(folds[labels == c], minlength=5) for c in range(4)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1


def test_draws_follow_seed_and_words_but_not_the_order_of_images():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 300)
    for groups in (alone(300), np.array([f"u{i}" for i in random.integers(0, 120, 300)])):
        shuffle = random.permutation(300)
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        for draw in (
            lambda y, u, seed, word: stratified_holdout(y, u, 0.3, seed, word),
            lambda y, u, seed, word: stratified_folds(y, u, 4, seed, word),
        ):
            first = draw(labels, groups, 0, "a")
            np.testing.assert_array_equal(draw(labels, groups, 0, "a"), first)
            np.testing.assert_array_equal(draw(labels[shuffle], groups[shuffle], 0, "a"), first[shuffle])
            assert (draw(labels, groups, 1, "a") != first).any()
            assert (draw(labels, groups, 0, "b") != first).any()
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_names_and_numbers_of_classes_draw_the_same():
    labels = np.arange(60) % 3
    names = np.array(["a", "b", "c"])[labels]
    np.testing.assert_array_equal(
        stratified_holdout(labels, alone(60), 0.3, 1), stratified_holdout(names, alone(60), 0.3, 1)
    )


def test_groups_stay_whole_and_shares_near():
    random = np.random.default_rng(1)
    patients = random.integers(0, 80, 1000)
    groups = np.array([f"patient {p}" for p in patients])
    labels = (patients + random.integers(0, 2, 1000)) % 5  # each patient has images of two classes
    for seed in range(5):
        held = stratified_holdout(labels, groups, 0.3, seed)
        assert whole_groups(held, groups)
        shares = np.bincount(labels[held], minlength=5) / np.bincount(labels)
        assert np.abs(shares - 0.3).max() < 0.05
        folds = stratified_folds(labels, groups, 5, seed)
        assert whole_groups(folds, groups)
        counts = np.array([np.bincount(folds[labels == c], minlength=5) for c in range(5)])
        assert np.abs(counts / counts.sum(axis=1, keepdims=True) - 0.2).max() < 0.08


def test_the_one_way_that_works_is_found():
    # class a has a group of its own, b only the shared one besides its own: u1 must not be held with u0, nor with u2
    labels = np.array(list("abab"))
    groups = np.array(["u0", "u1", "u1", "u2"])
    for seed in range(10):
        held = stratified_holdout(labels, groups, 0.5, seed)
        sides = {group: bool(held[groups == group][0]) for group in ("u0", "u1", "u2")}
        assert sides["u0"] == sides["u2"] != sides["u1"]


def test_a_holdout_is_found_exactly_where_one_exists():
    random = np.random.default_rng(0)
    outcomes = []
    for seed in range(150):
        u, y = random.integers(0, random.integers(2, 8), 12), random.integers(0, random.integers(2, 6), 12)
        names = np.unique(u)
        there = np.array([[bool(((y == c) & (u == k)).any()) for k in names] for c in np.unique(y)])
        sides = [np.array(side, dtype=bool) for side in itertools.product([0, 1], repeat=len(names))]
        possible = any((there[:, side].any(1) & there[:, ~side].any(1)).all() for side in sides)
        try:
            stratified_holdout(y, np.array([f"u{k}" for k in u]), 0.3, seed)
        except SlmlpError:
            assert not possible
        else:
            assert possible
        outcomes.append(possible)
    assert 20 < sum(outcomes) < 130, "both cases must have been tried"


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=40),
    fraction=st.floats(0.05, 0.95),
    folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_any_groups_give_a_sound_draw_or_an_error(rows, fraction, folds, seed):
    labels = np.array([y for y, _ in rows])
    groups = np.array([f"u{u}" for _, u in rows])
    try:
        held = stratified_holdout(labels, groups, fraction, seed)
    except SlmlpError:
        held = None
    if held is not None:
        assert whole_groups(held, groups)
        for c in set(labels.tolist()):
            assert 0 < held[labels == c].sum() < (labels == c).sum()
    try:
        fold = stratified_folds(labels, groups, folds, seed)
    except SlmlpError:
        return
    assert whole_groups(fold, groups)
    assert set(fold.tolist()) == set(range(folds))
    assert all(len(set(fold[labels == c].tolist())) > 1 for c in set(labels.tolist()))


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        (["a", "a", "b"], ["1", "2", "3"], "class 'b' has one image"),
        (["a", "a", "b", "b"], ["1", "2", "3", "3"], r"class 'b' has 2 images, all of one group \('3'\)"),
        (["a", "b", "a", "c", "b", "c"], ["1", "1", "2", "2", "3", "3"], "cannot hold out whole groups"),
    ],
)
def test_what_cannot_be_held_out_is_said(labels, groups, words):
    labels, groups = np.array(labels), np.array(groups)
    with pytest.raises(SlmlpError, match=words):
        stratified_holdout(labels, groups, 0.5, 0)


def test_what_cannot_be_dealt_is_said():
    labels = np.array(list("aabb"))
    with pytest.raises(SlmlpError, match="5 folds need at least as many groups, found 4"):
        stratified_folds(labels, alone(4), 5, 0)
    with pytest.raises(SlmlpError, match="all of one group"):
        stratified_folds(labels, np.array(["1", "2", "3", "3"]), 2, 0)
    with pytest.raises(SlmlpError, match="at least 2"):
        stratified_folds(labels, alone(4), 1, 0)
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(SlmlpError, match="above 0 and below 1"):
            stratified_holdout(labels, alone(4), fraction, 0)


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "x.npz"
    y = np.repeat(["ape", "bee", "cow"], [10, 20, 40])
    np.savez(path, x=np.zeros((70, 4, 4), dtype=np.uint8), y=y)
    return load(str(path))


def test_a_test_part_is_drawn_where_there_is_none(images):
    drawn = ensure_test_part(images, 0.3, 7)
    assert np.bincount(drawn.of_part("test").labels).tolist() == [3, 6, 12]
    assert not drawn.has_test_part, "the data itself has none still"
    assert drawn.ids == images.ids
    assert ensure_test_part(images, 0.3, 7).parts.tolist() == drawn.parts.tolist()
    assert ensure_test_part(images, 0.3, 8).parts.tolist() != drawn.parts.tolist()
    own = dataclasses.replace(images, has_test_part=True)
    assert ensure_test_part(own, 0.3, 7) is own


def test_a_class_of_one_image_is_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((4, 4, 4), dtype=np.uint8), y=np.array(["ape", "bee", "ape", "ape"]))
    with pytest.raises(SlmlpError, match="class 'bee' has one image"):
        ensure_test_part(load(str(path)), 0.3, 0)


def test_the_limit_leaves_the_test_part_whole(images):
    drawn = ensure_test_part(images, 0.3, 7)
    limited = limit_per_class(drawn, 8, 0)
    assert np.bincount(limited.of_part("train").labels).tolist() == [7, 8, 8]
    assert limited.of_part("test").ids == drawn.of_part("test").ids
    assert set(limited.ids) > set(limit_per_class(drawn, 3, 0).ids)


def test_the_limit_on_data_without_parts_limits_all(images, tmp_path):
    limited = load(images.source, DataOptions(images_per_class=15), seed=2)
    assert np.bincount(limited.labels).tolist() == [10, 15, 15]
