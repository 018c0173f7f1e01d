"""All measures of a feature space at once, and the map of it: settings, draws, what cannot be measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slmlp import config
from slmlp.probes.features import Features
from slmlp.probes.measures.measures import measure, take_per_class
from slmlp.probes.measures.mixtureness import feature_mixtureness, mixtureness_floor
from slmlp.probes.measures.ratio import discriminative_ratio
from slmlp.probes.measures.redundancy import redundancy_baseline
from slmlp.probes.measures.tsne import embed
from slmlp.runtime.errors import SlmlpError


def features(classes: int, per_class: int, d: int = 12, seed: int = 0, prefix: str = "c") -> Features:
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), per_class).astype(np.int64)
    x = random.normal(size=(classes, d))[y] + random.normal(size=(len(y), d))
    ids = np.array([f"{prefix}{k:05d}" for k in range(len(y))])
    return Features(x.astype(np.float32), y, tuple(f"{prefix}{j}" for j in range(classes)), ids, ids)


ONE_PART = {
    "discriminative_ratio_{}",
    "discriminative_ratio_{}_corrected",
    "discriminative_ratio_{}_normalised",
    "redundancy_{}",
    "redundancy_baseline_{}",
    "dead_channels_{}",
    "class_separation_{}",
    "nc1_{}",
    "cdnv_{}",
    "effective_rank_{}",
}


def test_measure_names_everything_and_takes_equal_numbers():
    source, unseen = features(20, 15, seed=1), features(12, 9, seed=2, prefix="u")
    found = measure(source, unseen, config.Measures())
    expected = {"n_per_class", "mixtureness_k"} | {
        name.format(part) for name in ONE_PART for part in ("source", "unseen")
    }
    for k in ("", "_k5"):  # 20 and 50 are more than half of the 31 other centres
        expected |= {f"mixtureness{k}{end}" for end in ("", "_floor", "_ceiling")}
    assert set(found) == expected
    assert found["n_per_class"] == 9
    assert found["mixtureness_k"] == 10
    same = take_per_class(source, 9, 0)
    assert np.bincount(same.y).tolist() == [9] * 20
    assert found["discriminative_ratio_source"] == discriminative_ratio(same.x, same.y)
    assert found["discriminative_ratio_unseen"] == discriminative_ratio(unseen.x, unseen.y)
    assert found["redundancy_baseline_source"] == redundancy_baseline(180, 12)
    centres = [np.stack([p.x[p.y == j].astype(np.float64).mean(0) for j in np.unique(p.y)]) for p in (same, unseen)]
    assert found["mixtureness"] == pytest.approx(feature_mixtureness(*centres, 10))
    assert found["mixtureness_k5"] == pytest.approx(feature_mixtureness(*centres, 5))
    assert found["mixtureness_floor"] == mixtureness_floor(20, 12, 10)
    assert found["mixtureness_floor"] < found["mixtureness_ceiling"]


def test_every_setting_of_the_measures_matters():
    source, unseen = features(20, 15, seed=1), features(12, 9, seed=2, prefix="u")
    plain = measure(source, unseen, config.Measures())
    for change in (
        {"mixtureness_k": (3,)},
        {"mixtureness_distance": "euclidean"},
        {"images_per_class": 4},
        {"seed": 1},
    ):
        assert measure(source, unseen, config.Measures(**change)) != plain, change


def test_one_part_alone_and_few_classes():
    source, unseen = features(3, 6, seed=1), features(2, 6, seed=2, prefix="u")
    assert not any("mixtureness" in name or "source" in name for name in measure(None, unseen, config.Measures()))
    assert not any("mixtureness" in name or "unseen" in name for name in measure(source, None, config.Measures()))
    assert measure(source, unseen, config.Measures())["mixtureness_k"] == 2  # of 4 other centres


def test_the_draw_does_not_depend_on_order_or_encoder():
    source = features(6, 20, seed=1)
    order = np.random.default_rng(0).permutation(len(source))
    mixed = Features(source.x[order], source.y[order], source.classes, source.ids[order], source.groups[order])
    assert set(take_per_class(source, 7, 3).ids) == set(take_per_class(mixed, 7, 3).ids)
    assert set(take_per_class(source, 7, 3).ids) != set(take_per_class(source, 7, 4).ids)


def test_undefined_measures_are_left_out():
    collapsed = dataclasses.replace(features(4, 5), x=np.zeros((20, 12), dtype=np.float32))
    found = measure(collapsed, None, config.Measures())
    assert found == {"n_per_class": 5.0, "dead_channels_source": 12.0}


def test_what_cannot_be_measured_is_named():
    source = features(4, 5)
    with pytest.raises(SlmlpError, match=r"need 9 images of every class, and source class 'c0' has 5"):
        measure(source, None, config.Measures(images_per_class=9))
    with pytest.raises(SlmlpError, match=r"no features to measure"):
        measure(None, None, config.Measures())
    with pytest.raises(SlmlpError, match=r"at least two source classes, found 1"):
        measure(dataclasses.replace(source, y=source.y * 0), None, config.Measures())
    with pytest.raises(SlmlpError, match=r"mixtureness-k"):
        measure(source, source, config.Measures(mixtureness_k=(0,)))
    source.x[2, 2] = np.nan
    with pytest.raises(SlmlpError, match=r"1 of 20 source images are NaN"):
        measure(source, None, config.Measures())


# t-SNE


def test_embedding_is_repeatable_standard_and_keeps_neighbours():
    source = features(3, 40, d=60)
    x = source.x + 20 * np.eye(60)[source.y]  # classes far apart
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = embed(x, 0), embed(x, 0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert first.shape == (120, 2)
    assert first.dtype == np.float64
    np.testing.assert_allclose(first.mean(0), 0, atol=1e-9)
    assert (first**2).mean() == pytest.approx(1)
    gaps = ((first[:, None] - first) ** 2).sum(-1) + 1e9 * np.eye(120)
    assert (source.y[gaps.argmin(1)] == source.y).all()


def test_embedding_of_few_points_and_of_too_many():
    assert np.isfinite(embed(np.random.default_rng(0).normal(size=(4, 1)), 0)).all()
    with pytest.raises(SlmlpError, match="4 to 1500 points, found 3"):
        embed(np.zeros((3, 5)), 0)
    with pytest.raises(SlmlpError, match="found 1501"):
        embed(np.zeros((1501, 5)), 0)
