"""All contenders beside one another, and two of them class by class, against second forms."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats
from torch import nn

from slmlp.encoders import Encoder, EncoderSpec
from slmlp.encoders.cost import cost
from slmlp.report.choice import against, turned
from slmlp.results.by_class import by_class, change_by_image
from slmlp.results.intervals import holm
from slmlp.results.ranking import MOST, every_two, mean_over_datasets
from slmlp.results.records import Predictions
from slmlp.results.verdict import compare_all, judge

LEVELS = {"a": 0.5, "b": 0.62, "c": 0.55, "d": 0.8}


def predictions(level: float, seed: int, images: int = 120, classes: int = 4) -> Predictions:
    rng = np.random.default_rng([seed, int(1000 * level)])
    ids = np.array([f"{i:03d}" for i in range(images)])
    labels = np.array([f"class {i % classes}" for i in range(images)])
    guesses = np.where(rng.random(images) < level, labels, "another")
    return Predictions(ids, ids, labels, guesses, np.zeros(images, dtype=np.int64))


def runs(seeds: int = 3) -> dict[str, dict[int, Predictions]]:
    return {name: {s: predictions(level, s) for s in range(seeds)} for name, level in LEVELS.items()}


def test_every_two_contenders_are_compared_and_corrected_together():
    verdict = judge(runs(), "b", every=True)
    pairs = list(itertools.combinations(LEVELS, 2))
    assert [(c.a, c.b) for c in verdict.every] == pairs
    alone = [compare_all(runs(), [two])[0] for two in pairs]
    assert [c.estimate for c in verdict.every] == [c.estimate for c in alone]
    assert [c.p_holm for c in verdict.every] == pytest.approx(holm(np.array([c.estimate.p for c in alone])).tolist())
    assert verdict.comparisons == judge(runs(), "b").comparisons  # those that were asked for stay as they are
    assert every_two(["a", "b"], [], lambda a, b: None) == ()
    assert every_two(map(str, range(MOST + 1)), [], lambda a, b: None) == ()


def test_a_reader_finds_the_same_numbers_from_either_side():
    task = judge(runs(), "b", every=True).to_json()
    assert against(task, list(LEVELS), "b") == task["comparisons"]
    of_a, of_d = (against(task, list(LEVELS), name) for name in "ad")
    assert [c["b"] for c in of_a] == ["b", "c", "d"]
    assert [c["b"] for c in of_d] == ["a", "b", "c"]
    [here], [there] = ([c for c in found if {c["a"], c["b"]} == {"a", "d"}] for found in (of_a, of_d))
    assert (there["difference"], there["low"], there["high"]) == (-here["difference"], -here["high"], -here["low"])
    assert there["per_seed"] == [-value for value in here["per_seed"]]
    assert (there["p_holm"], there["winner"]) == (here["p_holm"], "d")
    assert turned(turned(here)) == here
    assert against(judge(runs(), "b").to_json(), list(LEVELS), "a") == []


def test_a_mean_over_data_sets_has_the_interval_of_its_images():
    """One seed: the variance of the mean of J independent shares is the sum of theirs over J squared."""
    by_data = {f"d{j}": {0: predictions(0.4 + 0.2 * j, j, 400)} for j in range(3)}
    found = mean_over_datasets(by_data, list(by_data), replicates=20_000)
    shares = np.array([run[0].correct.mean() for run in by_data.values()])
    assert found.value == pytest.approx(shares.mean())
    half = stats.norm.ppf(0.975) * np.sqrt((shares * (1 - shares) / 399).sum()) / 3
    assert np.array(found.interval) == pytest.approx([found.value - half, found.value + half], abs=0.1 * half)


def test_the_cost_of_an_encoder_is_counted_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    encoder = Encoder(net, EncoderSpec(name="x", stem="own", image_size=16, dim=5))
    assert cost(encoder) == {
        "parameters": 8 * 27 + 8 * 5 + 5, "multiply_adds": 16 * 16 * 8 * 27 + 8 * 5, "features": 5, "side": 16
    }  # fmt: skip
    assert net.training  # left as it was
    assert cost(Encoder(net.double(), encoder.spec))["multiply_adds"] > 0


def test_classes_gain_and_lose_what_their_images_do():
    a, b = runs()["a"], runs()["d"]
    changes = by_class("a", "d", a, b)
    assert [c.b - c.a for c in changes] == sorted((c.b - c.a for c in changes), reverse=True)
    for c in changes:
        of = [(one.correct[one.labels == c.name], other.correct[other.labels == c.name]) for one, other in
              zip(a.values(), b.values(), strict=True)]  # fmt: skip
        assert (c.a, c.b) == pytest.approx((np.mean([x for x, _ in of]), np.mean([y for _, y in of])))
        assert c.comparison.difference == pytest.approx(100 * (c.b - c.a))
        assert c.images == 30
        assert c.comparison.family == 4
    ids, change = change_by_image(a, b)
    assert change.mean() == pytest.approx(np.mean([c.b - c.a for c in changes]))
    assert len(set(ids.tolist())) == 120
    one_group = {s: dataclasses.replace(run, groups=run.labels) for s, run in a.items()}
    assert all(c.comparison is None for c in by_class("a", "a", one_group, one_group))
