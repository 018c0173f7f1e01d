"""Measures against brute-force loops, closed forms, and the reference values of docs/measures.md."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slmlp.probes.measures.collapse import cdnv, class_separation, effective_rank, nc1
from slmlp.probes.measures.mixtureness import feature_mixtureness, mixtureness_ceilings, mixtureness_floor
from slmlp.probes.measures.ratio import class_distances, discriminative_ratio
from slmlp.probes.measures.redundancy import feature_redundancy, redundancy_baseline
from slmlp.runtime.errors import SlmlpError


def toy(n: int = 60, d: int = 7, classes: int = 4, seed: int = 0):
    random = np.random.default_rng(seed)
    y = np.sort(random.integers(0, classes, size=n))
    y[:classes] = np.arange(classes)  # every class, of unequal sizes
    return random.normal(size=(classes, d))[y] + random.normal(size=(n, d)) + 2.0, y.astype(np.int64)


def means_by_loop(x, y):
    return {j: sum(x[i] for i in range(len(y)) if y[i] == j) / (y == j).sum() for j in set(y.tolist())}


def ratio_by_loop(x, y):
    means = means_by_loop(x, y)
    c = len(means)
    inter = sum(((means[j] - means[k]) ** 2).sum() for j, k in itertools.permutations(means, 2)) / (c * (c - 1))
    intra = (
        sum(sum(((x[i] - means[j]) ** 2).sum() for i in range(len(y)) if y[i] == j) / (y == j).sum() for j in means) / c
    )
    return inter, intra


# discriminative ratio


def test_ratio_by_loops():
    x, y = toy()
    inter, intra = ratio_by_loop(x, y)
    found = class_distances(x, y)
    assert (found.inter, found.intra) == pytest.approx((inter, intra), rel=1e-12)
    assert discriminative_ratio(x, y) == pytest.approx(inter / intra, rel=1e-12)
    group = x / np.sqrt((x**2).sum(1))[:, None]
    inter, intra = ratio_by_loop(group, y)
    assert discriminative_ratio(x, y, l2=True) == pytest.approx(inter / intra, rel=1e-12)


def test_ratio_knows_no_scale_shift_or_label_names():
    x, y = toy()
    phi = discriminative_ratio(x, y)
    assert discriminative_ratio(3 * x - 100, y * 5 + 2) == pytest.approx(phi, rel=1e-9)
    scales = np.random.default_rng(0).uniform(0.1, 10, size=(len(y), 1))
    assert discriminative_ratio(x * scales, y) != pytest.approx(phi, rel=0.01)
    assert discriminative_ratio(x * scales, y, l2=True) == pytest.approx(discriminative_ratio(x, y, l2=True), rel=1e-9)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_ratio_is_biased_by_two_over_n_and_the_correction_takes_it_away(n):
    """Classes that do not differ at all: phi should be 0 and is 2 / (n - 1), which is about 2 / n."""
    random = np.random.default_rng(n)
    plain, corrected = [], []
    for _ in range(20):
        x, y = random.normal(size=(40 * n, 30)), np.repeat(np.arange(40), n)
        plain.append(discriminative_ratio(x, y))
        corrected.append(discriminative_ratio(x, y, corrected=True))
    assert np.mean(plain) == pytest.approx(2 / (n - 1), rel=0.03)
    assert abs(np.mean(corrected)) < 0.03 * 2 / n


def test_the_correction_finds_the_true_ratio():
    random = np.random.default_rng(1)
    centres = random.normal(size=(30, 20))
    truth = discriminative_ratio(centres, np.arange(30), corrected=False)
    assert truth == np.inf  # single images have no width
    inter = class_distances(centres, np.arange(30)).inter
    estimates = []
    for _ in range(30):
        y = np.repeat(np.arange(30), 6)
        estimates.append(discriminative_ratio(centres[y] + random.normal(size=(180, 20)), y, corrected=True))
    assert np.mean(estimates) == pytest.approx(inter / 20, rel=0.02)  # variance 1 in each of 20 directions


def test_ratio_of_collapsed_and_single_classes():
    x, y = np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4)
    assert discriminative_ratio(x, y) == np.inf
    assert np.isnan(discriminative_ratio(x * 0, y))
    assert np.isnan(discriminative_ratio(np.eye(3), np.arange(3), corrected=True))
    with pytest.raises(SlmlpError, match="at least two"):
        discriminative_ratio(x, y * 0)
    with pytest.raises(SlmlpError, match="found shapes"):
        discriminative_ratio(x[:5], y)


def test_mixture_identities():
    """An evaluation class that is a mixture of equidistant pretraining classes has the moments derived in the docs.

    Pretraining means on a simplex of squared distance D, variance v within each; class j takes counts of images from
    each vertex (so P_j is exact), and the noise is symmetric (so v is exact).
    """
    vertices, per_vertex, d_squared, v = 5, 12, 6.0, 0.9
    corner = np.sqrt(d_squared / 2) * np.eye(vertices)
    counts = np.random.default_rng(0).multinomial(
        per_vertex, np.ones(vertices) / vertices, size=4
    )  # (classes, vertices)
    x, y = [], []
    for j, row in enumerate(counts):
        for t, count in enumerate(row):
            for sign in (1, -1):
                x += [np.append(corner[t], sign * np.sqrt(v))] * count
                y += [j] * count
    found = class_distances(np.array(x), np.array(y))
    p = counts / per_vertex
    pairs = list(itertools.permutations(range(4), 2))
    spread = np.mean([((p[j] - p[k]) ** 2).sum() for j, k in pairs])
    purity = np.mean((p**2).sum(1))
    assert found.inter == pytest.approx(d_squared / 2 * spread)
    assert found.intra == pytest.approx(v + d_squared / 2 * (1 - purity))
    phi = d_squared / v
    assert found.inter / found.intra == pytest.approx(phi / 2 * spread / (1 + phi / 2 * (1 - purity)))


# mixtureness


def mixtureness_by_loop(pre, evaluated, k, distance):
    centres = np.concatenate([pre, evaluated])
    total = 0.0
    for i in range(len(centres)):
        others = []
        for j in range(len(centres)):
            if j != i:
                if distance == "cosine":
                    cosine = centres[i] @ centres[j] / np.linalg.norm(centres[i]) / np.linalg.norm(centres[j])
                    others.append((1 - cosine, j))
                else:
                    others.append((np.linalg.norm(centres[i] - centres[j]), j))
        near = [j for _, j in sorted(others)[:k]]
        total += abs(sum(j < len(pre) for j in near) / k - len(pre) / len(centres))
    return 1 - total / len(centres)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_mixtureness_by_loops(k, distance):
    random = np.random.default_rng(k)
    pre, evaluated = random.normal(size=(13, 5)) + 1, random.normal(size=(8, 5))
    assert feature_mixtureness(pre, evaluated, k, distance) == pytest.approx(
        mixtureness_by_loop(pre, evaluated, k, distance), abs=1e-12
    )


def test_mixtureness_floor_is_that_of_separated_sets():
    assert mixtureness_floor(642, 358, 10) == pytest.approx(0.540, abs=5e-4)
    assert mixtureness_floor(642, 358, 10) == pytest.approx(1 - 2 * 0.642 * 0.358)
    random = np.random.default_rng(0)
    for k in (3, 9, 15):  # 15: more neighbours than the smaller set has to give
        apart = random.normal(size=(20, 3)) + 1000, random.normal(size=(10, 3))
        assert feature_mixtureness(*apart, k, "euclidean") == pytest.approx(mixtureness_floor(20, 10, k), abs=1e-12)


@pytest.mark.parametrize(("k", "expected"), [(5, 0.82), (10, 0.88), (20, 0.91), (50, 0.95), (100, 0.96), (200, 0.98)])
def test_mixtureness_of_mixed_sets_is_the_reference_value(k, expected):
    random = np.random.default_rng(7)
    centres = random.normal(size=(1000, 128))
    assert feature_mixtureness(centres[:642], centres[642:], k) == pytest.approx(expected, abs=0.011)


def test_mixtureness_ceiling_is_the_mean_of_mixed_draws():
    random = np.random.default_rng(3)
    draws = []
    for _ in range(200):
        centres = random.normal(size=(60, 16))
        draws.append(feature_mixtureness(centres[:40], centres[40:], 5))
    assert mixtureness_ceilings(40, 20, 16, [5], seed=1) == pytest.approx([np.mean(draws)], abs=0.01)
    assert mixtureness_ceilings(40, 20, 16, [5], seed=1) == mixtureness_ceilings(40, 20, 16, [5], seed=1)
    assert mixtureness_ceilings(40, 20, 16, [5], seed=1) != mixtureness_ceilings(40, 20, 16, [5], seed=2)


def test_mixtureness_rises_from_floor_to_ceiling_as_sets_meet():
    random = np.random.default_rng(0)
    centres = random.normal(size=(90, 10))
    shift = np.eye(10)[0]
    values = [feature_mixtureness(centres[:60] + gap * shift, centres[60:], 10, "euclidean") for gap in (30, 4, 2, 0)]
    assert values[0] == pytest.approx(mixtureness_floor(60, 30, 10))
    assert values == sorted(values)
    ceiling, *_ = mixtureness_ceilings(60, 30, 10, [10], seed=0, distance="euclidean")
    assert values[-1] == pytest.approx(ceiling, abs=0.03)


def test_mixtureness_refuses_more_neighbours_than_there_are():
    with pytest.raises(SlmlpError, match="5 class centres takes 1 to 4 neighbours"):
        feature_mixtureness(np.eye(3), np.eye(3)[:2], 5)
    with pytest.raises(SlmlpError, match="neighbours"):
        feature_mixtureness(np.eye(3), np.eye(3)[:2], 0)


# redundancy


def test_redundancy_by_loops_and_numpy():
    x, _ = toy(50, 6)
    x[:, 3] = 0.5 * x[:, 1] + 0.1 * x[:, 3]
    total = 0.0
    for i in range(6):
        for j in range(6):
            a, b = x[:, i] - x[:, i].mean(), x[:, j] - x[:, j].mean()
            total += abs((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    found = feature_redundancy(x)
    assert found.value == pytest.approx(total / 36, rel=1e-12)
    assert found.value == pytest.approx(np.abs(np.corrcoef(x.T)).mean(), rel=1e-12)


def test_dead_channels_are_left_out_and_counted():
    x, _ = toy(50, 6)
    dead = np.concatenate([x, np.zeros((50, 2)), np.full((50, 1), 0.1)], axis=1).astype(np.float32)
    found = feature_redundancy(dead)
    assert (found.channels, found.dead) == (6, 3)
    assert found.value == pytest.approx(feature_redundancy(x).value, rel=1e-5)
    assert feature_redundancy(x * 0).dead == 6
    assert np.isnan(feature_redundancy(x * 0).value)


def test_redundancy_baseline_is_that_of_independent_channels():
    assert [redundancy_baseline(n, 2048) for n in (500, 2000, 18000)] == pytest.approx(
        [0.0362, 0.0183, 0.0064], abs=5e-5
    )
    random = np.random.default_rng(0)
    assert feature_redundancy(random.normal(size=(500, 300))).value == pytest.approx(
        redundancy_baseline(500, 300), rel=0.01
    )
    few = np.mean([feature_redundancy(random.normal(size=(400, 8))).value for _ in range(200)])
    assert few == pytest.approx(redundancy_baseline(400, 8), rel=0.01)


# other measures


def test_class_separation_by_loops():
    x, y = toy()
    group = x / np.linalg.norm(x, axis=1, keepdims=True)
    groups = [group[y == j] for j in range(4)]
    within = np.mean([np.mean([1 - a @ b for a in g for b in g]) for g in groups])
    overall = np.mean([np.mean([1 - a @ b for a in g for b in h]) for g in groups for h in groups])
    assert class_separation(x, y) == pytest.approx(1 - within / overall, rel=1e-10)
    assert class_separation(np.repeat(np.eye(3), 5, axis=0), np.repeat(np.arange(3), 5)) == pytest.approx(1.0)


def test_nc1_by_matrices():
    x, y = toy()
    means = np.stack([x[y == j].mean(0) for j in range(4)])
    between = np.cov(means.T, bias=True)
    within = np.mean([np.cov(x[y == j].T, bias=True) for j in range(4)], axis=0)
    assert nc1(x, y) == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4, rel=1e-8)
    assert nc1(np.repeat(np.eye(3), 5, axis=0), np.repeat(np.arange(3), 5)) == 0.0
    assert np.isnan(nc1(x * 0, y))


def test_cdnv_by_loops():
    x, y = toy()
    means = means_by_loop(x, y)
    widths = {j: np.mean([((a - means[j]) ** 2).sum() for a in x[y == j]]) for j in means}
    expected = np.mean(
        [(widths[j] + widths[k]) / 2 / ((means[j] - means[k]) ** 2).sum() for j, k in itertools.permutations(means, 2)]
    )
    assert cdnv(x, y) == pytest.approx(expected, rel=1e-10)


def test_effective_rank_counts_equal_directions():
    random = np.random.default_rng(0)
    for rank, n, d in ((3, 400, 20), (5, 30, 200)):
        left = np.linalg.qr(np.concatenate([np.ones((n, 1)), random.normal(size=(n, rank))], axis=1))[0][
            :, 1:
        ]  # mean 0
        right = np.linalg.qr(random.normal(size=(d, rank)))[0]
        assert effective_rank(7.0 + left @ right.T) == pytest.approx(rank, rel=1e-6)
    x, _ = toy(50, 6)
    spread = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = spread / spread.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


# all of them
