"""The transfer suite end to end: any encoders, folders of data, resumed, compared, on a page."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import browser as browsers
import suite_runs
from slmlp import api, config
from slmlp.config import OFFERED, TASKS
from slmlp.config.names import display
from slmlp.encoders import Encoder
from slmlp.evaluation.engine import settings_hash
from slmlp.experiments import suite
from slmlp.report import inputs, suite_ranking
from slmlp.report.suite import forest
from slmlp.results import records
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from suite_runs import QUICK, TRAINING

pytestmark = pytest.mark.slow

SPLIT_TASKS = ("unseen", "unseen-knn", "unseen-retrieval", "novelty", "semantic-distance", "source", "coarse-to-fine")


@pytest.fixture(scope="module")
def runs(shapes, once):
    return suite_runs.trained(shapes, once)


@pytest.fixture(scope="module")
def datasets(once):
    return suite_runs.data_sets(once)


@pytest.fixture(scope="module")
def done(shapes, once):
    return suite_runs.finished(shapes, once)


def test_every_encoder_is_asked_every_task_on_every_data_set(done):
    rows = records.read(done / "results.jsonl")
    asked = {(row.method, row.seed, row.data, row.task) for row in rows}
    methods = {("sl", 0), ("sl", 1), ("sl-mlp", 0), ("sl-mlp", 1), ("timm:test_resnet@random", 0)}
    methods |= {("random-init:resnet10", 0), ("random-init:test_resnet", 0)}
    assert asked == {(*who, data, task) for who in methods for data in ("grey-shapes", "plain") for task in QUICK.tasks}
    for row in rows:
        assert row.predictions is None or (done / row.predictions).exists()
    stages = [
        r.layer for r in rows if (r.run, r.data, r.task, r.metric) == ("sl-seed0", "plain", "layerwise", "accuracy")
    ]
    assert stages == ["stage1", "stage2", "stage3", "stage4", "stage5", "output"]
    last, whole = (
        next(r.value for r in rows if (r.run, r.data, r.task, r.layer, r.metric) == ("sl-seed0", "plain", *key))
        for key in (("layerwise", "output", "accuracy"), ("linear", "output", "accuracy"))
    )
    assert last == whole


def test_a_number_is_that_of_the_task_on_the_features(done, runs, datasets):
    """The suite's line against the same task on features written by the other command."""
    from slmlp import data
    from slmlp.evaluation.tasks.knn import knn

    cfg = dataclasses.replace(config.Suite(), extraction=QUICK.extraction)
    folder = str(datasets / "grey-shapes")
    train, test = (api.features(runs[2], folder, part=part, cfg=cfg) for part in ("train", "test"))
    expected = knn(train, test, QUICK.knn)[0]
    [line] = [
        row
        for row in records.read(done / "results.jsonl")
        if (row.run, row.data, row.task, row.metric) == ("sl-mlp-seed0", "grey-shapes", "knn", "accuracy")
    ]
    assert (line.value, line.n) == (expected.value, len(test))
    held = records.read_predictions(done / line.predictions)
    np.testing.assert_array_equal(held.predictions, expected.predictions.predictions)
    assert line.hashes["data"] == data.load(folder).hash()


def test_the_verdict_pairs_seeds_and_names_the_baseline(done):
    verdict = json_files.read(done / "verdict.json", dict)
    assert verdict["headline"] == "linear accuracy"
    compared = [c["b"] for c in verdict["tasks"]["linear accuracy"]["comparisons"]]
    assert compared == ["sl-mlp", "timm:test_resnet@random", "random-init:resnet10", "random-init:test_resnet"]
    first = verdict["tasks"]["linear accuracy"]["comparisons"][0]
    assert first["a"] == "sl"
    assert [(*one["data"], one["seeds"]) for one in first["sets"]] == [("grey-shapes", 2), ("plain", 2)]
    rows = records.read(done / "results.jsonl")

    def mean(method, data):
        return np.mean(
            [r.value for r in rows if (r.method, r.data, r.task, r.metric) == (method, data, "linear", "accuracy")]
        )

    for one in first["sets"]:
        assert one["difference"] == pytest.approx(100 * (mean("sl-mlp", *one["data"]) - mean("sl", *one["data"])))
    assert first["difference"] == pytest.approx(np.mean([one["difference"] for one in first["sets"]]))
    assert {"knn accuracy", "fewshot accuracy", "label-efficiency accuracy_at_1_shots"} <= verdict["tasks"].keys()


