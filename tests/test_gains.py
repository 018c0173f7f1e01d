"""What an MLP gains one method more than another: the difference of two differences, against other forms of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slmlp.results.gains import compare_gains
from slmlp.results.records import Predictions
from slmlp.results.sentences import gained, switched
from slmlp.results.verdict import compare_all

NAMES = ("sl", "sl-mlp", "cosine", "cosine-mlp")
PAIRS = (("sl", "sl-mlp"), ("cosine", "cosine-mlp"))


def rows(correct, groups) -> Predictions:
    n = len(correct)
    names = np.array([f"g{g:04d}" for g in groups])
    predicted = np.where(correct, "cat", "dog")
    return Predictions(
        np.array([f"i{k}" for k in range(n)]), names, np.full(n, "cat"), predicted, np.zeros(n, dtype=int)
    )


def drawn(shares, n=300, seeds=1, groups=None, seed=0, spread=0.0):
    """Draw runs of the four contenders; ``spread`` is of each run's own share."""
    random = np.random.default_rng(seed)
    groups = np.arange(n) if groups is None else groups
    hard = random.normal(size=groups.max() + 1)[groups]  # images, and groups of them, that all find hard
    return {
        name: {s: rows(random.random(n) < share + 0.1 * hard + spread * random.normal(), groups) for s in range(seeds)}
        for name, share in zip(NAMES, shares, strict=True)
    }


def test_one_seed_is_a_paired_t_test_of_the_changes():
    runs = drawn((0.4, 0.45, 0.35, 0.5))
    a, b, c, d = (runs[name][0].correct.astype(float) for name in NAMES)
    [found] = compare_gains(runs, PAIRS)
    test = stats.ttest_rel(d - c, b - a)
    interval = test.confidence_interval(0.95)
    assert found.difference == pytest.approx(100 * ((d - c) - (b - a)).mean())
    assert found.estimate.p == pytest.approx(test.pvalue)
    assert found.estimate.interval == pytest.approx((100 * interval.low, 100 * interval.high))
    assert (found.a, found.b, found.seeds, found.images, found.groups) == ("sl", "cosine", 1, 300, 300)


def test_groups_and_seeds_by_a_loop():
    groups = np.repeat(np.arange(60), 5)
    runs = drawn((0.4, 0.45, 0.35, 0.5), seeds=3, groups=groups, spread=0.05)
    [found] = compare_gains(runs, PAIRS)
    more = np.zeros((3, 300))
    for s in range(3):
        for sign, name in zip((1, -1, -1, 1), NAMES, strict=True):
            more[s] += sign * runs[name][s].correct
    mean, by_image = more.mean(), more.mean(axis=0)
    images = sum((by_image[groups == g] - mean).sum() ** 2 for g in range(60)) / 300**2 * 60 / 59
    assert found.estimate.value == pytest.approx(100 * mean)
    assert found.estimate.variance == pytest.approx(1e4 * (images + more.mean(axis=1).var(ddof=1) / 3))
    assert found.per_seed == pytest.approx(100 * more.mean(axis=1))


def test_gains_that_are_alike_are_seldom_called_different_and_others_are():
    alike = [compare_gains(drawn((0.4, 0.5, 0.3, 0.4), n=200, seeds=3, seed=k), PAIRS)[0] for k in range(300)]
    assert np.mean([c.winner is not None for c in alike]) < 0.08
    other = [compare_gains(drawn((0.4, 0.4, 0.3, 0.55), n=200, seeds=3, seed=k), PAIRS)[0] for k in range(50)]
    assert np.mean([c.winner == "cosine" for c in other]) > 0.9
    assert "more than SL" in gained(other[0])


def test_several_pairs_are_corrected_together_and_need_a_common_seed():
    runs = drawn((0.4, 0.45, 0.35, 0.5)) | {"x": {7: None}, "x-mlp": {7: None}}
    again = {f"{name}2": by_seed for name, by_seed in runs.items()}
    pairs = [*PAIRS, ("x", "x-mlp"), ("cosine2", "cosine-mlp2")]
    first, second = compare_gains(runs | again, pairs)
    assert first.p_holm == second.p_holm == pytest.approx(min(1, 2 * first.estimate.p))
    assert first.family == 2


def test_two_projectors_of_one_method_are_no_two_methods():
    runs = drawn((0.4, 0.45, 0.35, 0.5))
    pairs = [("sl", "sl-mlp"), ("sl", "cosine-mlp")]
    assert compare_gains(runs, pairs) == ()
    assert compare_gains(runs, PAIRS[:1]) == compare_gains(runs, []) == ()
    assert [(c.a, c.b) for c in compare_gains(runs | {"x": runs["sl"]}, [*pairs, PAIRS[1], ("x", "sl-mlp")])] == [
        ("cosine", "x")
    ]
    means = {"sl": 0.384, "sl-mlp": 0.4, "cosine-mlp": 0.5}
    told = switched(compare_all(runs, pairs), means)
    assert "38.4 % to 40.0 %" in told  # each with its own numbers
    assert "38.4 % to 50.0 %" in told
