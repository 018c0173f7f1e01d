"""``slmlp advise``: the rule, its trial on settings left out, and what it reads of images, runs and studies.

Claims: the pairs are those of the committed lines; the line is numpy's weighted least squares and its range scipy's
prediction interval; a setting left out plays no part in its own prediction; a run is measured as its study measured it;
bad targets are one line.
"""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from slmlp import api, cli, config
from slmlp.results import advice, records
from slmlp.results.advice import Pair
from slmlp.runtime import json_files
from study_runs import finished, here

ROOT = Path(__file__).parents[1]


def made(gaps, gains, settings=None):
    names = settings or [f"s{i}" for i in range(len(gaps))]
    return [Pair(s, "f", "sl", "softmax", 1, gain, 0.0, gap, gap)
            for s, gap, gain in zip(names, gaps, gains, strict=True)]  # fmt: skip


def test_the_pairs_are_those_of_the_committed_lines():
    collected = runpy.run_path(str(ROOT / "scripts" / "build_advice.py"))["collected"]()
    assert [dataclasses.asdict(one) for one in collected] == [dataclasses.asdict(one) for one in advice.pairs()]
    one = next(p for p in collected if p.file == "tiny-imagenet-124-76-fine")
    lines = records.read(ROOT / "docs" / "results" / "tiny-imagenet-124-76-fine.jsonl")

    def mean(method: str, metric: str, task: str) -> dict[int, float]:
        return {r.seed: r.value for r in lines
                if (r.method, r.metric, r.task, r.role) == (method, metric, task, "final")}  # fmt: skip

    gains = [100 * (mean("sl-mlp", "accuracy", "unseen")[s] - v) for s, v in mean("sl", "accuracy", "unseen").items()]
    assert (one.seeds, one.gain) == (5, pytest.approx(np.mean(gains)))
    trained = mean("sl", "discriminative_ratio_source_train", "measures")
    unseen = mean("sl", "discriminative_ratio_unseen", "measures")
    assert one.unseen == pytest.approx(np.mean([trained[s] / unseen[s] for s in trained]))


