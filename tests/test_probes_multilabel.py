"""Images of several labels: each class gets scikit-learn's logistic regression, and mAP is what its name says.

The claims: average precision is scikit-learn's, its 11-point form that of a loop over the definition, the calibration
error that of a loop over bins; a fit is scikit-learn's of every class alone; the l2 is chosen by mAP inside the
training images; strata keep rare classes on both sides; bad input is named.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from slmlp import config
from slmlp.evaluation.tasks.linear import linear, multilabel
from slmlp.probes import multilabel as module
from slmlp.probes.linear import fit
from slmlp.probes.multilabel import MultiLabel, choose_l2, strata
from slmlp.results.metrics import average_precision, calibration_error
from slmlp.runtime.errors import SlmlpError
from test_probes_linear import as_features, blobs


def several(n: int = 400, d: int = 12, classes: int = 5, seed: int = 0) -> MultiLabel:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)).astype(np.float32)
    weight = np.random.default_rng(50).normal(size=(d, classes))
    y = x @ weight + random.normal(size=(n, classes)) * 2 > np.linspace(0, 5, classes)
    ids = np.array([f"i{k}" for k in range(n)])
    return MultiLabel(x, y, tuple(f"c{k}" for k in range(classes)), ids, ids)


def eleven(scores, on) -> float:
    """Mean over recall levels of the best precision among thresholds that reach it."""
    pairs = []
    for threshold in np.unique(scores):
        taken = scores >= threshold
        pairs.append((int((taken & on).sum()), (taken & on).sum() / taken.sum()))
    return float(np.mean([max(p for hits, p in pairs if hits * 10 >= level * on.sum()) for level in range(11)]))


@pytest.mark.parametrize("digits", [1, 6])  # with one digit many scores tie
def test_average_precision_is_that_of_scikit_learn_and_of_the_definition(digits):
    random = np.random.default_rng(digits)
    for share in (0.02, 0.3, 0.9):
        on = random.random(200) < share
        on[0] = True
        scores = np.round(random.normal(size=200) + on, digits)
        area, points = average_precision(scores, on)
        assert area == pytest.approx(average_precision_score(on, scores), abs=1e-12)
        assert points == pytest.approx(eleven(scores, on), abs=1e-12)
    assert np.isnan(average_precision(scores, on & False)).all()
    assert average_precision(np.full(10, -np.inf), np.arange(10) < 3) == (pytest.approx(0.3), pytest.approx(0.3))


def test_the_calibration_error_is_that_of_a_loop_over_bins():
    random = np.random.default_rng(0)
    confidence = np.concatenate([random.random(500), np.arange(16) / 15])
    correct = (random.random(516) < confidence**2).astype(float)
    expected = 0.0
    for m in range(15):
        mine = (confidence > m / 15) & (confidence <= (m + 1) / 15) | (confidence == 0) & (m == 0)
        if mine.any():
            expected += mine.mean() * abs(correct[mine].mean() - confidence[mine].mean())
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-12)
    assert calibration_error(np.ones(4), np.ones(4)) == 0.0
    assert calibration_error(np.ones(4), np.zeros(4)) == 1.0


@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_every_class_gets_the_logistic_regression_of_scikit_learn(l2):
    images = several()
    y = images.y.copy()
    y[:, 1] = False  # never there: no finite minimum, and no fit
    probe = fit(images.x, y, 5, l2, tolerance=1e-9, max_iterations=2000)
    assert probe.finished
    wide = images.x.astype(np.float64)
    scaled = (wide - wide.mean(0)) / wide.std(0)
    for k in (0, 2, 3, 4):
        alone = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=10_000).fit(scaled, y[:, k])
        np.testing.assert_allclose(probe.weight[k], alone.coef_[0], atol=1e-5 * np.abs(alone.coef_).max())
        np.testing.assert_allclose(probe.bias[k], alone.intercept_[0], rtol=1e-5, atol=1e-6)
    assert probe.bias[1] == -np.inf
    always = fit(images.x, y | (np.arange(5) == 3), 5, l2, tolerance=1e-6, max_iterations=2000)
    assert always.bias[3] == np.inf


def test_the_task_gives_both_means_and_what_pairs_them():
    train, test = several(seed=1), several(seed=2)
    scores = {score.metric: score for score in multilabel(train, test, config.Probe())}
    assert set(scores) == {"map", "map_11_point"}
    by_class = scores["map"].extra["average_precision"]
    l2 = scores["map"].extra["l2"][0]
    probe = fit(train.x, train.y, 5, l2, tolerance=1e-8, max_iterations=1000)
    for k, name in enumerate(test.classes):
        expected = average_precision_score(test.y[:, k], probe.decision(test.x)[:, k])
        assert by_class[name] == pytest.approx(expected, abs=1e-3)
    assert scores["map"].value == pytest.approx(np.mean(list(by_class.values())))
    assert scores["map"].n == 400
    assert scores["map"].extra["gradient_norm"] <= config.Probe().tolerance
    chance = np.mean([test.y[:, k].mean() for k in range(5)])
    assert scores["map"].value > chance + 0.1
    assert abs(scores["map"].value - scores["map_11_point"].value) < 0.1
    y = test.y.copy()
    y[:, 2] = False
    without = multilabel(train, dataclasses.replace(test, y=y), config.Probe())[0]
    assert without.extra["classes_without_test_images"] == ["c2"]
    assert without.value == pytest.approx(np.mean([v for k, v in by_class.items() if k != "c2"]))


def test_the_l2_is_the_best_in_map_of_the_inner_split(monkeypatch):
    import slmlp.data.splits.parts as parts

    images = several(n=150, d=60)
    groups = np.array([f"u{k // 3}" for k in range(150)])
    images = dataclasses.replace(images, groups=groups)
    seen = {}

    def spy(*words):
        seen["held"] = original(*words)
        return seen["held"]

    original = parts.stratified_holdout
    monkeypatch.setattr(parts, "stratified_holdout", spy)
    monkeypatch.setattr(module, "SCORES", 64)  # classes taken in turns
    choice = choose_l2(images, config.Probe(tolerance=1e-7))
    held = seen["held"]
    assert not set(groups[held]) & set(groups[~held])
    found = {}
    for l2 in choice.scores:
        probe = fit(images.x[~held], images.y[~held], 5, l2, tolerance=1e-8, max_iterations=3000)
        logits = probe.decision(images.x[held])
        there = [k for k in range(5) if images.y[held][:, k].any()]
        found[l2] = np.mean([average_precision_score(images.y[held][:, k], logits[:, k]) for k in there])
    assert choice.scores == pytest.approx(found, abs=5e-3)
    assert found[choice.l2] >= max(found.values()) - 5e-3
    assert choice.unfinished == 0


def test_strata_are_the_rarest_label_and_never_a_single_unit():
    on = np.zeros((9, 4), dtype=bool)
    on[:6, 0] = True
    on[4:8, 1] = True
    on[[5, 6], 2] = True
    on[7, 3] = True  # rarest of image 7, and alone
    groups = np.arange(9).astype(str)
    assert strata(on, groups).tolist() == [0, 0, 0, 0, 4, 2, 2, 4, 4]  # image 4 is alone with class 1, 7 with 3
    assert strata(on[:7], groups[:7]).tolist() == [
        0,
        0,
        0,
        0,
        0,
        2,
        2,
    ]  # image 4 alone is class 1, joined to the largest


def test_linear_gives_accuracy_class_accuracy_and_calibration():
    train, test = as_features(*blobs(400, 8, 4, separation=0.6, seed=1)), as_features(*blobs(300, 8, 4, seed=2))
    scores = {score.metric: score for score in linear(train, test, config.Probe())}
    assert list(scores) == ["accuracy", "mean_class_accuracy", "ece"]
    predictions = scores["accuracy"].predictions
    probe = fit(train.x, train.y, 4, scores["ece"].extra["l2"][0], tolerance=1e-8, max_iterations=1000)
    logits = probe.decision(test.x)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(predictions.confidence, p.max(1), atol=1e-3)
    assert scores["ece"].value == calibration_error(predictions.confidence, predictions.correct)
    assert scores["accuracy"].value == predictions.correct.mean()
    assert scores["accuracy"].interval[0] < scores["accuracy"].value < scores["accuracy"].interval[1]
    assert set(scores["accuracy"].extra) == {
        "l2", "at_grid_edge", "gradient_norm", "unfinished_fits", "constant_features",
    }  # fmt: skip


def test_constant_features_cost_nothing_and_are_counted():
    train, test = as_features(*blobs(200, 6, 3, seed=1)), as_features(*blobs(200, 6, 3, seed=2))
    plain = linear(train, test, config.Probe())
    dead = [
        dataclasses.replace(f, x=np.concatenate([f.x, np.full((200, 2), 3.0, dtype=np.float32)], 1))
        for f in (train, test)
    ]
    scores = linear(*dead, config.Probe())
    assert [s.extra["constant_features"] for s in (plain[0], scores[0])] == [0, 2]
    np.testing.assert_array_equal(scores[0].predictions.predictions, plain[0].predictions.predictions)


def test_bad_input_is_named():
    images = several(n=60)
    for change, words in (
        ({"y": images.y * 2}, r"matrix of 0 and 1, .* found 0 to 2"),
        ({"y": images.y * 0.5}, r"whole numbers.* found float64"),
        ({"x": np.where(np.arange(60)[:, None] == 3, np.nan, images.x)}, r"1 of .* NaN or infinite \(first: row 3\)"),
        ({"y": images.y & (np.arange(5) != 1)}, r"1 classes of the test images have no training image: c1"),
        ({"x": images.x[:, :7]}, r"same D, found shapes \(60, 7\) and \(60, 12\)"),
        ({"classes": tuple("vwxyz")}, r"different classes"),
        ({"groups": np.where(images.y[:, 4], "one", images.groups)}, r"class 'c4' has images of 1 group"),
    ):
        with pytest.raises(SlmlpError, match=words):
            multilabel(dataclasses.replace(images, **change), images, config.Probe())
    holed = np.where(np.arange(60)[:, None] == 3, np.inf, images.x)
    with pytest.raises(SlmlpError, match=r"1 of 60 images are NaN or infinite \(first: row 3\)"):
        multilabel(images, dataclasses.replace(images, x=holed), config.Probe())
    with pytest.raises(SlmlpError, match=r"no test image has a label"):
        multilabel(images, dataclasses.replace(images, y=images.y & False), config.Probe())


def test_files_round_trip_and_others_are_refused(tmp_path):
    images = several(n=30)
    np.savez(tmp_path / "f.npz", x=images.x, y=images.y.astype(np.int8), classes=np.array(images.classes))
    again = MultiLabel.load(tmp_path / "f.npz")
    np.testing.assert_array_equal(again.y, images.y)
    assert again.classes == images.classes
    for arrays, words in (
        ({"y": images.y[:, 0]}, r"y a 0/1 matrix"),
        ({"y": images.y * 2}, r"holds other values"),
        ({"classes": np.array(["a"])}, r"1 classes are named and y has 5 columns"),
    ):
        np.savez(tmp_path / "w.npz", **{"x": images.x, "y": images.y, **arrays})
        with pytest.raises(SlmlpError, match=words):
            MultiLabel.load(tmp_path / "w.npz")
