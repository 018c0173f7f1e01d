"""Verdicts over data sets say no more than they know.

The claims: single data sets are compared as a study compares them; Holm's corrections are over the family they name;
words follow the corrected numbers, name winners, sizes, what was not found, and what is missing; runs without a
partner are left out aloud, and one run stands for its method aloud; few-shot episodes and draws of labels work alike.
"""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from slmlp import config
from slmlp.evaluation.tasks.fewshot import fewshot
from slmlp.evaluation.tasks.label_efficiency import label_efficiency
from slmlp.results.comparison import compare as compare_paired
from slmlp.results.comparison import pair
from slmlp.results.intervals import holm
from slmlp.results.records import Predictions
from slmlp.results.sentences import sentence
from slmlp.results.verdict import judge_over_datasets
from slmlp.runtime.errors import SlmlpError
from task_features import blobs

SETS = ("dtd", "eurosat", "svhn")


def compare(a, b, pairs, data="data"):
    return compare_paired(a, b, "accuracy", pair(data, dict(enumerate(pairs))))


def rows(correct) -> Predictions:
    n = len(correct)
    ids = np.array([f"i{k}" for k in range(n)])
    predicted = np.where(np.asarray(correct, dtype=bool), "cat", "dog")
    return Predictions(ids, ids, np.full(n, "cat"), predicted, np.zeros(n, dtype=np.int64))


def method(shares, seeds=(0, 1, 2), n=1500, seed=0):
    """Data set -> seed -> predictions that are right with the set's share."""
    random = np.random.default_rng(seed)
    return {name: {s: rows(random.random(n) < share) for s in seeds} for name, share in zip(SETS, shares, strict=False)}


BASE = method((0.6, 0.7, 0.8))
BETTER = method((0.68, 0.77, 0.86), seed=1)
MIXED = method((0.7, 0.7, 0.7), seed=2)


def test_numbers_are_those_of_single_comparisons_corrected_together():
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": BETTER, "byol": MIXED}, "sl")
    assert [c.b for c in verdict.comparisons] == ["sl-mlp", "byol"]
    singles = []
    for c, runs in zip(verdict.comparisons, (BETTER, MIXED), strict=True):
        assert c.data == SETS
        for name, single in zip(SETS, c.sets, strict=True):
            alone = compare("sl", c.b, [(BASE[name][s], runs[name][s]) for s in range(3)], name)
            assert dataclasses.replace(alone, p_holm=single.p_holm, family=6) == single
            singles.append(single)
        assert c.difference == pytest.approx(np.mean([s.difference for s in c.sets]))
    np.testing.assert_allclose([s.p_holm for s in singles], holm(np.array([s.estimate.p for s in singles])))
    means = [c.estimate.p for c in verdict.comparisons]
    np.testing.assert_allclose([c.p_holm for c in verdict.comparisons], holm(np.array(means)))
    assert verdict == judge_over_datasets({"sl": BASE, "sl-mlp": BETTER, "byol": MIXED}, "sl")


def test_words_for_better_and_worse():
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": BETTER}, "sl")
    [c] = verdict.comparisons
    assert (c.winner, c.holds_for_random_effects) == ("sl-mlp", True)
    fixed, random, odds = c.estimate.interval, c.random_effects.interval, c.log_odds
    assert verdict.sentences[0] == (
        f"over 3 data sets SL-MLP beats SL by {c.difference:.1f} points on average (95 % CI {fixed[0]:.1f} to "
        f"{fixed[1]:.1f} for fixed effects, other seeds and images of these data sets, 3 seeds; {random[0]:.1f} to "
        f"{random[1]:.1f} for random effects over data sets), in mean log-odds +{odds.fixed.value:.2f} "
        f"({odds.fixed.interval[0]:.2f} to {odds.fixed.interval[1]:.2f}; {odds.random.interval[0]:.2f} to "
        f"{odds.random.interval[1]:.2f} for random effects); shown for random effects over data sets"
    )
    told = ", ".join(f"{name} (+{single.difference:.1f})" for name, single in zip(c.data, c.sets, strict=True))
    assert verdict.sentences[1] == (
        f"SL-MLP against SL, points by data set, Holm-corrected over 3 comparisons at 5 %: better on {told}"
    )
    assert len(verdict.sentences) == 2
    turned = judge_over_datasets({"sl-mlp": BETTER, "sl": BASE}, "sl-mlp")
    [back] = turned.comparisons
    assert back.winner == "sl-mlp"
    assert back.difference == pytest.approx(-c.difference)
    assert turned.sentences[0].startswith(f"over 3 data sets SL-MLP beats SL by {c.difference:.1f} points on average")
    assert f"in mean log-odds +{odds.fixed.value:.2f}" in turned.sentences[0]
    assert ": worse on dtd (-" in turned.sentences[1]


