"""Novelty: source test images told from unseen images.

Claims: AUROC is scikit-learn's, FPR95 a count without sorting; weights are images repeated; the bootstrap's standard
error is DeLong's, of one encoder and of a difference, and for FPR95 a loop's; distance and energy are their formulas;
fewer images than neighbours are said; a lower FPR95 wins; bad input is named.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from slmlp import config
from slmlp.cli import main
from slmlp.evaluation.tasks.novelty import novelty
from slmlp.probes.linear import train_probe
from slmlp.results import records
from slmlp.results.comparison import PairedBootstrap, compare
from slmlp.results.intervals import bootstrap_mean
from slmlp.results.metrics import bootstrap, bootstrap_interval, novelty_rates
from slmlp.results.records import Scores
from slmlp.results.verdict import judge
from slmlp.runtime.errors import SlmlpError
from task_features import blobs

PROBE = config.Probe(l2=(1e-2, 1e-1))


def drawn(n=700, m=500, apart=1.2, seed=0, digits=9, per_group=1):
    """Scores of m known and n new images by two encoders that agree in part."""
    random = np.random.default_rng(seed)
    on = np.arange(m + n) >= m
    groups = np.arange(m + n) // per_group
    shared = random.normal(size=groups.max() + 1)[groups]
    values = [np.round(shared + random.normal(size=m + n) + better * on, digits) for better in (apart, apart + 0.2)]
    ids = np.array([f"{i:05d}" for i in range(m + n)])
    names = np.array([f"g{g:05d}" for g in groups])
    return [Scores(ids, names, ("unseen",), on[:, None], v[:, None].astype(np.float32)) for v in values]


def rates(rows):
    return [float(rate[0]) for rate in novelty_rates(rows.scores[:, 0], rows.on[:, 0], np.ones((1, len(rows.ids))))]


def fpr95_by_count(scores, on):
    """The share of new images at or below the least score that accepts 95 % of the known: no sorting."""
    known, new = scores[~on], scores[on]
    accepting = [t for t in known if (known <= t).sum() * 20 >= 19 * len(known)]
    return (new <= min(accepting)).mean()


def placements(rows):
    """DeLong's structural components: of each known image, and of each new one."""
    known, new = rows.scores[~rows.on[:, 0], 0], rows.scores[rows.on[:, 0], 0]
    wins = (new[None] > known[:, None]) + 0.5 * (new[None] == known[:, None])
    return wins.mean(axis=1), wins.mean(axis=0)


@pytest.mark.parametrize("digits", [9, 0])  # 0: most scores are ties
@pytest.mark.parametrize(("n", "m"), [(300, 200), (37, 19), (5, 61)])
def test_rates_are_those_of_scikit_learn_and_of_a_count(n, m, digits):
    for rows in drawn(n, m, digits=digits):
        auroc, fpr95 = rates(rows)
        assert auroc == pytest.approx(roc_auc_score(rows.on[:, 0], rows.scores[:, 0]), abs=1e-12)
        assert fpr95 == pytest.approx(fpr95_by_count(rows.scores[:, 0], rows.on[:, 0]), abs=1e-12)
        assert auroc == pytest.approx(placements(rows)[0].mean())


def test_weights_are_images_repeated():
    rows = drawn(30, 20, digits=1)[0]
    weights = np.random.default_rng(3).integers(0, 4, (6, 50))
    found = novelty_rates(rows.scores[:, 0], rows.on[:, 0], weights.astype(float))
    for i, counts in enumerate(weights):
        scores, on = np.repeat(rows.scores[:, 0], counts), np.repeat(rows.on[:, 0], counts)
        assert found[0][i] == pytest.approx(roc_auc_score(on, scores))
        assert found[1][i] == pytest.approx(fpr95_by_count(scores, on))
    for only in (rows.on[:, 0], ~rows.on[:, 0]):
        assert np.isnan(novelty_rates(rows.scores[:, 0], rows.on[:, 0], only[None].astype(float))).all()


def test_the_standard_error_is_delongs():
    a, b = drawn()
    errors = []
    for rows in (a, b):
        known, new = placements(rows)
        errors.append(np.sqrt(known.var(ddof=1) / len(known) + new.var(ddof=1) / len(new)))
        estimate = bootstrap_mean([bootstrap(rows, "auroc_knn")])
        assert estimate.standard_error == pytest.approx(errors[-1], rel=0.08)  # 1,000 replicates: 2.2 %
        low, high = bootstrap_interval(rows, "auroc_knn")
        assert (high - low) / 2 == pytest.approx(1.96 * errors[-1], rel=0.08)
    known, new = (y - x for x, y in zip(placements(a), placements(b), strict=True))
    paired = np.sqrt(known.var(ddof=1) / len(known) + new.var(ddof=1) / len(new))
    c = compare("a", "b", "auroc_knn", PairedBootstrap("d", (0,), ((bootstrap(a, "auroc_"), bootstrap(b, "auroc_")),)))
    assert c.difference == pytest.approx(100 * (rates(b)[0] - rates(a)[0]))
    assert c.estimate.standard_error == pytest.approx(100 * paired, rel=0.08)
    assert paired < 0.8 * np.hypot(*errors)  # pairing is worth something here


