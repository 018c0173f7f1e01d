"""A verdict says no more than the study knows.

The claims: differences, variances and degrees of freedom by hand; the 95 % interval covers about 95 % of simulated
studies with seed, group and image effects, and the stated smallest difference is found in about 80 %; images that
cannot be paired are named; words follow the Holm-corrected p-value and nothing else.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from slmlp.config.names import display
from slmlp.results.comparison import Comparison, mean_of, pair
from slmlp.results.comparison import compare as compare_paired
from slmlp.results.intervals import Estimate, clustered_mean, crossed_mean, holm, share_interval
from slmlp.results.records import Predictions
from slmlp.results.sentences import sentence
from slmlp.results.verdict import judge
from slmlp.runtime.errors import SlmlpError


def rows(correct, groups=None) -> Predictions:
    """Predictions that are right where ``correct`` (N,) is true."""
    n = len(correct)
    ids = np.array([f"i{k}" for k in range(n)])
    groups = ids if groups is None else np.array([f"u{u}" for u in groups])
    predicted = np.where(np.asarray(correct, dtype=bool), "cat", "dog")
    return Predictions(ids, groups, np.full(n, "cat"), predicted, np.zeros(n, dtype=np.int64))


def compare(a: str, b: str, pairs) -> Comparison:
    """Compare over pairs of predictions, one per seed."""
    return compare_paired(a, b, "accuracy", pair("data", dict(enumerate(pairs))))


def told(c: Comparison, value: float, p: float, p_holm: float, family: int = 1) -> Comparison:
    """Return the comparison with another value and p-values."""
    variance = (value / stats.t.ppf(1 - p / 2, 10)) ** 2
    return dataclasses.replace(c, estimate=Estimate(value, variance, 10), p_holm=p_holm, family=family)


def study(share_a: float, share_b: float, n: int = 400, seeds: int = 5, seed: int = 0):
    random = np.random.default_rng(seed)
    return [(rows(random.random(n) < share_a), rows(random.random(n) < share_b)) for _ in range(seeds)]


def test_one_seed_is_a_paired_t_test_over_images():
    [(a, b)] = study(0.5, 0.6, seeds=1)
    found = compare("sl", "sl-mlp", [(a, b)])
    test = stats.ttest_rel(b.correct, a.correct)
    interval = test.confidence_interval(0.95)
    assert found.difference == pytest.approx(100 * (b.correct - a.correct).mean())
    assert found.estimate.p == pytest.approx(test.pvalue)
    assert found.estimate.interval == pytest.approx((100 * interval.low, 100 * interval.high))
    assert found.estimate.degrees == 399
    assert "over images only, one seed" in sentence(found)


def test_groups_of_one_image_and_copies_of_groups():
    values = np.random.default_rng(0).normal(size=50)
    names = np.arange(50).astype(str)
    single = clustered_mean(values, names)
    assert single.variance == pytest.approx(values.var(ddof=1) / 50)
    copied = clustered_mean(np.repeat(values, 7), np.repeat(names, 7))
    assert copied.variance == pytest.approx(single.variance)  # copies add nothing
    assert clustered_mean(np.repeat(values, 7), np.arange(350).astype(str)).variance < single.variance / 5


def test_unequal_groups_by_a_loop():
    random = np.random.default_rng(1)
    groups = random.integers(0, 12, size=80)
    values = random.normal(size=80) + groups
    total = 0.0
    for group in set(groups.tolist()):
        total += sum(values[i] - values.mean() for i in range(80) if groups[i] == group) ** 2
    count = len(set(groups.tolist()))
    assert clustered_mean(values, groups.astype(str)).variance == pytest.approx(
        total / 80**2 * count / (count - 1), rel=1e-12
    )


def test_seed_and_image_variance_add_with_welch_satterthwaite():
    pairs = study(0.5, 0.55, n=60, seeds=4)
    groups = np.arange(60) // 3
    pairs = [(rows(a.correct, groups), rows(b.correct, groups)) for a, b in pairs]
    found = compare("sl", "sl-mlp", pairs)
    d = np.stack([b.correct - a.correct for a, b in pairs])
    seed_part = d.mean(1).var(ddof=1) / 4
    image_part = clustered_mean(d.mean(0), groups.astype(str)).variance
    se = np.sqrt(seed_part + image_part)
    degrees = se**4 / (seed_part**2 / 3 + image_part**2 / 19)
    assert found.estimate.standard_error == pytest.approx(100 * se)
    assert found.estimate.degrees == pytest.approx(degrees)
    assert found.estimate.interval == pytest.approx(
        tuple(100 * (d.mean() + s * stats.t.ppf(0.975, degrees) * se) for s in (-1, 1))
    )
    assert found.estimate.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / se, degrees))
    assert found.estimate.detectable == pytest.approx(
        100 * se * (stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees))
    )
    assert found.per_seed == pytest.approx(tuple(100 * d.mean(1)))
    assert (found.seeds, found.images, found.groups) == (4, 60, 20)


def simulate(studies: int, seeds: int, groups: int, per_group: int, shift: float = 0.0, seed_effect: float = 0.02):
    """Yield (values (S, N), groups (N,)) of paired differences with seed, group, image and residual effects."""
    random = np.random.default_rng(2022)
    names = np.repeat(np.arange(groups), per_group)
    for _ in range(studies):
        values = (
            shift
            + seed_effect * random.normal(size=(seeds, 1))
            + 0.15 * random.normal(size=groups)[names]
            + 0.25 * random.normal(size=groups * per_group)
            + 0.4 * random.normal(size=(seeds, groups * per_group))
        )
        yield values, names.astype(str)


@pytest.mark.parametrize(("seeds", "groups", "per_group"), [(5, 200, 1), (5, 60, 5), (3, 60, 5), (10, 40, 3)])
def test_the_interval_covers_the_truth(seeds, groups, per_group):
    covered = []
    for values, names in simulate(400, seeds, groups, per_group, shift=0.03):
        low, high = crossed_mean(values, names).interval
        covered.append(low <= 0.03 <= high)
    assert 0.93 <= np.mean(covered) <= 0.99


def test_leaving_out_seeds_or_groups_covers_too_little():
    """The simulation can tell: either source of variance alone is not enough."""
    images_only, seeds_only, no_groups = [], [], []
    for values, names in simulate(400, 5, 60, 5, seed_effect=0.04):
        low, high = clustered_mean(values.mean(0), names).interval
        images_only.append(low <= 0 <= high)
        low, high = clustered_mean(values.mean(1), np.arange(5).astype(str)).interval
        seeds_only.append(low <= 0 <= high)
        low, high = clustered_mean(values.mean(0), np.arange(300).astype(str)).interval
        no_groups.append(low <= 0 <= high)
    assert np.mean(images_only) < 0.93
    assert np.mean(seeds_only) < 0.9
    assert np.mean(no_groups) < 0.85


def test_right_or_wrong_predictions_find_nothing_where_nothing_is():
    """Two exchangeable methods over binary outcomes: a winner is declared in about 5 % of studies."""
    random = np.random.default_rng(5)
    groups = np.arange(150) // 3
    winners = 0
    for _ in range(300):
        easy = random.normal(size=150)
        taste = 0.7 * random.normal(size=(2, 50))[:, groups]
        pairs = []
        for _ in range(4):
            luck = 0.15 * random.normal(size=2)
            a, b = ((easy + taste[m] + luck[m] + random.normal(size=150)) > 0 for m in (0, 1))
            pairs.append((rows(a, groups), rows(b, groups)))
        winners += compare("sl", "sl-mlp", pairs).winner is not None
    assert 1 <= winners <= 25  # 15 expected at exactly 5 %


def test_the_detectable_difference_is_found_in_four_of_five_studies():
    size = np.mean([crossed_mean(v, u).detectable for v, u in simulate(200, 5, 60, 5)])
    found = np.mean([crossed_mean(v, u).p < 0.05 for v, u in simulate(400, 5, 60, 5, shift=size)])
    assert 0.73 <= found <= 0.93


def test_words_for_better_worse_and_undecided():
    better = compare("sl", "sl-mlp", study(0.5, 0.6, n=2000))
    assert better.winner == "sl-mlp"
    low, high = (f"{v:.1f}" for v in better.estimate.interval)
    assert sentence(better) == (
        f"SL-MLP beats SL by {better.difference:.1f} points (95 % CI {low} to {high}, 5 seeds, 2,000 images)"
    )
    worse = compare("sl", "sl-mlp", [(b, a) for a, b in study(0.5, 0.6, n=2000)])
    assert worse.winner == "sl"
    assert sentence(worse) == sentence(better).replace("SL-MLP beats SL", "SL beats SL-MLP")
    assert worse.difference == -better.difference
    undecided = compare("sl", "sl-mlp", study(0.5, 0.5))
    assert undecided.winner is None
    assert sentence(undecided).startswith("no difference found between SL-MLP and SL: ")
    assert sentence(undecided).endswith(
        f"; minimum detectable difference (80 % power) {undecided.estimate.detectable:.1f} points"
    )


def test_groups_are_told_where_they_are_not_images():
    found = compare(
        "a",
        "b",
        [(rows(a.correct, np.arange(400) // 4), rows(b.correct, np.arange(400) // 4)) for a, b in study(0.5, 0.5)],
    )
    assert "400 images in 100 groups" in sentence(found)


def test_rounding_does_not_hide_the_side_of_zero():
    base = compare("sl", "sl-mlp", study(0.5, 0.6))
    near = dataclasses.replace(base, estimate=Estimate(0.9, 0.2, 10, (0.012, 1.79)), p_holm=0.04)
    assert "95 % CI 0.01 to 1.8" in sentence(near)
    none = dataclasses.replace(base, estimate=Estimate(-0.0, 0.25, 10, (-1.0, 1.0)), p_holm=1.0)
    assert "SL: +0.0 points (95 % CI -1.0 to 1.0" in sentence(none)


def test_identical_predictions_are_no_difference():
    same = [(a, a) for a, _ in study(0.5, 0.5)]
    found = compare("sl", "sl-mlp", same)
    assert (found.difference, found.estimate.p, found.winner, found.estimate.detectable) == (0.0, 1.0, None, 0.0)
    assert sentence(found) == "no difference found between SL-MLP and SL: equal on every image and seed"


def test_several_methods_are_corrected_together():
    random = np.random.default_rng(3)
    base = {s: rows(random.random(3000) < 0.5) for s in range(4)}
    runs = {"sl": base, "good": {}, "same": {}, "bad": {}}
    for s in range(4):
        right = base[s].correct.astype(bool)
        runs["good"][s] = rows(right | (random.random(3000) < 0.1))
        runs["same"][s] = rows(right ^ (random.random(3000) < 0.02))
        runs["bad"][s] = rows(right & (random.random(3000) < 0.9))
    verdict = judge(runs, "sl")
    by_name = {c.b: c for c in verdict.comparisons}
    assert [c.b for c in verdict.comparisons] == ["good", "same", "bad"]
    assert [by_name[m].winner for m in ("good", "same", "bad")] == ["good", None, "sl"]
    assert all(c.family == 3 for c in verdict.comparisons)
    np.testing.assert_allclose(
        [c.p_holm for c in verdict.comparisons], holm(np.array([c.estimate.p for c in verdict.comparisons]))
    )
    assert verdict.sentences[0].startswith(
        "taken together (3 comparisons, Holm-corrected at 5 %): good beats SL; bad loses to SL; "
        "same could not be told from SL"
    )
    assert len(verdict.sentences) == 4


def test_a_headline_of_many_contenders_counts_them():
    random = np.random.default_rng(4)
    base = {s: rows(random.random(800) < 0.5) for s in range(3)}
    level = {f"v{k}": {s: rows(base[s].correct.astype(bool) ^ (random.random(800) < 0.02)) for s in range(3)}
             for k in range(7)}  # fmt: skip
    first = judge({"sl": base, **level}, "sl").sentences[0]
    assert "none of 7 contenders could be told from SL" in first
    assert not any(name in first for name in level)
    better = {s: rows(base[s].correct.astype(bool) | (random.random(800) < 0.3)) for s in range(3)}
    first = judge({"sl": base, "good": better, **level}, "sl").sentences[0]
    assert "good beats SL; 7 others could not be told from SL" in first


def test_a_difference_that_the_correction_takes_away_is_said_so():
    base = compare("sl", "sl-mlp", study(0.5, 0.6))
    lost = told(base, 5.0, 0.03, 0.09, 3)
    assert lost.winner is None
    assert lost.changed_by_correction
    assert sentence(lost).startswith("no difference found between SL-MLP and SL")
    assert "p = 0.03), among 3 comparisons it does not (Holm-corrected p = 0.09)" in sentence(lost)
    kept = told(base, 5.0, 0.01, 0.03, 3)
    assert kept.winner == "sl-mlp"
    assert not kept.changed_by_correction


def test_holm_is_never_below_p_nor_above_bonferroni():
    p = np.random.default_rng(0).random(20) ** 3
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(20 * p, 1)).all()
    assert adjusted[p.argmin()] == 20 * p.min()
    np.testing.assert_array_equal(np.argsort(adjusted, kind="stable")[:2], np.argsort(p)[:2])


def test_only_shared_seeds_are_compared_and_the_rest_is_told():
    pairs = study(0.5, 0.6, seeds=4)
    runs = {"sl": {s: pairs[s][0] for s in (0, 1, 2)}, "sl-mlp": {s: pairs[s][1] for s in (1, 2, 3)}}
    verdict = judge(runs, "sl")
    assert verdict.comparisons[0].estimate == compare("sl", "sl-mlp", pairs[1:3]).estimate
    assert verdict.sentences[1].startswith("seeds 0, 3 left out of SL-MLP against SL")
    runs |= {"byol": runs["sl-mlp"], "simclr": {2: pairs[2][1]}}
    assert judge(runs, "sl").sentences[4:] == (
        "seeds 0, 3 left out of SL-MLP, BYOL against SL: only one of the two has them",
        "seeds 0, 1 left out of SimCLR against SL: only one of the two has them",
    )
    with pytest.raises(SlmlpError, match="no seed has predictions of both SL and SL-MLP"):
        judge({"sl": {0: pairs[0][0]}, "sl-mlp": {1: pairs[1][1]}}, "sl")


def test_what_cannot_be_paired_is_named():
    a, b = study(0.5, 0.5, seeds=1)[0]
    with pytest.raises(SlmlpError, match="one predicts 400 images, another 399"):
        compare("sl", "sl-mlp", [(a, rows(b.correct[1:]))])
    for field, kind in (("ids", "image"), ("labels", "label"), ("groups", "group")):
        changed = getattr(b, field).astype("U8").copy()
        changed[7] = "other"
        other = dataclasses.replace(b, **{field: changed})
        with pytest.raises(SlmlpError, match=rf"the {kind} differs in 1 of 400 rows, first in row 7 \(image 'i7'\)"):
            compare("sl", "sl-mlp", [(a, other)])
        with pytest.raises(SlmlpError, match=rf"the {kind} differs"):
            compare("sl", "sl-mlp", [(a, b), (other, other)])
    one = np.zeros(400)
    with pytest.raises(SlmlpError, match="400 images of one group"):
        compare("sl", "sl-mlp", [(rows(a.correct, one), rows(b.correct, one))])
    with pytest.raises(SlmlpError, match="unknown baseline 'sl-mpl'"):
        judge({"sl": {0: a}, "sl-mlp": {0: b}}, "sl-mpl")
    with pytest.raises(SlmlpError, match="second method"):
        judge({"sl": {0: a}}, "sl")


def test_a_comparison_survives_json():
    pairs = study(0.5, 0.6)
    runs = {name: {s: pairs[s][side] for s in range(5)} for side, name in enumerate(("sl", "sl-mlp"))}
    verdict = judge(runs, "sl")
    found, back = verdict.comparisons[0], json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert back["sentences"] == [sentence(found)]
    (c,) = back["comparisons"]
    assert (c["low"], c["high"]) == found.estimate.interval
    assert (c["difference"], c["p"], c["detectable"]) == (found.difference, found.estimate.p, found.estimate.detectable)
    assert (c["per_seed"], c["p_holm"], c["winner"]) == (list(found.per_seed), found.p_holm, found.winner)
    assert back["means"]["sl"]["value"] == pytest.approx(100 * mean_of(list(runs["sl"].values())).estimate.value)
    assert back["means"]["sl"]["low"] < back["means"]["sl"]["value"] < back["means"]["sl"]["high"]


def test_a_method_alone_has_an_interval_over_seeds_and_images():
    runs = [a for a, _ in study(0.7, 0.7)]
    found = mean_of(runs).estimate
    values = np.stack([r.correct for r in runs])
    assert found.value == pytest.approx(values.mean())
    assert found.interval == crossed_mean(values, runs[0].groups).interval
    assert mean_of(runs[:1]).estimate.interval == share_interval(runs[0].correct, runs[0].groups)
    assert mean_of([rows(np.arange(40) > 0)]).estimate.share_interval[1] == 1.0


def test_display_names():
    assert [display(n) for n in ("sl", "sl-mlp", "supcon", "my-own")] == ["SL", "SL-MLP", "SupCon", "my-own"]
    assert display("sl-mlp:projector.depth=2") == "SL-MLP (projector.depth=2)"
    assert display("byol:projector.depth=0:seeds=1:training.epochs=9") == "BYOL (projector.depth=0, training.epochs=9)"