def test_a_mean_that_is_not_shown_elsewhere_is_not_oversold():
    verdict = judge_over_datasets({"sl": BASE, "mine": method((0.6, 0.7, 0.95), seed=3)}, "sl")
    [c] = verdict.comparisons
    assert c.winner == "mine"
    assert c.random_effects.interval[0] < 0
    assert not c.holds_for_random_effects
    assert verdict.sentences[0].endswith("; not shown for random effects over data sets")
    assert "better on svhn (+" in verdict.sentences[1]
    assert "; no difference found on dtd (" in verdict.sentences[1]
    assert ", minimum detectable difference (80 % power) " in verdict.sentences[1]


def test_no_difference_is_said_with_what_could_have_been_found():
    verdict = judge_over_datasets({"sl": BASE, "byol": MIXED}, "sl")
    [c] = verdict.comparisons
    assert c.winner is None
    assert verdict.sentences[0].startswith("over 3 data sets no difference found on average between BYOL and SL: ")
    assert verdict.sentences[0].endswith(
        f"; minimum detectable difference (80 % power) {c.estimate.detectable:.1f} points"
    )
    assert "better on dtd (+" in verdict.sentences[1]
    assert "; worse on svhn (-" in verdict.sentences[1]


def test_what_the_correction_takes_away_is_said():
    near = {"dtd": {0: rows(np.arange(1500) < 900)}, "svhn": {0: rows(np.arange(1500) < 900)}}
    many = {f"m{k}": {name: {0: rows(np.arange(1500) < 895 + k % 2)} for name in near} for k in range(20)}
    verdict = judge_over_datasets({"sl": near, **many}, "sl")
    [first, *_] = verdict.comparisons
    assert first.estimate.p < 0.05
    if first.p_holm >= 0.05:
        assert f"among 20 comparisons it does not (Holm-corrected p = {first.p_holm:.2g})" in verdict.sentences[0]
    single = first.sets[0]
    assert single.estimate.p < 0.05 <= single.p_holm
    assert "; alone it would have counted on dtd, svhn" in verdict.sentences[1]


def test_one_run_is_paired_with_each_and_said_so():
    timm = {name: {0: by_seed[2]} for name, by_seed in BASE.items()}
    verdict = judge_over_datasets({"timm:x": timm, "sl-mlp": BETTER}, "timm:x")
    [c] = verdict.comparisons
    assert c.one_run == "timm:x"
    single = compare("timm:x", "sl-mlp", [(timm["dtd"][0], BETTER["dtd"][s]) for s in range(3)])
    assert c.sets[0].difference == single.difference
    assert c.sets[0].seeds == 3
    assert verdict.sentences[-1] == (
        "timm:x has one run, which is paired with each run of SL-MLP: the intervals are for this one run of timm:x"
    )
    other = judge_over_datasets({"sl-mlp": BETTER, "timm:x": timm}, "sl-mlp")
    assert other.comparisons[0].difference == pytest.approx(-c.difference)
    both = judge_over_datasets({"random-init": {"dtd": {5: BASE["dtd"][0]}}, "timm:x": timm}, "random-init")
    assert both.comparisons[0].sets[0].seeds == 1
    assert "one seed" in sentence(both.comparisons[0].sets[0])
    assert not any("has one run" in s for s in both.sentences)


def test_what_only_one_has_and_what_is_missing_is_said():
    fewer = {name: dict(by_seed) for name, by_seed in BETTER.items() if name != "eurosat"}
    fewer["svhn"].pop(1)
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": fewer}, "sl", ["chestx", "isic"])
    [c] = verdict.comparisons
    assert c.data == ("dtd", "svhn")
    assert c.sets[1].seeds == 2
    assert "2-3 seeds" in verdict.sentences[0]
    assert verdict.sentences[2:] == (
        "eurosat left out of SL-MLP against SL: only SL has it",
        "seed 1 left out of SL-MLP against SL on svhn: only one of the two has it",
        "3 of 5 data sets: chestx, isic missing, and in no mean",
    )
    assert (verdict.data, verdict.missing) == (SETS, ("chestx", "isic"))
    other = {"dtd": BETTER["dtd"], "svhn": {7: BETTER["svhn"][0], 8: BETTER["svhn"][1]}}
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": other}, "sl")
    assert "svhn left out of SL-MLP against SL: they have no seed in common there" in verdict.sentences


def test_own_means_are_over_the_sets_that_all_have():
    fewer = {name: BETTER[name] for name in ("dtd", "svhn")}
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": fewer}, "sl")
    for mean, runs in zip(verdict.means.values(), (BASE, fewer), strict=True):
        assert mean.data == ("dtd", "svhn")
        own = [np.mean([r.correct for r in runs[name].values()]) for name in mean.data]
        assert mean.value == pytest.approx(np.mean(own))
        assert mean.log_odds == pytest.approx(np.mean([np.log(p / (1 - p)) for p in own]))


