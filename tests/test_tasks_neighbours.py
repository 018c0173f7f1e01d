"""Nearest neighbours and nearest class means.

The claims: the vote is that of a loop in float64 and of scikit-learn; blocks change nothing; ties are settled by id,
nearest voter, and not by the order of the images or by rounding; means are scikit-learn's; bad input is named.
"""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from slmlp import config
from slmlp.evaluation import tasks
from slmlp.evaluation.tasks import knn as knn_module
from slmlp.evaluation.tasks.centroid import centroid
from slmlp.evaluation.tasks.knn import knn
from slmlp.probes import nearest
from slmlp.probes.features import Features
from slmlp.runtime.errors import SlmlpError
from task_features import blobs


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def vote_by_loop(train: Features, test: Features, k: int, temperature: float) -> list[str]:
    """The vote as its docstring says it, one image at a time."""
    found = []
    for x in unit(test.x):
        cosines = np.round((unit(train.x) @ x) * 1e6) / 1e6
        near = sorted(range(len(train)), key=lambda i: (-cosines[i], train.ids[i]))[:k]
        votes: dict[int, float] = {}
        for i in near:
            weight = np.exp((cosines[i] - 1) / temperature) if temperature else 1.0
            votes[int(train.y[i])] = votes.get(int(train.y[i]), 0.0) + weight
        best = max(votes.values())
        found.append(next(train.classes[train.y[i]] for i in near if votes[int(train.y[i])] == best))
    return found


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (20, 0.0), (8, 0.0), (60, 1.0), (5, 0.003)])
def test_the_vote_is_that_of_a_loop(k, temperature):
    train, test = blobs(60, classes=5), blobs(150, classes=5, start=1000)
    [accuracy, by_class] = knn(train, test, config.Knn(k, temperature))
    assert accuracy.predictions.predictions.tolist() == vote_by_loop(train, test, k, temperature)
    assert accuracy.value == accuracy.predictions.correct.mean()
    shares = [accuracy.predictions.correct[test.y == c].mean() for c in range(5)]
    assert by_class.value == pytest.approx(np.mean(shares))
    assert (accuracy.n, by_class.predictions) == (150, None)
    assert accuracy.interval[0] < accuracy.value < accuracy.interval[1]


def test_the_vote_is_that_of_scikit_learn():
    train, test = blobs(300, d=16, classes=6), blobs(200, d=16, classes=6, start=1000)
    [accuracy, _] = knn(train, test, config.Knn(20, 0.07))
    other = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    predicted = other.fit(train.x.astype(np.float64), train.y).predict(test.x.astype(np.float64))
    assert accuracy.predictions.predictions.tolist() == [train.classes[p] for p in predicted]


def test_blocks_and_the_order_of_images_change_nothing(monkeypatch):
    train, test = blobs(90), blobs(70, start=1000)
    train.x[10:50] = train.x[10]  # forty equal images: the cut at k goes through them
    whole = knn(train, test, config.Knn(9, 0.0))[0].predictions.predictions
    monkeypatch.setattr(nearest, "ROWS", 7)
    monkeypatch.setattr(nearest, "QUERIES", 11)
    mixed = train.select(np.random.default_rng(3).permutation(90))
    assert knn(mixed, test, config.Knn(9, 0.0))[0].predictions.predictions.tolist() == whole.tolist()
    assert whole.tolist() == vote_by_loop(train, test, 9, 0.0)


def test_ties_go_to_the_earlier_id_and_to_the_class_of_the_nearest_voter():
    x = np.array([[1, 0], [1, 0], [1, 0.2], [0, 1]], dtype=np.float32)
    names = ("a", "b")

    def ask(ids, labels, k):
        train = Features(x, np.array(labels), names, np.array(ids), np.array(ids))
        test = Features(x[:2], np.array([0, 1]), names, np.array(["s", "t"]), np.array(["s", "t"]))
        return knn(train, test, config.Knn(k, 0.0))[0].predictions.predictions[0]

    assert ask(["p", "q", "r", "z"], [0, 1, 1, 0], 1) == "a"  # p and q are equally near
    assert ask(["q", "p", "r", "z"], [0, 1, 1, 0], 1) == "b"
    assert ask(["p", "q", "r", "z"], [1, 0, 0, 1], 4) == "b"  # two votes each: p stands first
    assert ask(["p", "q", "r", "z"], [1, 0, 0, 1], 3) == "a"


def test_a_small_temperature_is_the_nearest_alone():
    train, test = blobs(60), blobs(100, start=1000)
    hard, one = (knn(train, test, cfg)[0].predictions.predictions for cfg in (config.Knn(9, 1e-9), config.Knn(1)))
    assert hard.tolist() == one.tolist()


