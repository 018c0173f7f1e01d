"""Cross-validation predicts every image once, by a probe that saw none of its group, the same way for every encoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slmlp import config
from slmlp.probes import cross_validation as module
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.features import Features
from slmlp.runtime.errors import SlmlpError

SMALL = config.Probe(l2=(1.0, 1e-1, 1e-2, 1e-3))


def images(
    n: int = 240, d: int = 8, classes: int = 4, per_group: int = 1, seed: int = 0, separation: float = 0.7
) -> Features:
    random = np.random.default_rng(seed)
    y = np.arange(n) // per_group % classes
    x = np.random.default_rng(7).normal(size=(classes, d))[y] * separation + random.normal(size=(n, d))
    ids = np.array([f"i{k}" for k in range(n)])
    groups = np.array([f"u{k // per_group}" for k in range(n)])
    return Features(x.astype(np.float32), y.astype(np.int64), tuple("abcdefgh"[:classes]), ids, groups)


def test_every_image_is_predicted_once_outside_its_own_fold():
    features = images()
    result = cross_validate(features, SMALL)
    assert result.n == len(features)
    np.testing.assert_array_equal(result.predictions.ids, features.ids)
    np.testing.assert_array_equal(result.predictions.labels, np.array(features.classes)[features.y])
    assert sorted(set(result.predictions.folds.tolist())) == [0, 1, 2, 3, 4]
    assert len(result.l2) == len(result.gradient_norms) == len(result.scores) == 5
    assert max(result.gradient_norms) <= SMALL.tolerance
    assert result.unfinished == result.unfinished_sweep == 0
    assert 0.5 < result.accuracy < 1
    assert result.interval[0] < result.accuracy < result.interval[1]


def test_a_probe_is_trained_on_the_other_folds_and_all_of_them(monkeypatch):
    trained = []

    def spy(train, *args, rows, **kwargs):
        trained.append(set(train.ids[rows]))
        return original(train, *args, rows=rows, **kwargs)

    original = module.train_probe
    monkeypatch.setattr(module, "train_probe", spy)
    features = images()
    folds = cross_validate(features, SMALL).predictions.folds
    assert [set(features.ids[folds != fold]) for fold in range(5)] == trained


def test_noise_is_predicted_at_chance():
    features = images(n=300, d=60, separation=0.0)  # a probe that saw its images would be right on most of them
    assert abs(cross_validate(features, SMALL).accuracy - 0.25) < 0.1


def test_groups_stay_in_one_fold_and_widen_the_interval():
    features = images(n=480, per_group=8)
    same = np.repeat(features.x[::8], 8, axis=0)  # eight copies of one image a group
    features = dataclasses.replace(features, x=same)
    result = cross_validate(features, SMALL)
    for group in set(features.groups):
        assert len(set(result.predictions.folds[features.groups == group])) == 1
    apart = cross_validate(dataclasses.replace(features, groups=features.ids), SMALL)
    assert apart.accuracy > result.accuracy  # copies in other folds give the label away
    width = np.subtract(*result.interval[::-1])
    p = result.accuracy
    assert width == pytest.approx(2 * 2.0 * np.sqrt(p * (1 - p) / 60), rel=0.1)  # 60 groups, not 480 images


def test_two_encoders_get_the_same_folds_and_a_repeat_the_same_answer():
    features = images()
    other = dataclasses.replace(features, x=features.x[:, ::-1] * 3 + 1)
    first, second, repeat = (
        cross_validate(features, SMALL),
        cross_validate(other, SMALL),
        cross_validate(features, SMALL),
    )
    np.testing.assert_array_equal(first.predictions.folds, second.predictions.folds)
    np.testing.assert_array_equal(first.predictions.predictions, repeat.predictions.predictions)
    assert first.scores == repeat.scores
    # order and scale of the features carry no information for a probe on standardised features
    assert (first.predictions.predictions == second.predictions.predictions).mean() > 0.99
    moved = cross_validate(features, dataclasses.replace(SMALL, seed=1))
    assert (moved.predictions.folds != first.predictions.folds).any()


def test_too_few_groups_are_named_with_the_fix():
    features = images(n=40)
    rare = np.where(features.y == 2, "shared", features.groups)
    rare[:4] = "shared", "x", "other", "y"  # class c: two groups
    with pytest.raises(
        SlmlpError, match=r"class 'c' has images of 2 groups .* fewer than the 5 .* fewer --probe.folds"
    ):
        cross_validate(dataclasses.replace(features, groups=rare), SMALL)
    with pytest.raises(SlmlpError, match=r"--probe.folds must be at least 2, found 1"):
        cross_validate(features, dataclasses.replace(SMALL, folds=1))


def test_diverged_features_are_an_error():
    features = images()
    features.x[3, 0] = np.inf
    with pytest.raises(SlmlpError, match=r"NaN or infinite"):
        cross_validate(features, SMALL)


def test_global_random_state_is_untouched():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    cross_validate(images(n=80), SMALL)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