def test_the_line_and_its_range_are_those_of_numpy_and_scipy():
    random = np.random.default_rng(3)
    gaps = random.uniform(1.2, 12, 14)
    gains = 2.5 * np.log(gaps) - 1 + random.normal(size=14)
    rule = advice.fit(made(gaps, gains))
    line = stats.linregress(np.log(gaps), gains)
    assert (rule.intercept, rule.slope) == pytest.approx((line.intercept, line.slope))
    x, at = np.log(gaps), np.log(3.3)
    residual = gains - line.intercept - line.slope * x
    s = np.sqrt((residual**2).sum() / 12)
    half = stats.t.ppf(0.975, 12) * s * np.sqrt(1 + 1 / 14 + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    expected = line.intercept + line.slope * at
    assert rule.interval(3.3) == pytest.approx((expected - half, expected + half))


def test_every_setting_counts_alike_and_plays_no_part_in_its_own_trial():
    gaps, gains = [1.5, 2.0, 4.0, 9.0], [-1.0, 0.2, 3.0, 7.0]
    once = advice.fit(made(gaps, gains))
    repeated = made([*gaps, *[9.0] * 5], [*gains, *[7.0] * 5], ["s0", "s1", "s2", *["s3"] * 6])
    again = advice.fit(repeated)
    assert (once.intercept, once.slope, once.settings) == pytest.approx((again.intercept, again.slope, again.settings))
    weights = np.sqrt([1, 1, 1, *[1 / 6] * 6])
    slope, intercept = np.polyfit(np.log([p.unseen for p in repeated]), [p.gain for p in repeated], 1, w=weights)
    assert (again.slope, again.intercept) == pytest.approx((slope, intercept))
    moved = [*repeated[:3], *(dataclasses.replace(p, gain=-50.0) for p in repeated[3:])]
    assert advice.trial(moved).predicted[3:] == pytest.approx(advice.trial(repeated).predicted[3:])
    tried = advice.trial(made(gaps, gains))
    assert tried.hits == sum(advice.call(a) == advice.call(b) for a, b in zip(tried.predicted, gains, strict=True))
    assert tried.error == pytest.approx(np.mean(np.abs(np.subtract(tried.predicted, gains))))


@pytest.mark.parametrize(
    ("method", "settings", "augment", "kind"),
    [
        ("sl", {}, "weak", "softmax"), ("sl", {"cosine": True}, "simclr", "cosine"), ("sl", {}, "moco-v2", "strong"),
        ("sl-mlp", {"label_smoothing": 0.1}, "crop", "smoothing"), ("supcon", {}, "weak", "pairs"),
    ],
)  # fmt: skip
def test_before_training_the_kind_of_loss_is_what_is_known(method, settings, augment, kind, capsys):
    of_method = dataclasses.replace(config.method_config(method), **settings)
    assert advice.kind_of(of_method, augment) == kind
    (found,) = api.advise("emoji", method=method, settings=settings, augment=augment)
    alike = [p for p in advice.pairs() if p.kind == kind]
    by_setting = {p.setting: np.mean([q.gain for q in alike if q.setting == p.setting]) for p in alike}
    assert found.gain == pytest.approx(np.mean(list(by_setting.values())))
    assert found.specialisation is None


@pytest.fixture(scope="module")
def done(shapes, once) -> Path:
    return finished(shapes, once)


@pytest.mark.slow
def test_a_study_and_its_runs_are_read_alike(done, capsys):
    assert here("advise", done, "--json") == 0
    (of_study,) = json.loads(capsys.readouterr().out)["advice"]
    assert of_study == json_files.read(done / "study.json", dict)["advice"][0]
    means = json_files.read(done / "verdict.json", dict)["tasks"]["unseen accuracy"]["means"]
    assert of_study["measured"] == pytest.approx(means["sl-mlp"]["value"] - means["sl"]["value"])
    rule = advice.fit(advice.pairs())
    assert of_study["gain"] == pytest.approx(rule.intercept + rule.slope * np.log(of_study["specialisation"]))
    runs = []
    for seed in (0, 1):
        assert here("advise", done / "runs" / f"sl-seed{seed}", "--json") == 0
        (of_run,) = json.loads(capsys.readouterr().out)["advice"]
        runs.append(of_run["specialisation"])
        assert of_run["against"] == "unseen"
    assert of_study["specialisation"] == pytest.approx(np.mean(runs), rel=1e-5)
    assert here("advise", done / "runs" / "sl-mlp-seed0", "--json") == 0
    (with_projector,) = json.loads(capsys.readouterr().out)["advice"]
    assert (with_projector["call"], with_projector["gain"]) == ("unknown", None)
    assert of_study["sentences"][0].split(": ")[1][:20] in (done / "report.html").read_text()


@pytest.mark.slow
def test_a_run_on_all_classes_is_set_beside_other_images(shapes, tmp_path, capsys):
    words = "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 2 --augment weak --method sl --out"
    assert here("pretrain", shapes, words, tmp_path / "run") == 0
    capsys.readouterr()
    assert here("advise", tmp_path / "run", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["advice"]
    assert found["against"] == "source"
    assert found["gain"] == pytest.approx(advice.fit(advice.pairs(), "source").gain(found["specialisation"]))
    projector = tmp_path / "mlp"
    assert here("pretrain", shapes, words.replace("--method sl", "--method sl-mlp"), projector) == 0
    (projector / "projector.safetensors").unlink()
    capsys.readouterr()
    assert here("advise", projector) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "keeps no projector" in line
    (projector / "encoder.safetensors").unlink()
    assert here("advise", projector) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs images"), (["nothing-here"], "nothing-here"),
        (["emoji", "--method", "barlow"], "barlow"), (["emoji", "--augment", "wild"], "wild"),
    ],
)  # fmt: skip
def test_bad_targets_are_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["advise", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
