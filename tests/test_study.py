"""A study from one end to the other, through the command line, on real files in real processes."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import browser as browsers
from slmlp import report
from slmlp.data.splits.classes import ConceptSplit
from slmlp.experiments.study import pictures, pool, worker
from slmlp.report.words import opening
from slmlp.results import records
from slmlp.runtime import files, json_files
from slmlp.train.run import Run
from study_runs import FLAGS, PROBE, finished, here, rows, slmlp, task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(shapes, once) -> Path:
    return finished(shapes, once)


def test_every_run_and_baseline_has_its_numbers(done):
    finals = rows(done, role="final", task="unseen", metric="accuracy")
    assert [(r.method, r.seed) for r in sorted(finals, key=lambda r: (r.method, r.seed))] == [
        ("sl", 0), ("sl", 1), ("sl-mlp", 0), ("sl-mlp", 1),
    ]  # fmt: skip
    assert {r.method for r in rows(done, role="baseline", task="unseen")} == {"random-init", "raw-pixels"}
    assert {r.base_lr for r in rows(done, role="grid", task="validation")} == {0.1, 0.2}
    assert {(r.method, r.epoch) for r in rows(done, role="curve", metric="accuracy", task="unseen")} == {
        ("sl", 2), ("sl", 4), ("sl-mlp", 2), ("sl-mlp", 4),
    }  # fmt: skip
    split = ConceptSplit.load(done / "split.json")
    for row in finals:
        assert row.hashes.keys() == {"encoder", "data", "split", "transform", "pixels"}
        assert row.hashes["split"] == split.hash()
        predictions = records.read_predictions(done / row.predictions)
        assert row.n == len(predictions.ids) == 3 * 34  # three held-out classes, both parts
        assert set(predictions.labels) == set(split.unseen)
        assert row.value == pytest.approx(predictions.correct.mean())
        assert len(np.unique(predictions.ids)) == row.n
    ratio = {r.metric for r in rows(done, role="final", task="measures")}
    assert {"discriminative_ratio_source", "discriminative_ratio_unseen", "redundancy_unseen"} <= ratio


def test_the_chosen_rate_is_the_best_on_validation_and_pairs_share_all_but_the_method(done):
    study = json_files.read(done / "study.json", dict)
    for method in ("sl", "sl-mlp"):
        scores = {r.base_lr: r.value for r in rows(done, role="grid", task="validation", method=method)}
        best = max(scores.values())
        assert study["rates"]["chosen"][method] == min(rate for rate, score in scores.items() if score == best)
        assert {r.base_lr for r in rows(done, role="final", method=method)} == {study["rates"]["chosen"][method]}
    a, b = (Run(done / "runs" / f"{m}-seed1").config for m in ("sl", "sl-mlp"))
    assert a["resolved"]["initial_encoder_hash"] == b["resolved"]["initial_encoder_hash"]
    assert a["resolved"]["data_hash"] == b["resolved"]["data_hash"]
    for part in ("training", "options", "labels", "seed"):
        first, second = a["job"][part], b["job"][part]
        if part == "training":
            first, second = ({k: v for k, v in t.items() if k != "base_lr"} for t in (first, second))
        assert first == second


def test_verdict_and_page_say_the_same(done):
    verdict = json_files.read(done / "verdict.json", dict)
    (comparison,) = verdict["tasks"]["unseen accuracy"]["comparisons"]
    values = {(r.method, r.seed): r.value for r in rows(done, role="final", task="unseen", metric="accuracy")}
    by_hand = [100 * (values["sl-mlp", s] - values["sl", s]) for s in (0, 1)]
    assert comparison["per_seed"] == pytest.approx(by_hand)
    assert comparison["difference"] == pytest.approx(np.mean(by_hand))
    page = (done / "report.html").read_text()
    assert opening(verdict["sentences"][0])[:20] in page
    following = json_files.read(done / "study.json", dict)["next"]["command"]
    assert following.startswith("slmlp ")
    assert following in html.unescape(page)


@pytest.mark.browser
def test_the_page_holds_on_a_phone(done, browser):
    browsers.check(browser, done / "report.html", "study-of-shapes", 390, dark=False)


def test_classes_and_neighbours_are_those_of_the_predictions_and_features(done):
    where = json_files.read(done / "where.json", dict)
    assert (where["a"], where["b"]) == ("sl", "sl-mlp")
    by_class: dict[str, dict[str, list[bool]]] = {}
    for row in rows(done, role="final", task="unseen", metric="accuracy"):
        found = records.read_predictions(done / row.predictions)
        for label, hit in zip(found.labels.tolist(), found.correct.tolist(), strict=True):
            by_class.setdefault(label, {}).setdefault(row.method, []).append(hit)
    assert {c["name"] for c in where["classes"]} == set(by_class)
    for c in where["classes"]:
        assert c["a"] == pytest.approx(100 * np.mean(by_class[c["name"]]["sl"]))
        assert c["b"] == pytest.approx(100 * np.mean(by_class[c["name"]]["sl-mlp"]))
        assert c["low"] <= c["b"] - c["a"] <= c["high"]
    gains = [c["b"] - c["a"] for c in where["classes"]]
    assert gains == sorted(gains, reverse=True)
    assert where["neighbours"].keys() == {"sl", "sl-mlp"}
    for of in where["neighbours"].values():
        for query, near in zip(where["queries"], of, strict=True):
            assert len(set(near)) == pictures.NEIGHBOURS
            assert query not in near
    labels = {where["labels"][i] for of in where["pictures"].values() for i in of}
    assert labels == set(where["pictures"])


def test_running_it_again_starts_and_computes_nothing(shapes, done, tmp_path, monkeypatch):
    again = shutil.copytree(done, tmp_path / "again")

    def never(*_: object) -> None:
        raise AssertionError("there was nothing left to do")

    monkeypatch.setattr(pool, "ProcessPoolExecutor", never)
    monkeypatch.setattr(worker, "perform", never)  # no run in this process
    monkeypatch.setattr(pictures, "embed", never)  # no t-SNE
    assert here("study", shapes, FLAGS, "--name <my>photos --out", again) == 0
    for name in ("results.jsonl", "verdict.json", "tsne.json", "thumbnails.webp", "where.json", "where.webp"):
        assert (again / name).read_bytes() == (done / name).read_bytes()
    assert "<h1>&lt;my&gt;photos</h1>" in (again / "report.html").read_text()


def test_a_run_of_the_grid_may_be_deleted_once_its_numbers_are_there(shapes, done, tmp_path):
    again = shutil.copytree(done, tmp_path / "deleted")
    for folder in (again / "runs").glob("*-rate*"):
        shutil.rmtree(folder)
    file = again / "results.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    gone = [line for line in lines if '"validation"' in line and '"sl-mlp-rate0.2"' in line]
    file.write_text("".join(line for line in lines if line not in gone))
    assert len(gone) == 1
    assert here("study", shapes, FLAGS, "--out", again) == 0
    assert [folder.name for folder in (again / "runs").glob("*-rate*")] == ["sl-mlp-rate0.2"]  # the one with a gap
    assert sorted(file.read_text().splitlines()) == sorted((done / "results.jsonl").read_text().splitlines())
    assert (again / "verdict.json").read_bytes() == (done / "verdict.json").read_bytes()
    hours, before = (json_files.read(folder / "study.json", dict)["run_hours"] for folder in (again, done))
    assert hours.keys() == before.keys()
    assert {name for name in before if hours[name] != before[name]} <= {"sl-mlp-rate0.2"}  # the one trained again


def test_hours_in_which_a_run_was_stopped_from_outside_do_not_count(done, tmp_path):
    run = Run(shutil.copytree(done / "runs" / "sl-seed0", tmp_path / "stopped"))
    usual, file = run.hours, run.path / "metrics.jsonl"
    steps, rate = run.metrics()[-1]["step"], run.metrics()[0]["images_per_second"]
    slow = [row | {"images_per_second": rate} for row in run.metrics()]
    file.write_text("".join(files.canonical(row) + "\n" for row in slow))
    assert run.hours == pytest.approx(steps * run.config["job"]["training"]["batch_size"] / rate / 3600)
    slow[1]["images_per_second"] = rate / 2  # slow: it counts
    file.write_text("".join(files.canonical(row) + "\n" for row in slow))
    half = (slow[1]["step"] - slow[0]["step"]) / steps
    assert run.hours == pytest.approx((1 + half) * steps * run.config["job"]["training"]["batch_size"] / rate / 3600)
    slow[1]["images_per_second"] = rate / 1000  # an hour of Ctrl-Z
    file.write_text("".join(files.canonical(row) + "\n" for row in slow))
    assert run.hours == pytest.approx(steps * run.config["job"]["training"]["batch_size"] / rate / 3600)
    assert json_files.read(done / "study.json", dict)["run_hours"]["sl-seed0"] == pytest.approx(usual, abs=1e-6)


@pytest.mark.parametrize("how", ["other weights", "a point less", "no points", "torn", "another form"])
def test_a_map_that_is_not_of_these_weights_and_images_is_made_anew(shapes, done, tmp_path, how):
    again = shutil.copytree(done, tmp_path / "again")
    maps = json_files.read(again / "tsne.json", dict)
    one = maps["methods"]["sl"]
    if how == "other weights":
        one["of"] = "another"
    elif how == "a point less":
        one["xy"].pop()
    elif how == "no points":
        del one["xy"]
    text = json.dumps([maps] if how == "another form" else maps)
    (again / "tsne.json").write_text(text[:-100] if how == "torn" else text)
    assert here("study", shapes, FLAGS, "--out", again) == 0
    assert (again / "tsne.json").read_bytes() == (done / "tsne.json").read_bytes()


def test_more_seeds_train_only_those(shapes, done, tmp_path):
    done = shutil.copytree(done, tmp_path / "more")
    stamps = {p: p.stat().st_mtime_ns for p in (done / "runs").glob("*/encoder.safetensors")}
    more = slmlp("study", shapes, FLAGS.replace("--seeds 2", "--seeds 3"), "--out", done)
    assert more.returncode == 0, more.stderr
    now = {p: p.stat().st_mtime_ns for p in (done / "runs").glob("*/encoder.safetensors")}
    assert {p: now[p] for p in stamps} == stamps
    assert {p.parent.name for p in now.keys() - stamps.keys()} == {"sl-seed2", "sl-mlp-seed2"}
    assert len(task(done)["comparisons"][0]["per_seed"]) == 3


def test_tasks_may_be_added_to_a_finished_study(shapes, done, tmp_path):
    folder = shutil.copytree(done, tmp_path / "tasks")
    stamps = {p: p.stat().st_mtime_ns for p in (folder / "runs").glob("*/encoder.safetensors")}
    more = "--tasks unseen-retrieval unseen-knn novelty --retrieval.recall-at 1 3 --knn.neighbours"
    assert here("study", shapes, FLAGS, more, "9 --out", folder) == 0
    assert here("study", shapes, FLAGS, more, "1 --out", folder) == 0
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    before = (done / "results.jsonl").read_text().splitlines()
    assert (folder / "results.jsonl").read_text().splitlines()[: len(before)] == before
    verdicts = json_files.read(folder / "verdict.json", dict)["tasks"]
    keys = ["unseen-retrieval recall_at_1", "unseen-retrieval recall_at_3", "unseen-retrieval map_at_r"]
    new = [f"novelty {rate}_{by}" for by in ("knn", "energy") for rate in ("auroc", "fpr95")]
    assert list(verdicts) == ["unseen accuracy", *keys, "unseen-knn accuracy", *new]
    assert verdicts["unseen accuracy"] == task(done)
    for key, verdict in verdicts.items():
        name, metric = key.split()
        lines = rows(folder, task=name, metric=metric, role="final")
        values = {(r.method, r.seed): r.value for r in lines if r.layer == "output"}
        comparison, *further = verdict["comparisons"]
        if further or verdict["pairs"]:
            assert name == "novelty"
            hidden = {r.seed: r.value for r in lines if r.layer == "projector.output"}
            for c, a in ((further[0], "sl"), (verdict["pairs"][0], "sl-mlp")):
                assert (c["a"], c["b"]) == (a, "sl-mlp@projector.output")
                assert c["per_seed"] == pytest.approx([100 * (hidden[s] - values[a, s]) for s in (0, 1)])
        assert comparison["per_seed"] == pytest.approx([100 * (values["sl-mlp", s] - values["sl", s]) for s in (0, 1)])
        assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    assert verdicts["unseen-knn accuracy"]["comparisons"][0]["per_seed"] == pytest.approx(
        verdicts[keys[0]]["comparisons"][0]["per_seed"]
    )  # one neighbour
    assert {r.method for r in rows(folder, task="unseen-retrieval", role="baseline")} == {"random-init", "raw-pixels"}
    assert not rows(folder, task="unseen-retrieval", role="curve")
    _, retrieval, votes, novelty = report.tables(folder)
    assert retrieval.headings == ["Recall@1, %", "Recall@3, %", "mAP@R, %"]
    assert [row.label for row in retrieval.rows] == ["SL", "SL-MLP", "untrained encoder", "raw pixels"]
    means = verdicts[keys[0]]["means"]
    assert [row.cells[0].value for row in retrieval.rows[:2]] == [f"{means[m]['value']:.1f}" for m in ("sl", "sl-mlp")]
    page = (folder / "report.html").read_text()
    assert page.count(retrieval.title) >= 2
    assert votes.title in page
    assert [row.label for row in novelty.rows][:3] == ["SL", "SL-MLP", "SL-MLP behind its projector"]
    behind = verdicts["novelty auroc_knn"]["means"]["sl-mlp@projector.output"]
    assert novelty.rows[2].cells[0].value == f"{behind['value']:.1f}"
    assert opening(verdicts["novelty auroc_knn"]["pairs"][0]["sentence"])[:60] in page
    assert "--tasks unseen-retrieval unseen-knn novelty" in json_files.read(folder / "study.json", dict)["command"]


def test_other_settings_are_refused(shapes, done, capsys):
    assert here("study", shapes, FLAGS.replace("--epochs 4", "--epochs 5"), "--out", done) == 2
    said = capsys.readouterr().err
    assert "holds another study: --epochs is 4 there, 5 here; give those settings" in said
    assert "Traceback" not in said


def test_a_killed_study_goes_on_to_the_same_numbers(shapes, done, tmp_path):
    out = tmp_path / "killed"
    words = ["study", str(shapes), *FLAGS.split(), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "slmlp", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    for _ in range(600):
        if list(out.glob("runs/*/encoder.safetensors")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "report.html").exists()
    assert slmlp(*words).returncode == 0
    for role in ("grid", "final", "baseline"):
        same = {r.key(): r.value for r in rows(done, role=role) if r.seed < 2}
        found = {r.key(): r.value for r in rows(out, role=role)}
        assert found == same


def test_ctrl_c_saves_every_run_and_ends_with_130(shapes, tmp_path):
    out = tmp_path / "stopped"
    words = ["study", str(shapes), *FLAGS.replace("--epochs 4", "--epochs 400").split(), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "slmlp", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    said = ""
    for line in process.stderr:
        said += line
        if said.count("images/s") >= 2:  # both runs have begun
            break
    os.killpg(process.pid, signal.SIGINT)
    said += process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said.count("stopped and saved after step") == 2
    assert len(list(out.glob("runs/*/checkpoints/*.ckpt"))) == 2
    assert "Traceback" not in said


def test_single_commands_agree_with_the_study(shapes, done, tmp_path, capsys):
    runs = done / "runs"
    assert here("evaluate", runs / "sl-seed0", shapes, f"--task unseen {PROBE} --out", tmp_path / "ev") == 0
    (alone,) = rows(tmp_path / "ev", metric="accuracy")
    (within,) = rows(done, run="sl-seed0", task="unseen", metric="accuracy", role="final")
    assert alone.value == within.value
    for side in ("source", "unseen"):
        assert here("features", runs / "sl-seed0", shapes, f"--classes {side} --out", tmp_path / f"{side}.npz") == 0
    held = np.load(tmp_path / "unseen.npy")
    assert held.shape == (102, 256)
    assert held.dtype == np.float32
    assert np.load(tmp_path / "unseen.npz")["y"].shape == (102,)
    capsys.readouterr()
    assert here("measure", tmp_path / "source.npz", "--against", tmp_path / "unseen.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out)["measures"]["discriminative_ratio_unseen"] > 0
    pair = [runs / "sl-seed0", runs / "sl-seed1", runs / "sl-mlp-seed0", runs / "sl-mlp-seed1"]
    assert here("compare", *pair, f"{PROBE} --out", tmp_path / "compared") == 0
    (difference,) = task(tmp_path / "compared")["comparisons"]
    first_two = task(done)["comparisons"][0]["per_seed"][:2]
    assert difference["per_seed"] == pytest.approx(first_two)


def test_the_page_ends_with_a_command_that_runs(shapes, done, tmp_path):
    command = json_files.read(done / "study.json", dict)["full_command"]
    assert command.startswith("slmlp pretrain ")
    words = command.removeprefix("slmlp ").split()
    words[words.index("--out") + 1] = str(tmp_path / "all")
    made = slmlp(*words, "--epochs 1")
    assert made.returncode == 0, made.stderr
    assert Run(tmp_path / "all").config["resolved"]["classes"] == 6  # all of them


def test_numbers_of_other_probe_settings_are_not_taken_for_these(shapes, done, tmp_path, capsys):
    run = done / "runs" / "sl-seed0"
    l2_values = []
    for folds in (3, 2):
        assert here("evaluate", run, shapes, f"--probe.folds {folds} --out", tmp_path / "ev") == 0
        (row,) = rows(tmp_path / "ev", metric="accuracy")  # the newest of the key
        l2_values.append(len(row.extra["l2"]))
    assert l2_values == [3, 2]
    assert capsys.readouterr().err.count("sl-seed0: unseen") == 2
    assert here("evaluate", run, shapes, "--probe.folds 2 --out", tmp_path / "ev") == 0
    assert "sl-seed0: unseen" not in capsys.readouterr().err


def test_the_encoder_kept_last_has_the_final_numbers(done):
    final = {r.metric: r.value for r in rows(done, run="sl-seed0", role="final")}
    last = {r.metric: r.value for r in rows(done, run="sl-seed0", role="curve", epoch=4)}
    earlier = {r.metric: r.value for r in rows(done, run="sl-seed0", role="curve", epoch=2)}
    assert last == final
    assert earlier.keys() == final.keys()
    assert earlier != final
