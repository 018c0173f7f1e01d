"""The mean over data sets and its intervals.

The claims: values, variances and degrees of freedom by hand; log-odds by hand, also at 0 and 1; one data set gives the
interval of its own comparison; the resampling is that of a slow loop over images; the intervals cover what they speak
of in simulated studies, and would not if seeds were drawn anew for each data set; results depend on the seed alone.
"""

from __future__ import annotations

import time
from math import log

import numpy as np
import pytest
from scipy import stats

from slmlp.results.comparison import PairedAccuracy, pair_accuracies
from slmlp.results.intervals import clustered_mean, crossed_mean
from slmlp.results.over_datasets import LOG_ODDS, POINTS, log_odds, mean_difference


def simulate(
    random, sets=6, seeds=5, n=200, per_group=1, draws=1, *, shift=0.02, between=0.03, common=0.02, apart=False
):
    """Paired sets, true differences of each; seeds share an effect on all sets unless ``apart`` names them anew."""
    lucky = common * random.normal(size=seeds)
    truth = shift + between * random.normal(size=sets)
    made = []
    for j in range(sets):
        groups = np.arange(n) // per_group
        easy = random.uniform(0.35, 0.65, size=n)[groups]
        taste = 0.1 * random.normal(size=n)[groups]
        chance = np.clip(easy + taste + truth[j] + lucky[:, None, None], 0, 1)
        a = (random.random((seeds, draws, n)) < easy).astype(float)
        b = (random.random((seeds, draws, n)) < chance).astype(float)
        names = tuple(range(j * seeds, j * seeds + seeds)) if apart else tuple(range(seeds))
        made.append((names, a, b, groups.astype(str)))
    return made, truth


def paired(name, seeds, a, b, groups) -> PairedAccuracy:
    return pair_accuracies(name, seeds, np.stack([a, b], axis=-1), groups)


def build(made) -> list[PairedAccuracy]:
    return [paired(f"set{j}", *one) for j, one in enumerate(made)]


def test_fixed_effects_in_closed_form():
    made, _ = simulate(np.random.default_rng(0), sets=4, seeds=3, per_group=2, draws=2)
    found = mean_difference(build(made), POINTS)
    d = [100 * (b - a) for _, a, b, _ in made]  # (S, R, N) of each set
    assert found.fixed.value == pytest.approx(np.mean([x.mean() for x in d]))
    of_seeds = np.mean([x.mean((1, 2)) for x in d], axis=0)  # a seed's mean over data sets
    parts = [(of_seeds.var(ddof=1) / 3, 2)]
    for x, (_, _, _, groups) in zip(d, made, strict=True):
        parts += [(x.mean((0, 2)).var(ddof=1) / 2 / 16, 1)]
        parts += [(clustered_mean(x.mean((0, 1)), groups).variance / 16, 99)]
    variance = sum(v for v, _ in parts)
    degrees = variance**2 / sum(v**2 / k for v, k in parts)
    assert found.fixed.standard_error == pytest.approx(np.sqrt(variance))
    assert found.fixed.degrees == pytest.approx(degrees)
    assert found.fixed.p == pytest.approx(2 * stats.t.sf(abs(found.fixed.value) / np.sqrt(variance), degrees))


def test_random_effects_in_closed_form():
    made, _ = simulate(np.random.default_rng(1), sets=5, seeds=1, between=0.1)
    found = mean_difference(build(made), POINTS)
    d = np.array([100 * (b - a).mean() for _, a, b, _ in made])
    # One seed: the scatter of the data sets holds all there is, so the interval is the t interval of the five values.
    assert found.random.standard_error == pytest.approx(d.std(ddof=1) / np.sqrt(5))
    assert found.random.degrees == 4
    assert found.random.standard_error > found.fixed.standard_error
    found = mean_difference(build(made[:1] * 4), POINTS)  # no scatter at all: never less than for these sets
    assert found.random.standard_error == pytest.approx(found.fixed.standard_error)