def test_the_standard_error_of_fpr95_is_that_of_a_loop_over_groups():
    rows = drawn(150, 120, per_group=3)[0]
    random, names = np.random.default_rng(5), np.unique(rows.groups)
    members = [np.flatnonzero(rows.groups == name) for name in names]
    values = []
    for _ in range(1500):
        picked = np.concatenate([members[g] for g in random.integers(0, len(names), len(names))])
        values.append(fpr95_by_count(rows.scores[picked, 0], rows.on[picked, 0]))
    found = bootstrap(rows, "fpr95_knn")
    assert found.replicates.std() == pytest.approx(np.std(values), rel=0.1)
    assert (found.groups, found.images) == (90, 270)
    single = dataclasses.replace(rows, groups=rows.ids)
    assert bootstrap(single, "auroc_x").replicates.std() < 0.8 * bootstrap(rows, "auroc_x").replicates.std()


def features():
    everything = blobs(400, d=6, classes=8, separation=1.3, per_group=2)
    source, unseen = everything.select(everything.y < 5), everything.select(everything.y >= 5)
    part = np.array([int(group[1:]) % 3 for group in source.groups])
    return source.select(part > 0), source.select(part == 0), unseen


def test_distance_and_energy_are_their_formulas():
    train, test, unseen = features()
    scores = {s.metric: s for s in novelty(train, test, unseen, config.Novelty(7), PROBE)}
    assert list(scores) == ["auroc_knn", "fpr95_knn", "auroc_energy", "fpr95_energy"]
    by_id = {i: k for k, i in enumerate([*test.ids, *unseen.ids])}
    unit = [part.x / np.linalg.norm(part.x, axis=1, keepdims=True) for part in (train, test, unseen)]
    near = NearestNeighbors(n_neighbors=7).fit(unit[0].astype(float))
    distances = near.kneighbors(np.concatenate(unit[1:]).astype(float))[0][:, -1]
    logits = train_probe(train, PROBE, ("evaluate",))[0].decision(np.concatenate([test.x, unseen.x]))
    for by, values in (("knn", distances), ("energy", -logsumexp(logits, axis=1))):
        rows = scores[f"auroc_{by}"].scores
        order = [by_id[i] for i in rows.ids]
        assert rows.ids.tolist() == sorted(by_id)
        np.testing.assert_allclose(rows.scores[:, 0], values[order], atol=2e-5)
        assert (rows.on[:, 0] == (np.array(order) >= len(test))).all()
        assert scores[f"auroc_{by}"].value == pytest.approx(roc_auc_score(rows.on[:, 0], rows.scores[:, 0]))
        assert scores[f"fpr95_{by}"].value == pytest.approx(fpr95_by_count(rows.scores[:, 0], rows.on[:, 0]))
        low, high = scores[f"auroc_{by}"].interval
        assert low < scores[f"auroc_{by}"].value < high
        assert scores[f"auroc_{by}"].n == len(test) + len(unseen)
    assert scores["auroc_knn"].value > 0.6
    assert scores["auroc_knn"].warnings == {}


def test_fewer_images_than_neighbours_are_said():
    train, test, unseen = features()
    far = {s.metric: s for s in novelty(train, test, unseen, config.Novelty(10_000), PROBE)}
    assert far["auroc_knn"].warnings == {"neighbours_at_most": len(train)}
    assert far["auroc_knn"].extra["neighbours"] == len(train)
    assert far["auroc_energy"].warnings == {}
    all_of_them = {s.metric: s for s in novelty(train, test, unseen, config.Novelty(len(train)), PROBE)}
    assert far["auroc_knn"].value == all_of_them["auroc_knn"].value


def test_a_lower_fpr95_wins():
    pairs = [drawn(seed=seed, apart=2.0) for seed in range(6)]
    for metric, sign in (("auroc_knn", 1), ("fpr95_knn", -1)):
        runs = {
            name: {seed: bootstrap(pair[side], metric) for seed, pair in enumerate(pairs)}
            for side, name in enumerate(("worse", "better"))
        }
        verdict = judge(runs, "worse", task="novelty", metric=metric)
        assert sign * verdict.comparisons[0].difference > 0
        assert verdict.comparisons[0].winner == "better"
        assert re.match(rf"better beats worse by {'-' * (sign < 0)}\d", verdict.sentences[0])


def test_scores_survive_their_file(tmp_path):
    rows = drawn(20, 30)[0]
    records.write_scores(tmp_path / "s.npz", rows)
    assert bootstrap(records.read_scores(tmp_path / "s.npz"), "auroc_knn").value == rates(rows)[0]


def test_bad_input_is_named(tmp_path, capsys):
    train, test, unseen = features()
    for ask, words in (
        (lambda: config.Novelty(0), "--novelty.neighbours must be at least 1, found 0"),
        (lambda: novelty(train, test.select(test.y > 9), unseen, config.Novelty(), PROBE), "no source test images"),
        (lambda: novelty(train, test, unseen.select(unseen.y < 0), config.Novelty(), PROBE), "no unseen images"),
        (
            lambda: novelty(train, test, dataclasses.replace(unseen, x=unseen.x * np.nan), config.Novelty(), PROBE),
            "features of the unseen images are NaN or infinite",
        ),
        (
            lambda: novelty(train, test, dataclasses.replace(unseen, x=unseen.x[:, :2]), config.Novelty(), PROBE),
            "of the same D",
        ),
    ):
        with pytest.raises(SlmlpError, match=words):
            ask()
    for words in (["--task", "novelty"], ["--task", "unseen-knn"]):
        assert main(["evaluate", "timm:test_resnet@random", "emoji", *words, "--out", str(tmp_path / "o")]) == 2
        [line] = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
        assert "was trained without a split: give one with --split" in line
    train.save(tmp_path / "f.npz")
    assert main(["evaluate", str(tmp_path / "f.npz"), "--task", "novelty", "--out", str(tmp_path / "o")]) == 2
    [line] = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
    assert "--task novelty needs images" in line