def test_the_page_holds_the_answer_and_loads_nothing(done):
    page = (done / "report.html").read_text()
    for words in ("grey-shapes", "Linear probe at every depth", "untrained encoder (resnet10)", "Few-shot episodes"):
        assert words in page
    assert "64 images scored;" in page  # 48 and 16 test images, each once though few-shot asks for it again and again
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    levels, differences, by_set = 2, 5 * 2, 2 * 2  # each wide and narrow: five baselines, two trained encoders
    labels, stages = 2 * 2, 2
    assert page.count('<svg class="chart') == levels + differences + by_set + labels + stages
    sentences = json_files.read(done / "verdict.json", dict)["sentences"]
    assert len(sentences) == 4 + 1  # one a comparison, and of which task they are
    assert all(len(sentence) < 160 for sentence in sentences)


@pytest.mark.browser
def test_the_page_holds_on_a_phone_in_the_dark(done, browser):
    browsers.check(browser, done / "report.html", "suite", 390, dark=True)


def test_the_ranking_has_every_encoder_with_its_interval_and_its_cost(done):
    folder = inputs.read(done)
    table = suite_ranking.costs(folder)
    means = folder.task["means"]
    assert [row.label for row in table.rows] == [
        display(name) for name in sorted(means, key=lambda name: -means[name]["value"])
    ]
    assert all(mean["low"] < mean["value"] < mean["high"] for mean in means.values())
    assert len(folder.task["every"]) == 5 * 4 / 2
    costs = {one["name"]: one for one in folder.about["encoders"]}
    assert costs["timm:test_resnet@random"]["parameters"] == costs["random-init:test_resnet"]["parameters"] > 300_000
    assert costs["sl"]["multiply_adds"] == costs["sl-mlp"]["multiply_adds"] > 1_000_000


def test_done_again_nothing_is_computed_and_no_line_is_added(done, runs, datasets, monkeypatch):
    from slmlp.evaluation import sources

    before = (done / "results.jsonl").read_bytes()
    monkeypatch.setattr(sources, "extract_layers", None)  # would fail if any feature were asked for
    monkeypatch.setattr(Encoder, "forward", None)  # nor are the untrained ones' statistics made again
    suite.suite([*runs, "timm:test_resnet@random"], done, datasets=str(datasets), cfg=QUICK)
    assert (done / "results.jsonl").read_bytes() == before