def test_one_data_set_is_its_own_comparison():
    for seeds, per_group, draws in ((5, 1, 1), (4, 2, 3), (1, 4, 1), (2, 1, 1)):
        [(names, a, b, groups)], _ = simulate(np.random.default_rng(3), 1, seeds, 400, per_group, draws)
        found = mean_difference([paired("x", names, a, b, groups)], POINTS, replicates=20_000)
        closed = crossed_mean(100 * (b - a), groups)
        assert found.random is None
        assert found.fixed.value == pytest.approx(closed.value)
        assert found.fixed.standard_error == pytest.approx(closed.standard_error)
        assert found.fixed.degrees == pytest.approx(closed.degrees)
        assert found.fixed.p == pytest.approx(closed.p)
        assert found.fixed.detectable == pytest.approx(closed.detectable)
        width = closed.interval[1] - closed.interval[0]
        assert found.fixed.interval == pytest.approx(closed.interval, abs=0.04 * width)


def resample_slowly(made, scale, times):
    """Resampled means over data sets, one image at a time, seeds and groups drawn by index."""
    random = np.random.default_rng(11)
    every = sorted({s for names, *_ in made for s in names})
    n, offsets = len(every), []
    for _ in range(times):
        drawn = [every[k] for k in random.integers(0, n, n)]
        weight = {s: drawn.count(s) - 1 + random.normal() / np.sqrt(n - 1) for s in every}
        differences = []
        for names, a, b, groups in made:
            distinct = sorted(set(groups.tolist()))
            again = [distinct[k] for k in random.integers(0, len(distinct), len(distinct))]
            rows = np.concatenate([np.flatnonzero(groups == g) for g in again])
            accuracies = []
            for right in (a, b):
                mean = right.mean()
                moved = mean + (right[:, :, rows].mean() - mean) * np.sqrt(len(distinct) / (len(distinct) - 1))
                own = len(names)
                for k, s in enumerate(names):
                    share = np.sqrt((n - 1) / (n * own * (own - 1))) if own > 1 else 0.0
                    moved += share * weight[s] * (right[k].mean() - mean)
                accuracies.append(scale.of(np.array([moved]), np.array([right.shape[2]]))[0])
            differences.append(accuracies[1] - accuracies[0])
        offsets.append(np.mean(differences))
    return np.array(offsets)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [POINTS, LOG_ODDS], ids=["points", "log-odds"])
def test_the_resampling_is_that_of_a_slow_loop(scale):
    made, _ = simulate(np.random.default_rng(4), sets=3, seeds=4, n=60, per_group=3, common=0.05)
    names, a, b, groups = made[1]
    made[1] = (names[:2], a[:2], b[:2], groups)  # a set that lacks two seeds
    fast = mean_difference(build(made), scale, replicates=20_000)
    slow = resample_slowly(made, scale, 1500)
    assert slow.mean() == pytest.approx(fast.fixed.value, abs=4 * slow.std() / np.sqrt(1500) + 0.02 * slow.std())
    assert slow.std() == pytest.approx(fast.fixed.standard_error, rel=0.08)
    widen = stats.t.ppf(0.975, fast.fixed.degrees) / stats.norm.ppf(0.975)
    expected = [fast.fixed.value + widen * (q - fast.fixed.value) for q in np.quantile(slow, [0.025, 0.975])]
    width = fast.fixed.interval[1] - fast.fixed.interval[0]
    assert fast.fixed.interval == pytest.approx(expected, abs=0.08 * width)