def test_one_data_set_has_no_mean_to_tell():
    verdict = judge_over_datasets({"sl": {"dtd": BASE["dtd"]}, "sl-mlp": {"dtd": BETTER["dtd"]}}, "sl")
    [only] = verdict.sentences
    assert re.match(r"on dtd SL-MLP beats SL by \d", only)
    assert verdict.comparisons[0].random_effects is None
    assert not verdict.comparisons[0].holds_for_random_effects


def test_one_data_set_has_one_interval():
    """Headline, forest plot and a study answer one question with one number, not with two estimators of it."""
    only = [{"dtd": runs["dtd"]} for runs in (BASE, BETTER)]
    [c] = judge_over_datasets(dict(zip(("sl", "sl-mlp"), only, strict=True)), "sl").comparisons
    alone = compare("sl", "sl-mlp", [(BASE["dtd"][s], BETTER["dtd"][s]) for s in range(3)], "dtd")
    assert c.estimate == c.sets[0].estimate == alone.estimate
    [several] = judge_over_datasets({"sl": BASE, "sl-mlp": BETTER}, "sl").comparisons
    assert several.estimate != several.sets[0].estimate


def test_a_verdict_is_plain_json():
    verdict = judge_over_datasets({"sl": BASE, "sl-mlp": BETTER}, "sl", ["isic"])
    text = json.dumps(verdict.to_json(), allow_nan=False)
    back = json.loads(text)
    assert [one["data"] for one in back["comparisons"][0]["sets"]] == [[name] for name in SETS]
    assert back["comparisons"][0]["random_effects"]["low"] > 0
    assert back["sentences"] == list(verdict.sentences)


def noisy(features, amount, seed):
    noise = np.random.default_rng(seed).normal(size=features.x.shape)
    return dataclasses.replace(features, x=(features.x + amount * noise).astype(np.float32))


def test_few_shot_episodes_are_the_groups():
    cfg = config.FewShot(ways=3, shots=3, queries=5, episodes=60)
    data = {name: blobs(150, classes=5, seed=k) for k, name in enumerate(("dtd", "svhn"))}
    runs = {
        name: {d: {s: fewshot(noisy(x, amount, s), cfg)[0].predictions for s in range(3)} for d, x in data.items()}
        for name, amount in (("sl", 2.0), ("sl-mlp", 0.3))
    }
    verdict = judge_over_datasets(runs, "sl")
    [c] = verdict.comparisons
    assert c.winner == "sl-mlp"
    assert (c.sets[0].groups, c.sets[0].images, c.sets[0].draws) == (60, 900, 1)
    assert "900 images in 60 groups" in sentence(c.sets[0])


def test_draws_of_labels_are_told_from_seeds():
    cfg, probe = config.LabelEfficiency((0.1,), draws=3), config.Probe(l2=(0.1,))
    runs = {"sl": {}, "sl-mlp": {}}
    for k, name in enumerate(("dtd", "svhn")):
        train, test = blobs(160, seed=k), blobs(200, seed=k, start=9000)
        for m, amount in (("sl", 2.0), ("sl-mlp", 0.1)):
            runs[m][name] = {
                s: label_efficiency(noisy(train, amount, s), noisy(test, amount, s + 9), cfg, probe)[0].predictions
                for s in (0, 1)
            }
    [c] = judge_over_datasets(runs, "sl").comparisons
    assert {(s.seeds, s.draws, s.images) for s in c.sets} == {(2, 3, 200)}
    d = [
        np.stack([(runs["sl-mlp"][n][s].correct - runs["sl"][n][s].correct).reshape(3, 200) for s in (0, 1)])
        for n in c.data
    ]
    of_draws = [100**2 * x.mean((0, 2)).var(ddof=1) / 3 / 4 for x in d]
    of_seeds = 100**2 * np.mean([x.mean((1, 2)) for x in d], axis=0).var(ddof=1) / 2
    of_images = [100**2 * x.mean((0, 1)).var(ddof=1) / 200 / 4 for x in d]
    assert c.estimate.standard_error == pytest.approx(np.sqrt(sum(of_draws) + of_seeds + sum(of_images)))


def test_bad_input_is_named():
    with pytest.raises(SlmlpError, match="unknown baseline 'sl-mpl'"):
        judge_over_datasets({"sl": BASE, "sl-mlp": BETTER}, "sl-mpl")
    with pytest.raises(SlmlpError, match="second method beside SL"):
        judge_over_datasets({"sl": BASE}, "sl")
    with pytest.raises(SlmlpError, match="no data set and seed has predictions of both SL and SL-MLP"):
        judge_over_datasets({"sl": {"dtd": BASE["dtd"]}, "sl-mlp": {"svhn": BETTER["svhn"]}}, "sl")
    short = {"dtd": {s: rows(np.ones(7)) for s in range(3)}}
    with pytest.raises(SlmlpError, match="dtd, SL-MLP against SL: runs cannot be paired: one predicts 1500 images"):
        judge_over_datasets({"sl": BASE, "sl-mlp": short}, "sl")
