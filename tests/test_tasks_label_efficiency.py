"""Accuracy over the number of labels.

The claims: draws are nested, stratified and those of the seed; every point is the probe of a study on those
images; a point with all images is the linear probe itself; one image per class takes the fixed l2 and says so;
predictions pair, draw by draw, and intervals cover draws and images; bad input is named.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from slmlp import config
from slmlp.evaluation.tasks import label_efficiency as module
from slmlp.evaluation.tasks.label_efficiency import label_efficiency, rank
from slmlp.probes.linear import evaluate, train_probe
from slmlp.results.comparison import compare, mean_of, pair
from slmlp.results.intervals import clustered_mean, crossed_mean
from slmlp.results.sentences import sentence
from slmlp.runtime.errors import SlmlpError
from task_features import blobs

PROBE = config.Probe(l2=(1e-3, 1e-2, 1e-1, 1.0))


def parts(n: int = 200, **settings):
    return blobs(n, separation=0.6, **settings), blobs(120, separation=0.6, start=5000)


def test_draws_are_nested_stratified_and_differ():
    train, _ = parts()
    drawn = [rank(train, 0, draw) for draw in range(3)]
    for ranks in drawn:
        for c in range(4):
            assert sorted(ranks[train.y == c].tolist()) == list(range(50))
    assert len({tuple(train.ids[ranks == 0].tolist()) for ranks in drawn}) == 3
    mixed = train.select(np.random.default_rng(8).permutation(200))
    again = dict(zip(mixed.ids.tolist(), rank(mixed, 0, 1).tolist(), strict=True))
    assert again == dict(zip(train.ids.tolist(), drawn[1].tolist(), strict=True))
    assert (rank(train, 1, 0) != drawn[0]).any()


def test_every_point_trains_on_the_images_of_the_smaller_ones(monkeypatch):
    train, test = parts()
    seen = {}

    def spy(images, cfg, words, **settings):
        seen[words[1:]] = images
        return train_probe(images, cfg, words, **settings)

    monkeypatch.setattr(module, "train_probe", spy)
    scores = label_efficiency(train, test, config.LabelEfficiency((0.06, 0.3), (8, 1, 500), draws=2), PROBE)
    names = ["6_percent", "30_percent", "8_shots", "1_shots", "500_shots"]
    assert [s.metric for s in scores] == [f"accuracy_at_{name}" for name in names]
    sizes = {"1_shots": 1, "6_percent": 3, "8_shots": 8, "30_percent": 15}
    for draw in range(2):
        held = [seen[name, draw] for name in sizes]
        for images, size in zip(held, sizes.values(), strict=True):
            assert np.bincount(images.y).tolist() == [size] * 4
        for less, more in itertools.pairwise(held):
            assert set(less.ids.tolist()) < set(more.ids.tolist())
    assert [s.extra["training_images"] for s in scores] == [12, 60, 32, 4, 200]


def test_a_point_is_the_probe_of_the_main_job_on_its_images():
    train, test = parts()
    [score] = label_efficiency(train, test, config.LabelEfficiency((0.2,), draws=3), PROBE)
    values, l2_values = [], []
    for draw in range(3):
        images = train.select(rank(train, 0, draw) < 10)
        probe, choice = train_probe(images, PROBE, ("labels", "20_percent", draw))
        values.append(probe.predict(test.x) == test.y)
        l2_values.append(choice.l2)
    values = np.array(values, dtype=float)
    assert (score.predictions.correct.reshape(3, -1) == values).all()
    assert score.value == pytest.approx(values.mean())
    assert score.interval == pytest.approx(crossed_mean(values, test.groups).interval)
    assert score.extra["l2"] == l2_values
    assert score.extra["l2_rules"] == ["chosen"] * 3
    assert (score.n, score.extra["draws"]) == (120, 3)
    assert score.predictions.ids.tolist() == test.ids.tolist() * 3
    assert score.predictions.folds.tolist() == np.repeat([0, 1, 2], 120).tolist()


def test_all_images_are_the_linear_probe_and_one_draw():
    train, test = parts(80)
    for cfg in (config.LabelEfficiency((1.0,)), config.LabelEfficiency((), (64,))):
        [score] = label_efficiency(train, test, cfg, PROBE)
        linear = evaluate(train, test, PROBE)
        assert score.predictions.predictions.tolist() == linear.predictions.predictions.tolist()
        assert score.extra["l2"] == list(linear.l2)
        assert score.extra["draws"] == 1
        assert score.interval == pytest.approx(linear.interval)


def test_one_image_per_class_takes_the_fixed_l2_and_says_so():
    train, test = parts()
    [score] = label_efficiency(train, test, config.LabelEfficiency((), (1,), draws=2), PROBE)
    assert score.extra["l2"] == [module.FIXED] * 2
    assert score.extra["l2_rules"] == ["fixed"] * 2
    assert score.value > 0.3  # chance is 0.25
    given = dataclasses.replace(PROBE, l2=(0.5,))
    [score] = label_efficiency(train, test, config.LabelEfficiency((), (1,), draws=1), given)
    assert (score.extra["l2"], score.extra["l2_rules"]) == ([0.5], ["given"])


def test_few_classes_of_one_group_take_no_part_in_the_choice():
    train, test = parts()
    rare = train.select((train.y != 3) | (np.cumsum(train.y == 3) <= 1))
    [score] = label_efficiency(rare, test, config.LabelEfficiency((0.3,), draws=1), PROBE)
    assert score.extra["l2_rules"] == ["chosen without 1 classes of one group"]
    images = rare.select(rank(rare, 0, 0) < np.array([15, 15, 15, 1])[rare.y])
    _, choice = train_probe(images.select(images.y != 3), PROBE, ("labels", "30_percent", 0))
    assert score.extra["l2"] == [choice.l2]
    probe, _ = train_probe(images, dataclasses.replace(PROBE, l2=(choice.l2,)), ("any",))
    assert (score.predictions.correct == (probe.predict(test.x) == test.y)).all()
    assert np.isfinite(probe.bias[3])  # the class of one image was trained on
    one_group = dataclasses.replace(train, groups=np.where(train.y < 3, "same", train.groups))
    assert label_efficiency(one_group, test, config.LabelEfficiency((1.0,)), PROBE)[0].extra["l2_rules"] == ["fixed"]


def test_draws_pair_and_their_variance_is_in_the_comparison():
    train, test = parts()
    worse = [dataclasses.replace(p, x=p.x + 2 * np.random.default_rng(3).normal(size=p.x.shape)) for p in (train, test)]
    cfg = config.LabelEfficiency((0.04,), draws=4)
    a, b = label_efficiency(*worse, cfg, PROBE)[0].predictions, label_efficiency(train, test, cfg, PROBE)[0].predictions
    found = compare("sl", "sl-mlp", "accuracy", pair("data", {0: (a, b)}))
    d = (b.correct - a.correct).reshape(4, 120)
    expected = crossed_mean(d, test.groups)  # one seed: draws and images
    assert (found.draws, found.images, found.seeds) == (4, 120, 1)
    assert found.estimate.standard_error == pytest.approx(100 * expected.standard_error)
    assert found.estimate.interval == pytest.approx(tuple(100 * v for v in expected.interval))
    assert found.estimate.standard_error > 100 * np.sqrt(clustered_mean(d.mean(0), test.groups).variance)
    assert "one seed, 4 draws of the training images, 120 images" in sentence(found)
    assert mean_of([a]).images == 120
    three = compare("sl", "sl-mlp", "accuracy", pair("data", {0: (a, b), 1: (b, a), 2: (a, b)}))
    values = np.stack([d, -d, d])
    by_seed, by_draw = values.mean((1, 2)).var(ddof=1) / 3, values.mean((0, 2)).var(ddof=1) / 4
    images = clustered_mean(values.mean((0, 1)), test.groups).variance
    assert three.estimate.standard_error == pytest.approx(100 * np.sqrt(by_seed + by_draw + images))
    assert "3 seeds, 4 draws" in sentence(three)


def test_global_random_state_is_untouched():
    train, test = parts(40)
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    label_efficiency(train, test, config.LabelEfficiency((0.5,), draws=1), dataclasses.replace(PROBE, l2=(0.1,)))
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_bad_input_is_named():
    train, test = parts(40)
    cases = [
        ({"fractions": ()}, "neither --label-efficiency.fractions nor --label-efficiency.shots"),
        ({"fractions": (0.1, 1.5)}, r"fractions must be above 0 and at most 1 \(0.1 is 10 %\), found 1.5"),
        ({"fractions": (0.0,)}, "found 0"),
        ({"fractions": (), "shots": (3, 0)}, "shots must be at least 1, found 0"),
        ({"draws": 0}, "draws must be at least 1, found 0"),
    ]
    for changes, words in cases:
        with pytest.raises(SlmlpError, match=words):
            config.LabelEfficiency(**changes)
    with pytest.raises(SlmlpError, match="classes of the test images have no training image: c1"):
        label_efficiency(train.select(train.y != 1), test, config.LabelEfficiency(), PROBE)