def test_log_odds_by_hand():
    p = np.array([0.5, 0.75, 0.2, 0.0, 1.0, 0.999])
    images = np.array([50.0, 50, 50, 50, 50, 50])
    expected = [0, log(3), log(0.25), log(0.01 / 0.99), log(0.99 / 0.01), log(0.99 / 0.01)]  # half an image of 50: 1 %
    np.testing.assert_allclose(log_odds(p, images), expected)
    right = np.zeros((2, 1, 20))
    right[:, :, :12] = 1
    better = right.copy()
    better[:, :, :15] = 1
    groups = np.arange(20).astype(str)
    sets = [paired("x", (0, 1), right, better, groups), paired("y", (0, 1), right, np.ones_like(right), groups)]
    value = mean_difference(sets, LOG_ODDS).fixed.value
    assert value == pytest.approx(np.mean([log(3) - log(1.5), log(19.5 / 0.5) - log(1.5)]))
    assert mean_difference(sets, POINTS).fixed.value == pytest.approx(100 * (0.15 + 0.4) / 2)


def test_log_odds_have_the_variance_of_the_delta_method():
    made, _ = simulate(np.random.default_rng(5), sets=3, seeds=1, n=2000)
    found = mean_difference(build(made), LOG_ODDS)
    variances = []
    for _, a, b, groups in made:
        pa, pb = a.mean(), b.mean()
        line = b[0, 0] / (pb * (1 - pb)) - a[0, 0] / (pa * (1 - pa))
        variances.append(clustered_mean(line, groups).variance / 9)
    assert found.fixed.standard_error == pytest.approx(np.sqrt(sum(variances)))


def coverage(times, scale=POINTS, **settings):
    fixed, random_effects, random = [], [], np.random.default_rng(2022)
    shift = settings.setdefault("shift", 0.02)
    for k in range(times):
        made, truth = simulate(random, **settings)
        found = mean_difference(build(made), scale, seed=k, replicates=500)
        low, high = found.fixed.interval
        fixed.append(low <= 100 * truth.mean() <= high)
        if found.random is not None:
            low, high = found.random.interval
            random_effects.append(low <= 100 * shift <= high)
    return np.mean(fixed), np.mean(random_effects)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"sets": 4}, {"sets": 4, "seeds": 1, "common": 0.0}, {"sets": 3, "seeds": 2, "per_group": 4}], ids=str
)
def test_the_intervals_cover_the_truth(settings):
    fixed, random_effects = coverage(100, n=100, **settings)
    assert fixed >= 0.91
    assert random_effects >= 0.91


@pytest.mark.slow
def test_seeds_drawn_anew_for_each_data_set_would_cover_too_little():
    settings = {"sets": 6, "n": 100, "common": 0.1, "between": 0.0}
    assert coverage(60, **settings)[0] >= 0.9
    assert coverage(60, apart=True, **settings)[0] < 0.85


def test_the_same_seed_gives_the_same_and_other_sets_do_not_disturb():
    made, _ = simulate(np.random.default_rng(6))
    sets = build(made)
    assert mean_difference(sets, POINTS) == mean_difference(sets, POINTS)
    assert mean_difference(sets, POINTS, seed=1).fixed.interval != mean_difference(sets, POINTS).fixed.interval
    assert mean_difference(sets[::-1], POINTS).fixed.interval == pytest.approx(
        mean_difference(sets, POINTS).fixed.interval
    )
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    mean_difference(sets, LOG_ODDS)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_no_difference_at_all_is_none():
    made, _ = simulate(np.random.default_rng(7), sets=3)
    same = build([(names, a, a, groups) for names, a, _, groups in made])
    for scale in (POINTS, LOG_ODDS):
        found = mean_difference(same, scale)
        for spread in (found.fixed, found.random):
            assert spread.interval == (0.0, 0.0)
            assert (found.fixed.value, spread.p, spread.standard_error) == (0.0, 1.0, 0.0)
            assert np.isfinite(spread.degrees)


def test_twelve_large_data_sets_take_seconds():
    random = np.random.default_rng(8)
    groups = np.arange(10_000).astype(str)
    right = [(random.random((5, 1, 10_000)) < p).astype(float) for p in (0.6, 0.62)]
    start = time.process_time()
    sets = [paired(f"set{j}", tuple(range(5)), *right, groups) for j in range(12)]
    mean_difference(sets, POINTS)
    mean_difference(sets, LOG_ODDS)
    assert time.process_time() - start < 10
