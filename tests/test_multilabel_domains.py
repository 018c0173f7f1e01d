"""Mean average precision over several data sets: the mean, its two intervals against simulations, on the page too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from slmlp.cli import main
from slmlp.experiments.suite.several_labels import SeveralLabels
from slmlp.results import records
from slmlp.results.domain_statistics import log_odds
from slmlp.results.drawn import Drawn
from slmlp.results.multilabel_domains import judge_means, means
from slmlp.results.multilabel_verdict import Held
from slmlp.runtime import files
from test_multilabel_images import scores_of, write_several

UNITS = 400


def held(values: dict[str, dict[int, float]], noise: float, rng: np.random.Generator) -> Held:
    """Return runs of these values whose draws of the groups scatter by ``noise``, independently of one another."""
    runs = {
        method: {seed: Drawn(value, value + noise * rng.standard_normal(200)) for seed, value in by_seed.items()}
        for method, by_seed in values.items()
    }
    return Held(runs, UNITS, "groups")


def test_the_mean_counts_data_sets_alike_and_pairs_seeds():
    rng = np.random.default_rng(0)
    sets = {
        "x": held({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.6, 1: 0.8}, "c": {0: 0.7}}, 0.001, rng),
        "y": held({"a": {0: 0.2, 1: 0.2}, "b": {0: 0.3, 1: 0.2}}, 0.001, rng),
    }
    (found,) = judge_means(sets, "a")  # c has one of the data sets only: no mean
    assert (found.b, found.sets) == ("b", ("x", "y"))
    assert found.points.these.value == pytest.approx((0.15 + 0.05) / 2)
    odds = [log_odds(np.array([v]), np.array([UNITS]))[0] for v in (0.5, 0.6, 0.6, 0.8, 0.2, 0.2, 0.3, 0.2)]
    by_set = [(odds[2] + odds[3] - odds[0] - odds[1]) / 2, (odds[6] + odds[7] - odds[4] - odds[5]) / 2]
    assert found.log_odds.these.value == pytest.approx(np.mean(by_set))
    assert means(sets).keys() == {"a", "b"}
    assert means(sets)["a"][0] == pytest.approx((0.55 + 0.2) / 2)
    # seeds (0.1, 0.2) and (0.1, 0.0): each seed's mean over sets is 0.1, so other seeds change nothing
    assert found.points.these.standard_error < 0.002
    lucky = {name: held({"a": {0: 0.5, 1: 0.5}, "b": {0: 0.6, 1: 0.8}}, 0.0, rng) for name in "xyz"}
    (found,) = judge_means(lucky, "a")  # lucky on every data set: more of them take nothing away
    assert found.points.these.standard_error == pytest.approx(np.std([0.1, 0.3], ddof=1) / np.sqrt(2))


@pytest.mark.parametrize("population", ["these", "like"])
def test_intervals_cover_what_they_speak_of(population):
    rng = np.random.default_rng(1)
    truth, inside, rounds, seeds = 0.03, 0, 1500, 3
    for _ in range(rounds):
        effects = rng.normal(0, 0.02, 4) if population == "like" else np.array([-0.02, 0.0, 0.01, 0.01])
        luck = rng.normal(0, 0.01, seeds)  # of a seed, on every data set
        sets = {}
        for j, effect in enumerate(effects):
            images = rng.normal(0, 0.01)  # what this data set's images add, for every seed alike
            gaps = truth + effect + luck + images + rng.normal(0, 0.005, seeds)
            scatter = 0.01 * rng.standard_normal(200)  # and what other draws of them would: the same for every seed
            runs = {
                "a": {seed: Drawn(0.5, np.full(200, 0.5)) for seed in range(seeds)},
                "b": {seed: Drawn(0.5 + gap, 0.5 + gap + scatter) for seed, gap in enumerate(gaps)},
            }
            sets[str(j)] = Held(runs, UNITS, "groups")
        (found,) = judge_means(sets, "a")
        low, high = getattr(found.points, population).interval
        inside += low < truth < high
    # 3,000 rounds of each gave 0.937 (these) and 0.953 (like): degrees of freedom by Welch and Satterthwaite are a
    # little too many where two of them, of three seeds, matter most. Without a part of the variance: 0.79 to 0.915.
    assert 0.92 < inside / rounds < 0.97


def test_images_of_one_group_have_no_interval_and_the_verdict_is_still_written(tmp_path):
    runs = {"a": {0: scores_of(1, 1.0, groups=1)}, "b": {0: scores_of(2, 3.0, groups=1)}}
    found = SeveralLabels.of({"one": runs, "two": runs}, ["a", "b"], ["three"])
    files.write_json(tmp_path / "verdict.json", found.as_json())
    read = files.read_json(tmp_path / "verdict.json")
    assert [(d["low"], d["high"], d["winner"]) for d in read["differences"]] == [(None, None, None)] * 2
    assert (read["over"][0]["these"]["low"], read["over"][0]["winner"]) == (None, None)
    assert "three missing" in read["sentences"][-1]


def test_two_data_sets_of_several_labels_get_a_mean_on_the_page(tmp_path: Path, capsys):
    for name, seed in (("first", 3), ("second", 4)):
        (tmp_path / name).mkdir()
        write_several(tmp_path / name, seed)
        shutil.move(tmp_path / name / "several.csv", tmp_path / name / f"{name}.csv")
    out = tmp_path / "out"
    words = ["suite", "raw=timm:test_resnet@random", "other=timm:resnet10t@random", "--label-separator", "|", "--also"]
    words += [str(tmp_path / name / f"{name}.csv") for name in ("first", "second")]
    words += ["--tasks", "linear", "--probe.l2", "1e-2", "1e-1", "--preprocess.size", "32", "--out", str(out)]
    assert main(words) == 0
    lines = [r for r in records.read(out / "results.jsonl") if r.metric == "map"]
    by_hand = {m: 100 * np.mean([r.value for r in lines if r.method == m]) for m in ("raw", "other")}
    told = files.read_json(out / "verdict.json")["tasks"]["linear map"]
    assert told["means"]["other"]["accuracy"] == pytest.approx(by_hand["other"])
    first = told["over"][0]
    assert first["difference"] == pytest.approx(by_hand["other"] - by_hand["raw"])
    assert first["like"]["low"] < first["difference"] < first["like"]["high"]
    page = (out / "report.html").read_text()
    assert f">{by_hand['other']:.1f}<" in page
    assert "ver 2 data sets (first, second) " in page
    assert "points of mAP on average" in page
    assert f" over 2 data sets: {first['difference']:+.1f} points of mAP (95 % CI " in capsys.readouterr().out
