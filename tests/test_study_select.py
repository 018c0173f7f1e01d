"""What a study chooses before its final runs: on source validation images, or on classes held out of the source ones.

Claims: inner runs never see an inner held-out class nor one of the study's; the score is the probe's on the inner
held-out classes; the best rate and combination of varied settings goes on, of every method by itself; the study goes
on and its command repeats it; what cannot be chosen is refused before training.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slmlp.config.study import Study
from slmlp.data.splits.classes import ConceptSplit
from slmlp.experiments.study import worker
from slmlp.experiments.study.specs import candidates, parse, variants
from slmlp.results import records
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train.run import Run
from study_runs import here, rows, slmlp

FLAGS = (
    "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment weak --save-every 0 --seeds 1 "
    "--rates 0.05 0.2 --split.by random --split.unseen-fraction 0.34 --probe.folds 2 --probe.l2 1e-2 1e-1 "
    "--layer-seeds 0 --select unseen-inner --vary label_smoothing=0,0.2"
)


@pytest.fixture(scope="module")
def done(shapes, once) -> Path:
    def make(folder: Path) -> None:
        made = slmlp("study", shapes, FLAGS, "--out", folder)
        assert made.returncode == 0, made.stderr

    return once("study-select", make)


@pytest.mark.slow
def test_inner_runs_see_neither_side_that_is_held_out(done):
    outer, inner = (ConceptSplit.load(done / name) for name in ("split.json", "inner-split.json"))
    assert (len(outer.unseen), len(inner.source), len(inner.unseen)) == (2, 2, 2)
    assert {*inner.source, *inner.unseen} == set(outer.source)
    tried = sorted((done / "runs").glob("*-inner-rate*"))
    assert len(tried) == 8
    assert {tuple(Run(path).config["class_names"]) for path in tried} == {inner.source}
    finals = sorted((done / "runs").glob("*-seed0"))
    assert {tuple(Run(path).config["class_names"]) for path in finals} == {outer.source}


@pytest.mark.slow
def test_the_best_of_each_method_on_inner_classes_goes_on(done):
    inner = ConceptSplit.load(done / "inner-split.json")
    lines = rows(done, role="inner", task="unseen", metric="accuracy")
    assert {r.hashes["split"] for r in lines} == {inner.hash()}
    predictions = records.read_predictions(done / lines[0].predictions)
    assert set(predictions.labels) == set(inner.unseen)
    assert lines[0].value == pytest.approx(predictions.correct.mean())
    study = json_files.read(done / "study.json", dict)
    assert len(study["methods"]) == 2
    for method, chosen in zip(("sl", "sl-mlp"), study["methods"], strict=True):
        scores = {(r.method, r.base_lr): r.value for r in lines if r.method.split(":")[0] == method}
        assert len(scores) == 4
        best = max(scores.values())
        assert scores[chosen, study["rates"]["chosen"][chosen]] == best
        assert study["rates"]["chosen"][chosen] == min(rate for (_, rate), score in scores.items() if score == best)
        (final,) = rows(done, role="final", task="unseen", metric="accuracy", method=chosen)
        config = Run(done / "runs" / final.run).config["job"]
        smoothing = float(chosen.rpartition("=")[2])
        assert (config["settings"]["label_smoothing"], config["training"]["base_lr"]) == (smoothing, final.base_lr)


@pytest.mark.slow
def test_it_goes_on_and_another_way_of_choosing_is_another_study(shapes, done, monkeypatch, capsys):
    def never(*_: object) -> None:
        raise AssertionError("there was nothing left to do")

    monkeypatch.setattr(worker, "perform", never)
    before = (done / "results.jsonl").read_bytes()
    assert here("study", shapes, FLAGS, "--out", done) == 0
    assert (done / "results.jsonl").read_bytes() == before
    command = json_files.read(done / "study.json", dict)["command"]
    assert "--select unseen-inner --vary label_smoothing=0,0.2" in command
    assert "--methods sl,sl-mlp " in command
    capsys.readouterr()
    assert here("study", shapes, FLAGS.replace("--select unseen-inner", "--select source"), "--out", done) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
    assert "select" in line


def test_every_combination_is_a_contender_of_its_own():
    found = variants(parse("wide=sl-mlp:projector.hidden=64"), ["label_smoothing=0,0.1", "training.epochs=3,6"])
    assert [one.name for one in found] == [
        f"wide label_smoothing {s} training.epochs {e}" for s in ("0", "0.1") for e in (3, 6)
    ]
    assert {one.settings.projector.hidden for one in found} == {64}
    assert [(one.settings.label_smoothing, one.training["epochs"]) for one in found] == [
        (0, 3), (0, 6), (0.1, 3), (0.1, 6),
    ]  # fmt: skip
    assert [parse(one.text).settings for one in found] == [one.settings for one in found]
    assert [parse(one.text).name for one in found] == [one.name for one in found]
    assert variants(parse("sl"), []) == (parse("sl"),)
    vary = ("wide:mixup=0,0.2", "training.epochs=3,6")  # the first of one contender, the second of all
    methods = ("sl", "wide=sl-mlp:projector.hidden=64")
    assert [(one.settings.mixup, one.training["epochs"]) for one in candidates(Study(methods, vary=vary))] == [
        (0, 3), (0, 6), (0, 3), (0, 6), (0.2, 3), (0.2, 6),
    ]  # fmt: skip
    assert Study(rates=(0.1,), vary=("label_smoothing=0,0.1",)).selects
    assert not Study(rates=(0.1,)).selects


@pytest.mark.parametrize(
    ("methods", "vary", "said"),
    [
        ("sl", "label_smoothing", "expected setting=value"), ("sl", "label_smoothing=0,,1", "expected setting=value"),
        ("supcon", "label_smoothing=0,0.1", "for supcon"), ("sl", "training.base_lr=1,2", "base_lr"),
        ("sl", "sl2:label_smoothing=0,0.1", "sl2"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_named(methods, vary, said):
    with pytest.raises(SlmlpError, match=said):
        candidates(Study((methods,), vary=(vary,)))


def test_too_few_classes_for_an_inner_split_are_said_before_training(shapes, tmp_path, capsys):
    flags = FLAGS.replace("--split.unseen-fraction 0.34", "--split.unseen-fraction 0.5")
    assert here("study", shapes, flags, "--out", tmp_path / "study") == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
    assert "--select unseen-inner" in line
    assert "3 source classes" in line
    assert not (tmp_path / "study" / "runs").exists()