def test_killed_a_suite_goes_on_and_ends_in_the_same_file(done, runs, datasets, tmp_path):
    """Killed after some lines, by a signal that cannot be caught; the end is byte for byte the straight one's."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "slmlp", "suite", *runs, "timm:test_resnet@random", "--datasets", str(datasets)]
    words += ["--out", str(out), "--tasks", *QUICK.tasks, "--probe.l2", "1e-3", "1e-1", "--knn.neighbours", "5"]
    words += ["--fewshot.ways", "3", "--fewshot.shots", "2", "--fewshot.queries", "4", "--fewshot.episodes", "20"]
    words += ["--label-efficiency.fractions", "0.1", "1.0", "--label-efficiency.shots", "1", "4"]
    words += ["--label-efficiency.draws", "2"]
    words += ["--extraction.precision", "float32"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("grey-shapes: sl-mlp-seed0"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    part = (out / "results.jsonl").read_bytes()
    whole = (done / "results.jsonl").read_bytes()
    assert 0 < len(part) < len(whole)
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (out / "results.jsonl").read_bytes() == whole
    assert f"report: {out / 'report.html'}" in ended.stderr
    assert "\tlinear\toutput\taccuracy\t" in ended.stdout


def test_one_encoder_on_its_own(runs, datasets, tmp_path, capsys):
    from slmlp.cli import main

    words = ["evaluate", runs[0], str(datasets / "plain"), "--task", "centroid", "knn", "--knn.neighbours", "3"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "\tplain\tcentroid\toutput\taccuracy\t" in said
    assert "\tplain\tknn\toutput\taccuracy\t" in said
    rows = records.read(tmp_path / "one" / "results.jsonl")
    assert {(row.task, row.data) for row in rows} == {("centroid", "plain"), ("knn", "plain")}
    everywhere = ["evaluate", runs[0], "--datasets", str(datasets), "--task", "knn", "--out", str(tmp_path / "all")]
    assert main([*everywhere, "--knn.neighbours", "3"]) == 0
    assert "\tgrey-shapes\tknn\toutput\taccuracy\t" in capsys.readouterr().out
    words = ["evaluate", runs[0], str(datasets / "plain"), "--task", "knn", "--out", str(tmp_path / "all")]
    assert main([*words, "--knn.neighbours", "5"]) == 0  # in a folder that holds other data and settings
    assert capsys.readouterr().out.count("\tknn\toutput\taccuracy\t") == 1


def test_a_file_of_features_is_an_encoder_too(done, runs, datasets, tmp_path, capsys):
    from slmlp.cli import main

    folder, file = str(datasets / "grey-shapes"), tmp_path / "f.npz"
    assert main(["features", runs[0], folder, "--out", str(file), "--extraction.precision", "float32"]) == 0
    assert main(["evaluate", str(file), "--task", "knn", "--knn.neighbours", "5", "--out", str(tmp_path / "o")]) == 0
    [row] = [r for r in records.read(tmp_path / "o" / "results.jsonl") if r.metric == "accuracy"]
    [line] = [
        r
        for r in records.read(done / "results.jsonl")
        if (r.run, r.data, r.task, r.metric) == ("sl-seed0", "grey-shapes", "knn", "accuracy")
    ]
    assert row.value == line.value
    capsys.readouterr()
    assert main(["evaluate", str(file), "--task", "layerwise"]) == 2
    assert "needs images" in capsys.readouterr().err


def test_a_file_of_several_labels_an_image_gives_map(tmp_path, capsys):
    from sklearn.metrics import average_precision_score

    from slmlp.cli import main
    from slmlp.evaluation.tasks.linear import multilabel
    from slmlp.probes.multilabel import MultiLabel

    rng = np.random.default_rng(0)
    y = rng.random((240, 3)) < 0.4
    x = (y @ rng.normal(size=(3, 8)) + rng.normal(size=(240, 8))).astype(np.float32)
    parts = np.where(np.arange(240) < 160, "train", "test")
    file = tmp_path / "many.npz"
    np.savez(file, x=x, y=y.astype(np.int64), parts=parts)
    assert main(["evaluate", str(file), "--out", str(tmp_path / "o")]) == 0
    assert "\tlinear\toutput\tmap\t" in capsys.readouterr().out
    rows = {row.metric: row for row in records.read(tmp_path / "o" / "results.jsonl")}
    loaded = MultiLabel.load(file)
    expected = multilabel(loaded.select(parts == "train"), loaded.select(parts == "test"), config.Probe())[0]
    assert rows["map"].value == expected.value
    chance = np.mean([average_precision_score(y[160:, k], rng.random(80)) for k in range(3)])
    assert rows["map"].value > chance + 0.2
    assert main(["evaluate", str(file), "--task", "knn", "--out", str(tmp_path / "o")]) == 2
    assert "several labels each" in capsys.readouterr().err


def test_levels_and_fine_labels_of_a_run_under_a_split(shapes, shape_superclasses, tmp_path):
    options = config.DataOptions(superclasses=str(shape_superclasses))
    rule = config.Split(by="random", unseen_fraction=0.34)
    api.split(str(shapes), tmp_path / "s.json", rule, options)
    run = api.pretrain(
        str(shapes), tmp_path / "run", method="sl-mlp", training=TRAINING, split=tmp_path / "s.json",
        labels="superclass", options=options, progress=False,
    )  # fmt: skip
    cfg = dataclasses.replace(QUICK, probe=config.Probe(l2=(1e-2, 1e-1), folds=3), data=options)
    rows = api.evaluate(run.path, str(shapes), task=SPLIT_TASKS, cfg=cfg)
    by_task = {task: {r.metric: r for r in rows if r.task == task} for task in SPLIT_TASKS}
    levels = by_task["semantic-distance"]
    assert sum(r.n for r in levels.values()) == by_task["unseen"]["accuracy"].n
    weighed = sum(r.n * r.value for r in levels.values()) / by_task["unseen"]["accuracy"].n
    assert weighed == pytest.approx(by_task["unseen"]["accuracy"].value)
    assert by_task["coarse-to-fine"]["accuracy"].value == by_task["source"]["accuracy"].value
    assert by_task["coarse-to-fine"]["superclass_accuracy"].value >= by_task["coarse-to-fine"]["accuracy"].value

    cfg = dataclasses.replace(cfg, tasks=("novelty", "unseen-retrieval"))
    words, out = [str(run.path), "timm:test_resnet@random"], tmp_path / "suite"
    page = suite.suite(words, out, sources=[str(shapes)], split=tmp_path / "s.json", cfg=cfg).read_text()
    verdicts = json_files.read(out / "verdict.json", dict)["tasks"]
    keys = [f"novelty {rate}_{by}" for by in ("knn", "energy") for rate in ("auroc", "fpr95")]
    assert {*keys, "unseen-retrieval map_at_r"} <= verdicts.keys()
    held = {(r.task, r.metric, r.layer): r.value for r in rows}
    behind = verdicts["novelty auroc_knn"]["means"]["sl-mlp@projector.output"]
    assert behind["value"] == pytest.approx(100 * held["novelty", "auroc_knn", "projector.output"])
    assert verdicts["novelty auroc_knn"]["means"]["sl-mlp"]["value"] == pytest.approx(
        100 * held["novelty", "auroc_knn", "output"]
    )
    assert "SL-MLP behind its projector" in page
    assert "Telling source from unseen classes: FPR95 by energy" in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["suite", "RUN", "--datasets", "DATASETS", "--tasks", "liner"], "unknown task 'liner': did you mean 'linear'"),
        (["suite", "RUN", "--out", "OUT"], "no data set to evaluate on"),
        (["suite", "RUN", "RUN", "--datasets", "DATASETS"], "are both sl with seed 0: give them names of their own"),
        (["suite", "RUN", "--datasets", "DATASETS", "--tasks", "unseen"], "need --split FILE"),
        (["suite", "no-such-run", "--datasets", "DATASETS"], "no encoder at no-such-run"),
        (["evaluate", "RUN", "SHAPES", "--task", "unseen"], "was trained without a split"),
        (["evaluate", "RUN", "SHAPES", "--task", "knn", "--knn.neighbours", "100000"], "neighbours"),
    ],
)
def test_bad_words_are_one_line(runs, datasets, shapes, tmp_path, capsys, words, line):
    from slmlp.cli import main

    names = {"RUN": runs[0], "DATASETS": str(datasets), "OUT": str(tmp_path / "o"), "SHAPES": str(shapes)}
    words = [names.get(word, word) for word in words]
    assert main(words if "--out" in words else [*words, "--out", str(tmp_path / "o")]) == 2
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("slmlp: ")]
    assert len(said) == 1
    assert line in said[0]


def test_lines_under_a_name_that_an_encoder_no_longer_has_are_not_its_own(runs, datasets, tmp_path):
    shutil.copytree(runs[1], tmp_path / "runs" / "sl_cosine=true-seed1")
    words, out = [str(tmp_path / "runs" / "sl_cosine=true-seed1")], tmp_path / "o"
    cfg = dataclasses.replace(QUICK, tasks=("centroid",))

    def asked():
        suite.suite(words, out, sources=[str(datasets / "plain")], cfg=cfg)
        found = inputs.read(out)
        values = {name: found.find("centroid", "accuracy", name, data="plain") for name in ("sl", "sl:cosine=true")}
        return found.methods[0], {name: [row.value for row in rows] for name, rows in values.items()}

    first, values = asked()
    assert (first, values["sl:cosine=true"]) == ("sl", [])
    json_files.write(tmp_path / "study.json", {"contenders": ["sl:cosine=true"]})
    renamed, again = asked()
    assert (renamed, again) == ("sl:cosine=true", {"sl": [], "sl:cosine=true": values["sl"]})


def test_long_names_keep_apart_under_a_chart_on_a_screen_and_on_a_phone():
    one = {"a": "sl", "b": "timm:long_name@w.safetensors", "data": ["one"], "difference": 1.0, "low": 0.5, "high": 1.5}
    for drawing in forest(["sl", one["b"]], {**one, "sentence": "w", "sets": [one], "random_effects": None}, "f"):
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1])
        ends = re.findall(r">(← [^<]* better|[^<>]* better →)<", drawing)
        assert ends[0] == "← SL better"
        assert len(ends) == 2
        assert sum(map(len, ends)) * 6.5 < width  # of the letters' width at 12 px
        assert ">difference, percentage points<" in drawing


def test_two_data_sets_of_one_name_are_refused(runs, datasets, tmp_path):
    shutil.copytree(datasets / "plain", tmp_path / "plain")
    with pytest.raises(SlmlpError, match="are both named plain"):
        suite.suite(runs[:1], tmp_path / "o", datasets=str(datasets), sources=[str(tmp_path / "plain")], cfg=QUICK)


def test_numbers_of_an_earlier_probe_are_not_taken_for_this_ones(monkeypatch):
    from slmlp.config import study

    before = {task: settings_hash(task, config.Suite()) for task in OFFERED}
    monkeypatch.setattr(study, "PROBE_VERSION", study.PROBE_VERSION + 1)
    moved = {task for task in OFFERED if settings_hash(task, config.Suite()) != before[task]}
    assert moved == {task for task in OFFERED if "probe" in TASKS[task].settings}


def test_every_setting_of_a_task_decides_its_hash():
    """A setting that changes numbers must make its lines count as others."""
    base = config.Suite()
    for task in OFFERED:
        for name in TASKS[task].settings:
            held = getattr(base, name)
            for field in dataclasses.fields(held):
                value = getattr(held, field.name)
                other = {
                    int: lambda v: v + 1,
                    float: lambda v: v + 0.5,
                    str: lambda v: v + "x",
                    tuple: lambda v: (*v, 1),
                }
                changed = (
                    dataclasses.replace(held, **{field.name: other[type(value)](value)})
                    if type(value) in other
                    else held
                )
                moved = settings_hash(task, dataclasses.replace(base, **{name: changed})) != settings_hash(task, base)
                assert moved == (field.name != "memory_limit_gb"), (task, field.name)
