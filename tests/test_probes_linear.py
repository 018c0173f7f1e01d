"""The probe is the exact minimum it claims to be, chosen on training images only.

The claims: the gradient is that of the stated objective (finite differences); the minimum is scikit-learn's, also on
badly scaled, separable, unbalanced and fewer-images-than-features data; the start does not matter; a class without
images is never predicted; the l2 is chosen on an inner split that keeps groups whole, and a path that stops early
chooses what the whole path chooses; a weak final fit comes down the path; bad input is named.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from slmlp import config
from slmlp.probes import lbfgs, solver
from slmlp.probes.features import Features
from slmlp.probes.fitted import expressed, linear_fit
from slmlp.probes.lbfgs import evaluate as evaluate_objective
from slmlp.probes.linear import choose_l2, evaluate, fit
from slmlp.probes.path import FIRMLY, is_pinned
from slmlp.probes.solver import Design, minimise
from slmlp.runtime.errors import SlmlpError


def blobs(n: int, d: int, classes: int, *, separation: float = 1.0, seed: int = 0, shares=None):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, d)) * separation
    y = random.choice(classes, size=n, p=shares) if shares else np.arange(n) % classes
    mix = np.random.default_rng(98).normal(size=(d, d)) / np.sqrt(d)
    noise = random.normal(size=(n, d)) @ mix + random.normal(size=(n, d))
    return (centres[y] + noise).astype(np.float32), y.astype(np.int64)


def as_features(x, y, groups=None) -> Features:
    ids = np.array([f"i{k}" for k in range(len(y))])
    return Features(x, y, tuple(f"c{k}" for k in range(int(y.max()) + 1)), ids, ids if groups is None else groups)


def badly_scaled():
    x, y = blobs(300, 12, 4)
    return x * 10.0 ** np.linspace(-6, 6, 12, dtype=np.float32) + 3.0 * (np.arange(12) < 3), y


CASES = {
    "plain": (lambda: blobs(400, 10, 5), 1e-2),
    "weak": (lambda: blobs(400, 10, 5), 1e-5),
    "strong": (lambda: blobs(400, 10, 5), 10.0),
    "badly scaled": (badly_scaled, 1e-3),
    "separable": (lambda: blobs(120, 20, 3, separation=10.0), 1e-4),
    "unbalanced": (lambda: blobs(500, 8, 3, shares=[0.94, 0.05, 0.01]), 1e-3),
    "more features than images": (lambda: blobs(60, 150, 4), 1e-3),
    "two classes": (lambda: blobs(200, 6, 2, separation=0.5), 1e-3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_minimum_is_that_of_scikit_learn(case):
    make, l2 = CASES[case]
    x, y = make()
    probe = fit(x, y, int(y.max()) + 1, l2, tolerance=1e-9, max_iterations=5000)
    assert probe.finished
    assert probe.gradient_norm <= 1e-9

    wide = x.astype(np.float64)
    scaled = (wide - wide.mean(0)) / wide.std(0)
    reference = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=100_000).fit(scaled, y)
    weight, bias = reference.coef_, reference.intercept_
    if len(weight) == 1:  # scikit-learn's two-class model has one row w; as softmax rows +-w/2 its penalty is halved
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        reference = LogisticRegression(C=2 / (l2 * len(y)), tol=1e-10, max_iter=100_000).fit(scaled, y)
        weight = np.concatenate([-reference.coef_, reference.coef_]) / 2
        bias = np.concatenate([-reference.intercept_, reference.intercept_]) / 2

    ours = objective(scaled, y, probe.weight, probe.bias, l2)
    theirs = objective(scaled, y, weight, bias, l2)
    assert ours == pytest.approx(theirs, rel=1e-7)
    assert ours <= theirs * (1 + 1e-9)
    np.testing.assert_array_equal(probe.predict(x), reference.predict(scaled))
    np.testing.assert_allclose(probe.weight, weight, atol=1e-4 * np.abs(weight).max())


def objective(scaled, y, weight, bias, l2) -> float:
    logits = scaled @ weight.T + bias
    top = logits.max(1, keepdims=True)
    norms = (top + np.log(np.exp(logits - top).sum(1, keepdims=True)))[:, 0]
    return float((norms - logits[np.arange(len(y)), y]).mean() + l2 / 2 * (weight**2).sum())


def test_the_gradient_is_the_slope_of_the_objective():
    x, y = blobs(40, 5, 3)
    design = Design(x, y, 3)
    theta = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    penalty = torch.full((6,), 0.3, dtype=torch.float64)
    penalty[-1] = 0.0

    def at(theta):
        return evaluate_objective(design.double, design.loss, theta, penalty)

    gradient = at(theta).gradient
    for k in range(3):
        for j in range(6):
            step = torch.zeros_like(theta)
            step[k, j] = 1e-6
            slope = (at(theta + step).loss - at(theta - step).loss) / 2e-6
            assert slope == pytest.approx(float(gradient[k, j]), abs=1e-8)
    weight, bias = theta[:, :-1], theta[:, -1]
    scaled = (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    assert at(theta).loss == pytest.approx(objective(scaled, y, weight.numpy(), bias.numpy(), 0.3), rel=1e-9)
    assert lbfgs.largest(gradient) == pytest.approx(largest_entry(scaled, y, weight.numpy(), bias.numpy(), 0.3))


def largest_entry(scaled, y, weight, bias, l2) -> float:
    """The gradient on standardised features, image by image."""
    slope, offset = l2 * weight, np.zeros(len(bias))
    for s, k in zip(scaled, y, strict=True):
        p = np.exp(weight @ s + bias)
        p /= p.sum()
        p[k] -= 1
        slope = slope + np.outer(p, s) / len(y)
        offset = offset + p / len(y)
    return max(np.abs(slope).max(), np.abs(offset).max())


def test_float32_is_only_a_way_to_the_float64_minimum():
    x, y = blobs(2000, 30, 6, separation=0.3)
    loose = fit(x, y, 6, 1e-4, tolerance=1e-4, max_iterations=1000)
    tight = fit(x, y, 6, 1e-4, tolerance=1e-10, max_iterations=1000)
    assert 1e-10 < loose.gradient_norm <= 1e-4
    assert tight.gradient_norm <= 1e-10
    assert tight.iterations > loose.iterations


def test_the_start_does_not_matter():
    x, y = blobs(300, 10, 4)
    cold = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000)
    other = fit(x[:150] * 2 + 1, y[:150], 4, 1e-1, tolerance=1e-6, max_iterations=1000)
    warm = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000, start=other)
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-5)
    again = fit(x, y, 4, 1e-3, tolerance=1e-9, max_iterations=1000, start=cold)
    assert again.iterations <= 3 < cold.iterations / 4  # a start is used, and expressed in the right groups


def test_fits_of_one_design_do_not_share_arrays():
    x, y = blobs(100, 5, 3)
    design = Design(x, y, 4)
    first = linear_fit(design, minimise(design, 1e-1, tolerance=1e-6, max_iterations=100), 1e-1)
    before = first.bias.copy(), first.weight.copy()
    linear_fit(design, minimise(design, 1e-4, tolerance=1e-6, max_iterations=100), 1e-4)
    np.testing.assert_array_equal(first.bias, before[0])
    np.testing.assert_array_equal(first.weight, before[1])


def test_a_weak_fit_comes_down_the_path_and_ends_nearer_the_minimum():
    """Where the tolerance does not see the penalty, a fit from zero or from other images stops far from the minimum."""
    x, y = blobs(400, 60, 8, separation=0.35, seed=1)
    test, labels = blobs(2000, 60, 8, separation=0.35, seed=2)
    l2, limits = 1e-6, {"tolerance": 1e-4, "max_iterations": 1000}
    scaled = (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)

    def excess(probe):
        return objective(scaled, y, probe.weight, probe.bias, l2)

    exact = fit(x, y, 8, l2, tolerance=1e-10, max_iterations=20000)
    design = Design(x, y, 8)
    cold = linear_fit(design, minimise(design, l2, **limits), l2)
    inner = fit(x[:320], y[:320], 8, l2, **limits)
    other = fit(x, y, 8, l2, start=inner, **limits)
    down = fit(x, y, 8, l2, **limits)
    assert max(p.gradient_norm for p in (cold, other, down)) <= 1e-4
    assert excess(exact) < excess(down) < min(excess(cold), excess(other))
    share = {name: (p.predict(test) == labels).mean() for name, p in (("cold", cold), ("down", down), ("exact", exact))}
    assert share["down"] > share["cold"] + 0.02
    assert abs(share["down"] - share["exact"]) < 0.03
    firm = fit(x[:320], y[:320], 8, 1e-1, **limits)  # from there down, it is as good and takes fewer iterations
    assert is_pinned(1e-1, torch.from_numpy(firm.weight), 1e-4, FIRMLY)
    assert not is_pinned(l2, torch.from_numpy(down.weight), 1e-4)
    partly = fit(x, y, 8, l2, start=firm, **limits)
    assert excess(partly) < 1.5 * excess(down)
    assert abs((partly.predict(test) == labels).mean() - share["exact"]) < 0.03


def test_a_choice_offers_the_weakest_pinned_fit_of_the_path_as_a_start():
    x, y = blobs(400, 10, 3, shares=[0.9, 0.06, 0.04])  # a strong penalty predicts the first class alone
    groups = np.arange(400).astype(str)

    def start(*l2_values):
        choice = choose_l2(x, y, groups, 3, config.Probe(l2=l2_values, tolerance=1e-4), ("test",))
        return choice.l2, None if choice.start is None else choice.start.l2

    assert start(10.0, 0.03) == (0.03, 0.03)
    assert start(10.0, 1e-7) == (1e-7, 10.0)
    assert start(1e-7, 1e-8)[1] is None


def test_a_start_from_other_statistics_gives_the_same_logits():
    x, y = blobs(300, 10, 4)
    other = fit(x[:100] * 3 - 2, y[:100], 4, 1e-2, tolerance=1e-6, max_iterations=1000)
    design = Design(x, y, 4)
    ((_, logits),) = design.double.logits(expressed(design, other))
    np.testing.assert_allclose(logits.numpy(), other.decision(x), rtol=1e-6, atol=1e-6)


def test_features_that_do_not_vary_get_no_weight():
    x, y = blobs(200, 6, 3)
    dead = np.concatenate([x, np.zeros((200, 1)), np.full((200, 1), 0.1)], axis=1).astype(np.float32)
    with_dead = fit(dead, y, 3, 1e-3, tolerance=1e-10, max_iterations=1000)
    without = fit(x, y, 3, 1e-3, tolerance=1e-10, max_iterations=1000)
    assert (with_dead.weight[:, 6:] == 0).all()
    np.testing.assert_allclose(with_dead.weight[:, :6], without.weight, atol=1e-6)
    moved = dead.copy()
    moved[:, 6:] += 100.0
    np.testing.assert_array_equal(with_dead.predict(moved), with_dead.predict(dead))


def test_a_class_without_images_is_never_predicted():
    x, y = blobs(200, 6, 3)
    y = np.where(y == 1, 3, y)  # classes 0, 2, 3 of five
    probe = fit(x, y, 5, 1e-3, tolerance=1e-8, max_iterations=1000)
    assert probe.finished
    assert probe.weight.shape == (5, 6)
    assert set(probe.predict(x * 100)) <= {0, 2, 3}


def test_running_out_of_iterations_is_reported():
    x, y = blobs(200, 10, 4)
    probe = fit(x, y, 4, 1e-4, tolerance=1e-8, max_iterations=3)
    assert not probe.finished
    assert probe.iterations == 3
    assert probe.gradient_norm > 1e-8
    images = as_features(x, y)
    result = evaluate(images, images, config.Probe(tolerance=1e-8, max_iterations=3, l2=(1e-3, 1e-4)))
    assert result.unfinished == 1
    assert result.unfinished_sweep == 2


@pytest.mark.slow
@pytest.mark.parametrize("separation", [0.12, 0.3, 1.0])
def test_the_choice_is_the_best_of_the_whole_path(separation):
    """Early stop, warm starts and float32 choose what exact cold fits at every l2 choose."""
    from slmlp.data.splits.parts import stratified_holdout

    x, y = blobs(1500, 40, 5, separation=separation)
    groups = np.array([f"i{k}" for k in range(len(y))])
    cfg = config.Probe(tolerance=1e-5)
    choice = choose_l2(x, y, groups, 5, cfg, ("test",))
    held = stratified_holdout(y, groups, cfg.inner_fraction, cfg.seed, "test")
    accuracy = {}
    for l2 in cfg.l2:
        probe = fit(x[~held], y[~held], 5, l2, tolerance=1e-8, max_iterations=5000)
        accuracy[l2] = float((probe.predict(x[held]) == y[held]).mean())
    assert accuracy[choice.l2] >= max(accuracy.values()) - 1.01 / held.sum()
    for l2, score in choice.scores.items():
        assert score == pytest.approx(accuracy[l2], abs=2 / held.sum())
    assert choice.unfinished == 0


def test_a_path_ends_when_smaller_l2_are_clearly_worse():
    x, y = blobs(2000, 100, 5, separation=0.3, seed=3)
    y = np.where(np.random.default_rng(0).random(len(y)) < 0.4, np.roll(y, 1), y)  # wrong labels are learned last
    groups = np.array([f"i{k}" for k in range(len(y))])
    choice = choose_l2(x, y, groups, 5, config.Probe(inner_fraction=0.7), ("test",))
    assert 3 <= len(choice.scores) < len(config.Probe().l2)
    assert min(choice.scores) < choice.l2
    assert not choice.at_edge


def test_ties_go_to_the_lower_log_loss_and_the_edge_is_reported():
    x, y = blobs(200, 5, 2, separation=30.0)  # every l2 is right on every image
    groups = np.array([f"i{k}" for k in range(len(y))])
    choice = choose_l2(x, y, groups, 2, config.Probe(), ("test",))
    assert set(choice.scores.values()) == {1.0}
    assert choice.l2 < 1e-4  # the log-loss falls as the penalty does
    assert choice.at_edge == (choice.l2 == min(config.Probe().l2))
    assert choose_l2(x, y, groups, 2, config.Probe(l2=(1.0, 0.1)), ("test",)).at_edge
    assert not choose_l2(x, y, groups, 2, config.Probe(l2=(0.1,)), ("test",)).at_edge


def test_groups_do_not_cross_the_inner_split(monkeypatch):
    import slmlp.data.splits.parts as parts

    seen = {}

    def spy(labels, groups, fraction, seed, *words):
        seen["held"] = original(labels, groups, fraction, seed, *words)
        return seen["held"]

    original = parts.stratified_holdout
    monkeypatch.setattr(parts, "stratified_holdout", spy)
    x, y = blobs(240, 5, 3)
    groups = np.array([f"u{k // 12}" for k in range(240)])
    choose_l2(x, y, groups, 3, config.Probe(), ("test",))
    assert not set(groups[seen["held"]]) & set(groups[~seen["held"]])


def test_evaluate_reads_the_test_images_once_and_last():
    train = as_features(*blobs(400, 8, 4, separation=0.6, seed=1))
    test = as_features(*blobs(200, 8, 4, separation=0.6, seed=2))
    result = evaluate(train, test, config.Probe())
    shuffled = dataclasses.replace(test, y=np.roll(test.y, 1))
    other = evaluate(train, shuffled, config.Probe())
    assert other.l2 == result.l2
    np.testing.assert_array_equal(other.predictions.predictions, result.predictions.predictions)
    assert other.accuracy < result.accuracy
    assert result.n == 200
    assert result.accuracy == result.predictions.correct.mean()
    assert result.interval[0] < result.accuracy < result.interval[1]
    assert result.gradient_norms[0] <= config.Probe().tolerance
    assert (result.predictions.folds == 0).all()


def test_mean_class_accuracy_weighs_classes_not_images():
    x, y = blobs(300, 4, 3, shares=[0.9, 0.05, 0.05])
    images = as_features(x * 0 + np.random.default_rng(0).normal(size=x.shape).astype(np.float32), y)
    result = evaluate(images, images, config.Probe(l2=(10.0,)))
    assert (result.predictions.predictions == "c0").all()
    assert result.accuracy == (y == 0).mean()
    assert result.mean_class_accuracy == pytest.approx(1 / 3)


def test_bad_input_is_named():
    x, y = blobs(30, 4, 3)
    images = as_features(x, y)
    holed = x.copy()
    holed[7, 2] = np.nan
    with pytest.raises(SlmlpError, match=r"features of 1 of 30 images are NaN or infinite \(first: row 7\)"):
        fit(holed, y, 3, 1e-2, tolerance=1e-4, max_iterations=10)
    with pytest.raises(SlmlpError, match=r"labels must be 0 to 1, found 0 to 2"):
        fit(x, y, 2, 1e-2, tolerance=1e-4, max_iterations=10)
    with pytest.raises(SlmlpError, match=r"above 0"):
        fit(x, y, 3, 0.0, tolerance=1e-4, max_iterations=10)
    with pytest.raises(SlmlpError, match=r"two classes"):
        evaluate(as_features(x, y * 0), as_features(x, y * 0), config.Probe())
    with pytest.raises(SlmlpError, match=r"different classes"):
        evaluate(dataclasses.replace(images, classes=("a", "b", "c")), images, config.Probe())
    some = y != 1
    part = dataclasses.replace(images, x=x[some], y=y[some], ids=images.ids[some], groups=images.groups[some])
    with pytest.raises(SlmlpError, match=r"1 classes of the test images have no training image: c1"):
        evaluate(part, images, config.Probe())
    alone = np.array(["u0" if k == 1 else f"u{i}" for i, k in enumerate(y)])
    with pytest.raises(SlmlpError, match=r"class 'c1' has images of 1 group \(.*\), fewer than the 2"):
        evaluate(as_features(x, y, alone), images, config.Probe())


def test_minimise_goes_on_to_where_rounding_ends():
    x, y = blobs(100, 5, 3)
    solution = minimise(Design(x, y, 3), 1e-3, tolerance=0.0, max_iterations=300)
    assert not solution.finished
    assert solution.gradient_norm < 1e-12


def test_float32_that_cannot_get_there_is_left(monkeypatch):
    monkeypatch.setattr(solver, "FLOAT32_FLOOR", 1e-12)
    x, y = blobs(500, 20, 4)
    solution = minimise(Design(x, y, 4), 1e-3, tolerance=1e-10, max_iterations=400)
    assert solution.finished
    assert solution.iterations > solver.STALL


def test_the_features_handed_in_are_not_changed():
    for kind in (np.float32, np.float64):
        x, y = blobs(50, 5, 3)
        x = x.astype(kind)
        before = x.copy()
        fit(x, y, 3, 1e-2, tolerance=1e-6, max_iterations=100)
        np.testing.assert_array_equal(x, before)