def test_features_without_length_and_huge_ones():
    train, test = blobs(40), blobs(40, start=1000)
    plain = knn(train, test, config.Knn(5))[0].value
    huge = [dataclasses.replace(part, x=part.x * np.float32(1e30)) for part in (train, test)]
    assert knn(*huge, config.Knn(5))[0].value == plain
    zeros = dataclasses.replace(test, x=np.zeros_like(test.x))
    first = train.classes[train.y[np.argsort(train.ids)[0]]]
    assert set(knn(train, zeros, config.Knn(1))[0].predictions.predictions.tolist()) == {first}


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_class_means_are_those_of_scikit_learn(distance, monkeypatch):
    train, test = blobs(120, classes=6), blobs(200, classes=6, start=1000)
    train = dataclasses.replace(train, x=train.x + 2)
    scaled = [unit(p.x) if distance == "cosine" else p.x.astype(np.float64) for p in (train, test)]
    means = np.stack([scaled[0][train.y == c].mean(0) for c in range(6)])
    if distance == "cosine":
        means = unit(means)
    expected = ((scaled[1][:, None] - means) ** 2).sum(-1).argmin(1)
    if distance == "euclidean":
        assert (NearestCentroid().fit(scaled[0], train.y).predict(scaled[1]) == expected).all()
    found = centroid(train, test, config.Centroid(distance))[0].predictions.predictions
    assert found.tolist() == [train.classes[p] for p in expected]
    monkeypatch.setattr("slmlp.evaluation.tasks.centroid.ROWS", 13)
    assert centroid(train, test, config.Centroid(distance))[0].predictions.predictions.tolist() == found.tolist()


def test_the_distances_differ_where_lengths_do():
    train = blobs(60, separation=2.0)
    long = dataclasses.replace(train, x=train.x * np.where(train.y == 0, 30, 1)[:, None].astype(np.float32))
    assert centroid(long, train, config.Centroid("cosine"))[0].value > 0.9
    assert centroid(long, train, config.Centroid("euclidean"))[0].value < 0.9


def both(train, test):
    return [lambda: knn(train, test, config.Knn(3)), lambda: centroid(train, test, config.Centroid())]


def test_bad_input_is_named():
    train, test = blobs(40), blobs(40, start=1000)
    with pytest.raises(SlmlpError, match=r"--knn\.neighbours is 41, and there are 40 training images"):
        knn(train, test, config.Knn(41))
    with pytest.raises(SlmlpError, match=r"--knn\.neighbours must be at least 1, found 0"):
        config.Knn(0)
    with pytest.raises(SlmlpError, match=r"--knn\.temperature must be 0 or above, found -1"):
        config.Knn(5, -1.0)
    with pytest.raises(SlmlpError, match="cosine or euclidean, found 'l1'"):
        centroid(train, test, config.Centroid("l1"))
    broken = dataclasses.replace(test, x=np.where(np.arange(40)[:, None] == 7, np.nan, test.x))
    cases = [
        (train.select(train.y != 2), test, "1 of 4 classes of the test images have no training image: c2"),
        (train.select(train.y == 2), test.select(test.y == 2), "all of class 'c2'"),
        (train, dataclasses.replace(test, classes=("a", "b", "c", "d")), "do not name the same classes"),
        (train, dataclasses.replace(test, x=test.x[:, :5]), "training features have 8 dimensions and test features 5"),
        (train, broken, f"features of the test images are NaN or infinite .first: image '{test.ids[7]}'"),
        (train, test.select(test.y > 9), "there are no test images"),
    ]
    for first, second, words in cases:
        for ask in both(first, second):
            with pytest.raises(SlmlpError, match=words):
                ask()


def test_every_task_of_the_registry_runs_by_its_name_and_names_its_settings():
    for name, task in config.TASKS.items():
        names = list(inspect.signature(tasks.runner(name)).parameters)
        assert names[0] == "inputs"
        assert len(names) == 1 + len(task.settings), name
        assert all(hasattr(config.TaskSettings(), s) or hasattr(config.Study(), s) for s in task.settings), name
    assert tasks.runner("knn") is knn_module.run
    with pytest.raises(SlmlpError, match="unknown task 'knm': did you mean 'knn'"):
        tasks.check_tasks(["knm"])


def test_nothing_is_drawn_from_global_random_state():
    train, test = blobs(40), blobs(40, start=1000)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    knn(train, test, config.Knn(3))
    centroid(train, test, config.Centroid())
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
