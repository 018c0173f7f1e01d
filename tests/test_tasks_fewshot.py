"""Few-shot episodes.

The claims: every fit is scikit-learn's, also in its own span or not, and is as exact as it says; episodes depend on
seed, labels, ids and groups alone, never hold a group on both sides, and stand in the order of the seed; predictions
have the episode as group; global random state is untouched; what gives no episode is named.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from slmlp import config
from slmlp.evaluation.tasks import fewshot as module
from slmlp.evaluation.tasks.episodes import draw
from slmlp.evaluation.tasks.fewshot import fewshot
from slmlp.probes.features import Features
from slmlp.probes.many import fit_many
from slmlp.results.intervals import clustered_mean
from slmlp.results.records import Predictions
from slmlp.runtime.errors import SlmlpError
from task_features import blobs


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("n", "d", "classes", "c", "scale"),
    [(25, 64, 5, 1.0, 1), (25, 12, 5, 1.0, 1), (40, 20, 3, 1.0, 30), (6, 50, 3, 100.0, 1), (20, 20, 4, 1e-3, 5)],
)
def test_every_fit_is_that_of_scikit_learn(n, d, classes, c, scale):
    random = np.random.default_rng(0)
    y = np.stack([random.permutation(np.arange(n) % classes) for _ in range(6)])
    x = random.normal(size=(6, n, d)) + random.normal(size=(classes, d))[y]
    x = unit(x) * scale
    x[3, 1] = x[3, 0]  # not of full rank
    fits = fit_many(torch.from_numpy(x), torch.from_numpy(y), classes, c)
    assert float(fits.gradient_norm.max()) <= 1e-8
    for e in range(6):
        other = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x[e], y[e])
        np.testing.assert_allclose(fits.weight[e].numpy(), other.coef_, atol=2e-5 * max(c, scale))
        bias = other.intercept_ - other.intercept_.mean()
        np.testing.assert_allclose(fits.bias[e].numpy(), bias, atol=2e-5 * max(c, scale))


def test_the_gradient_is_what_it_says():
    random = np.random.default_rng(1)
    x, y = unit(random.normal(size=(3, 15, 30))), np.tile(np.arange(15) % 3, (3, 1))
    fits = fit_many(torch.from_numpy(x), torch.from_numpy(y), 3, tolerance=1e-3)
    for e in range(3):
        w, b = (value[e].clone().requires_grad_() for value in (fits.weight, fits.bias))
        loss = torch.nn.functional.cross_entropy(
            torch.from_numpy(x[e]) @ w.T + b, torch.from_numpy(y[e]), reduction="sum"
        )
        (loss + 0.5 * (w**2).sum()).backward()
        assert max(float(w.grad.abs().max()), float(b.grad.abs().max())) < 1e-2
        assert float(fits.gradient_norm[e]) <= 1e-3


def test_two_ways_are_scikit_learns_at_twice_c():
    random = np.random.default_rng(2)
    x, y = unit(random.normal(size=(1, 12, 20))), np.arange(12)[None] % 2
    fits = fit_many(torch.from_numpy(x), torch.from_numpy(y), 2)
    other = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(x[0], y[0])
    np.testing.assert_allclose((fits.weight[0, 1] - fits.weight[0, 0]).numpy(), other.coef_[0], atol=1e-5)


@pytest.mark.parametrize("d", [40, 9])
def test_predictions_are_those_of_a_loop_of_scikit_learn(d, monkeypatch):
    images = blobs(200, d=d, classes=8, separation=0.5)
    cfg = config.FewShot(ways=5, shots=3, queries=6, episodes=20)
    monkeypatch.setattr(module, "NUMBERS", 7 * 5 * 9 * d)  # seven episodes at once
    [score] = fewshot(images, cfg)
    episodes, right = draw(images, cfg), []
    for support, queries in zip(episodes.support, episodes.queries, strict=True):
        probe = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(unit(images.x[support]), images.y[support])
        right.append(probe.predict(unit(images.x[queries])) == images.y[queries])
    assert (score.predictions.correct.reshape(20, -1) == np.stack(right)).all()
    assert score.value == pytest.approx(np.mean(right))
    assert score.extra["gradient_norm"] <= 1e-8
    assert score.extra["unfinished_fits"] == 0


def test_the_nearest_mean_is_that_of_a_loop():
    images = blobs(120, classes=6, separation=0.5)
    cfg = config.FewShot(ways=4, shots=3, queries=5, episodes=15, classifier="centroid")
    rows = fewshot(images, cfg)[0].predictions
    episodes, found = draw(images, cfg), []
    for classes, support, queries in zip(episodes.classes, episodes.support, episodes.queries, strict=True):
        x = images.x.astype(np.float64)
        means = np.stack([x[[i for i in support if images.y[i] == c]].mean(0) for c in classes])
        found += [images.classes[classes[((x[q] - means) ** 2).sum(1).argmin()]] for q in queries]
    assert rows.predictions.tolist() == found


@pytest.mark.parametrize("per_group", [1, 4])
def test_episodes_have_their_sizes_and_no_group_on_both_sides(per_group):
    images = blobs(480, classes=6, per_group=per_group)
    cfg = config.FewShot(ways=3, shots=5, queries=15, episodes=40)
    episodes = draw(images, cfg)
    for classes, support, queries in zip(episodes.classes, episodes.support, episodes.queries, strict=True):
        assert len(set(classes.tolist())) == 3
        assert images.y[support].tolist() == np.repeat(classes, 5).tolist()
        assert images.y[queries].tolist() == np.repeat(classes, 15).tolist()
        assert len({*support.tolist(), *queries.tolist()}) == 60
        assert not set(images.groups[support].tolist()) & set(images.groups[queries].tolist())
    assert len(np.unique(episodes.classes, axis=0)) > 10


def test_groups_of_several_classes_are_on_one_side_of_an_episode():
    images = blobs(160, classes=4)
    patients = np.array([f"p{int(i[1:]) // 8}" for i in images.ids])  # two images of each class
    images = dataclasses.replace(images, groups=patients)
    episodes = draw(images, config.FewShot(ways=4, shots=3, queries=6, episodes=50))
    for support, queries in zip(episodes.support, episodes.queries, strict=True):
        assert not set(patients[support].tolist()) & set(patients[queries].tolist())


def test_a_few_large_groups_still_give_episodes():
    images = blobs(72, classes=2)
    groups = np.array([f"{y}-{k}" for y, k in zip(images.y, np.argsort(np.argsort(images.ids)) % 3, strict=True)])
    images = dataclasses.replace(images, groups=groups)
    episodes = draw(images, config.FewShot(ways=2, shots=5, queries=12, episodes=20))  # of 3 groups of 12
    assert episodes.queries.shape == (20, 24)


def test_every_image_may_be_drawn_as_often_as_another():
    images = blobs(40, classes=2)
    episodes = draw(images, config.FewShot(ways=2, shots=2, queries=3, episodes=2000))
    for part, expected in ((episodes.support, 200), (episodes.queries, 300)):
        counts = np.bincount(part.ravel(), minlength=40)
        assert abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_episodes_depend_on_the_seed_and_not_on_features_or_order():
    images = blobs(120, classes=6)
    cfg = config.FewShot(ways=3, shots=2, queries=4, episodes=10)
    first = images.ids[draw(images, cfg).queries]
    other = dataclasses.replace(images, x=np.random.default_rng(5).normal(size=(120, 3)).astype(np.float32))
    mixed = other.select(np.random.default_rng(6).permutation(120))
    assert (mixed.ids[draw(mixed, cfg).queries] == first).all()
    assert (images.ids[draw(images, dataclasses.replace(cfg, seed=1)).queries] != first).any()
    more = draw(images, dataclasses.replace(cfg, episodes=12))
    assert (images.ids[more.queries[:10]] == first).all()


def test_intervals_are_over_episodes_and_rows_pair():
    images = blobs(120, classes=6, separation=0.5)
    cfg = config.FewShot(ways=3, shots=2, queries=4, episodes=30)
    score = fewshot(images, cfg)[0]
    rows = score.predictions
    assert isinstance(rows, Predictions)
    assert rows.folds.tolist() == np.repeat(np.arange(30), 12).tolist()
    assert len(np.unique(rows.groups)) == 30
    assert (score.n, score.value) == (360, rows.correct.mean())
    means = rows.correct.reshape(30, 12).mean(1)
    assert score.interval == pytest.approx(clustered_mean(means, np.arange(30).astype(str)).interval)
    other = fewshot(blobs(120, classes=6, separation=0.1), cfg)[0].predictions  # same ids and labels in other rows
    assert (rows.ids == other.ids).all()
    assert (rows.labels == other.labels).all()


def test_global_random_state_is_untouched():
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    fewshot(blobs(60), config.FewShot(ways=2, shots=2, queries=2, episodes=3))
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_six_hundred_episodes_take_seconds():
    images = blobs(600, d=128, classes=10)
    start = time.process_time()
    fewshot(images, config.FewShot())
    assert time.process_time() - start < 20


def test_bad_input_is_named():
    images = blobs(80, classes=4)  # 20 images of each

    def ask(data: Features = images, **settings):
        return fewshot(data, config.FewShot(**{"ways": 3, "episodes": 2, **settings}))

    with pytest.raises(SlmlpError, match="5 ways asked for, the data have 4 classes: lower ways"):
        ask(ways=5)
    with pytest.raises(SlmlpError, match=r"class 'c0' has 20 images, too few for 6 shots and 15 .*4 such classes"):
        ask(shots=6)
    few = images.select((images.y != 2) | (np.cumsum(images.y == 2) <= 1))
    with pytest.raises(SlmlpError, match=r"class 'c2' has 1 image, too few for 5 shots and 15 .*1 such class\)"):
        ask(few)
    one = dataclasses.replace(images, groups=np.where(images.y == 1, "same", images.groups))
    with pytest.raises(SlmlpError, match="class 'c1' has 20 images of 1 group, too few for 5 shots"):
        ask(one)
    for name, value in (("ways", 1), ("shots", 0), ("queries", 0), ("episodes", 1)):
        with pytest.raises(SlmlpError, match=f"{name} must be at least"):
            ask(**{name: value})
    with pytest.raises(SlmlpError, match="logistic or centroid, found 'svm'"):
        ask(classifier="svm")
    with pytest.raises(SlmlpError, match="NaN"):
        ask(dataclasses.replace(images, x=images.x * np.float32(np.nan)))


def test_groups_that_leave_no_episode_are_named(monkeypatch):
    """Three classes share three patients in a ring: two sides cannot part each class's two patients."""
    monkeypatch.setattr("slmlp.evaluation.tasks.episodes.ATTEMPTS", 30)
    images = blobs(60, classes=3)
    half = np.array([int(i[1:]) // 3 % 2 for i in images.ids])
    ring = dataclasses.replace(
        images, groups=np.array([f"p{(y + h) % 3}" for y, h in zip(images.y, half, strict=True)])
    )
    assert len(draw(ring, config.FewShot(ways=2, shots=3, queries=3, episodes=5)).queries) == 5
    with pytest.raises(SlmlpError, match=r"30 draws gave no episode .*3 groups have images of several classes"):
        draw(ring, config.FewShot(ways=3, shots=3, queries=3, episodes=5))
