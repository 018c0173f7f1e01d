"""Images of several labels: from the manifest to mean average precision, its interval, and a paired verdict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import average_precision_score

from slmlp import config, data
from slmlp.cli import main
from slmlp.results import records
from slmlp.results.metrics import bootstrap_interval, bootstrap_map, bootstrap_runs, weighted_average_precision
from slmlp.results.records import Scores
from slmlp.results.verdict import judge_over_datasets
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError

SHAPES = ("circle", "line", "square")
PIPE = config.DataOptions(label_separator="|")


def write_several(root: Path, seed: int = 0) -> None:
    """Write 150 pictures of up to three shapes, with the manifest as CSV and as JSON lines."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(150):
        names = [name for name in SHAPES if rng.random() < 0.4]
        image = Image.new("RGB", (24, 24), tuple(rng.integers(0, 90, 3).tolist()))
        pen = ImageDraw.Draw(image)
        for name in names:
            x, y = rng.integers(6, 18, 2).tolist()
            ink = tuple(rng.integers(150, 255, 3).tolist())
            if name == "circle":
                pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=ink)
            elif name == "square":
                pen.rectangle((x - 3, y - 3, x + 3, y + 3), outline=ink)
            else:
                pen.line((0, y, 24, y), fill=ink, width=2)
        image.save(root / f"{i:03d}.png")
        rows.append((f"{i:03d}.png", names, "train" if i < 100 else "test", f"film{i // 2}"))
    with (root / "several.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "part", "group"])
        writer.writerows([path, "|".join(names) or "|", *rest] for path, names, *rest in rows)
    (root / "several.jsonl").write_text(
        "".join(json.dumps({"path": p, "label": n[::-1], "part": part, "group": u}) + "\n" for p, n, part, u in rows)
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("several")
    write_several(root)
    return root


def test_a_table_and_a_list_of_labels_are_the_same_images(drawn):
    table, lists = (data.load(str(drawn / f"several.{kind}"), PIPE) for kind in ("csv", "jsonl"))
    assert table.hash() == lists.hash()
    assert table.several("|")
    assert not table.several(None)
    assert {"|", "circle", "circle|line|square"} <= set(table.classes)


def test_lists_without_a_separator_and_labels_that_hold_it_are_refused(drawn, tmp_path):
    with pytest.raises(SlmlpError, match=r"several.jsonl, line 1: label is a list, .* pass --label-separator '\|'"):
        data.load(str(drawn / "several.jsonl"))
    with pytest.raises(SlmlpError, match="--label-separator must be the character"):
        data.load(str(drawn / "several.csv"), config.DataOptions(label_separator=""))
    (tmp_path / "m.jsonl").write_text('{"path": "a.png", "label": ["x|y", "z"]}\n')
    with pytest.raises(SlmlpError, match=r"label 'x\|y' holds the separator '\|'"):
        data.load(str(tmp_path / "m.jsonl"), PIPE)


@pytest.fixture(scope="module")
def done(drawn, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "suite"
    words = [
        "suite",
        "raw=timm:test_resnet@random",
        "other=timm:resnet10t@random",
        "--also",
        str(drawn / "several.csv"),
    ]
    words += ["--label-separator", "|", "--tasks", "linear", "--probe.l2", "1e-2", "1e-1", "--out", str(out)]
    assert main([*words, "--preprocess.size", "32"]) == 0
    return out


@pytest.mark.slow
def test_map_is_scikit_learns_of_the_scores_that_are_kept(done, drawn):
    rows = [r for r in records.read(done / "results.jsonl") if r.metric == "map"]
    assert {r.method for r in rows} >= {"raw", "other"}
    images = data.load(str(drawn / "several.csv"), PIPE).of_part("test")
    for row in rows:
        kept = records.read_scores(done / row.predictions)
        assert kept.classes == SHAPES
        assert kept.ids.tolist() == list(images.ids)
        assert kept.groups.tolist() == images.groups.tolist()
        names = [images.classes[y].split("|") for y in images.labels]
        np.testing.assert_array_equal(kept.on, [[shape in labels for shape in SHAPES] for labels in names])
        assert row.value == pytest.approx(average_precision_score(kept.on, kept.scores, average="macro"))
        assert row.interval[0] < row.value < row.interval[1]
        assert row.n == 50


@pytest.mark.slow
def test_verdict_and_page_compare_the_mean_average_precision(done):
    verdict = json_files.read(done / "verdict.json", dict)
    held = verdict["tasks"]["linear map"]
    by_hand = {r.method: 100 * r.value for r in records.read(done / "results.jsonl") if r.metric == "map"}
    for c in held["comparisons"]:
        assert c["difference"] == pytest.approx(by_hand[c["b"]] - by_hand[c["a"]])
        assert c["low"] < c["difference"] < c["high"]
        assert (c["images"], c["groups"]) == (50, 25)
        (one,) = c["sets"]
        assert [one[key] for key in ("low", "high", "p", "p_holm")] == pytest.approx(
            [c[key] for key in ("low", "high", "p", "p_holm")]
        )
    assert [c["b"] for c in held["comparisons"]] == [m for m in by_hand if m != "raw"]
    assert all(" on several" in sentence and "points of mAP (95 % CI " in sentence for sentence in verdict["sentences"])
    assert all(", 50 images in 25 groups of related images)" in sentence for sentence in held["sentences"])
    page = (done / "report.html").read_text()
    assert "mean average precision" in page
    assert "points of mAP" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "timm:test_resnet@random", "DATA", "--task", "knn", "--out", "OUT"], "have several labels each"),
        (["pretrain", "DATA", "--method", "sl", "--out", "OUT"], "pretraining takes one label per image"),
        (["study", "DATA", "--out", "OUT"], "pretraining takes one label per image"),
    ],
)
def test_what_needs_one_label_is_refused(drawn, tmp_path, capsys, words, said):
    place = {"DATA": str(drawn / "several.csv"), "OUT": str(tmp_path / "out")}
    assert main([*(place.get(word, word) for word in words), "--label-separator", "|"]) == 2
    assert said in capsys.readouterr().err


def test_data_without_parts_is_refused(drawn, tmp_path, capsys):
    lines = (drawn / "several.csv").read_text().replace(",train,", ",,").replace(",test,", ",,")
    (drawn / "no-parts.csv").write_text(lines)
    words = ["evaluate", "timm:test_resnet@random", str(drawn / "no-parts.csv"), "--label-separator", "|"]
    assert main([*words, "--task", "linear", "--out", str(tmp_path / "out")]) == 2
    assert "images of several labels need parts" in capsys.readouterr().err


# Numbers against a second form


def scores_of(seed: int, skill: float, groups: int = 30) -> Scores:
    rng = np.random.default_rng(0)
    on = rng.random((60, 4)) < 0.3
    noise = np.random.default_rng(seed).standard_normal(on.shape)
    ids = np.array([f"{i:02d}" for i in range(60)])
    names = np.array([f"u{i % groups}" for i in range(60)])
    return Scores(ids, names, ("a", "b", "c", "d"), on, (skill * on + noise).round(1).astype(np.float32))


def test_precision_on_draws_is_that_of_images_repeated():
    rows, rng = scores_of(1, 1.0), np.random.default_rng(3)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=20)
    for k in range(4):
        found = weighted_average_precision(rows.scores[:, k], rows.on[:, k], weights.astype(float))
        for value, counts in zip(found, weights, strict=True):
            on, scores = (np.repeat(x[:, k], counts) for x in (rows.on, rows.scores))
            assert value == pytest.approx(average_precision_score(on, scores))
    assert np.isnan(weighted_average_precision(np.arange(3.0), np.array([True, False, False]), np.eye(3)[1:2])).all()


def test_draws_keep_groups_whole():
    one = scores_of(1, 1.0, 60)
    three = [np.repeat(x, 3, axis=0) for x in (one.on, one.scores)]  # three pictures of each scene, all alike
    ids = np.array([f"{i:03d}" for i in range(180)])
    whole = Scores(ids, np.repeat(one.ids, 3), one.classes, *three)
    apart = Scores(ids, ids, one.classes, *three)
    width = {name: np.diff(bootstrap_interval(r, "map"))[0] for name, r in (("1", one), ("3", whole), ("no", apart))}
    assert width["3"] == pytest.approx(width["1"], rel=0.02)  # copies add nothing
    assert width["no"] == pytest.approx(width["1"] / np.sqrt(3), rel=0.2)
    assert bootstrap_interval(scores_of(1, 1.0, 1), "map") is None
    found = bootstrap_map(scores_of(1, 1.0))
    rows = scores_of(1, 1.0)
    assert found.groups == 30
    assert found.value == pytest.approx(average_precision_score(rows.on, rows.scores, average="macro"))
    assert abs(found.replicates.mean() - found.value) < 0.05


def test_the_judge_pairs_seeds_and_takes_a_single_run_for_each():
    runs = {
        "sl": {s: scores_of(s, 0.8) for s in (0, 1, 2)},
        "sl-mlp": {s: scores_of(10 + s, 3.0) for s in (0, 1, 2)},
        "foreign": {0: scores_of(20, 0.8)},
    }

    def judge(runs, baseline):
        sets = {method: {"films": by_seed} for method, by_seed in runs.items()}
        verdict = judge_over_datasets(bootstrap_runs(sets, baseline), baseline, metric="map")
        return [single for c in verdict.comparisons for single in c.sets]

    better, other = judge(runs, "sl")
    value = {m: 100 * np.mean([bootstrap_map(r).value for r in of.values()]) for m, of in runs.items()}
    assert (better.winner, better.seeds) == ("sl-mlp", 3)
    assert better.difference == pytest.approx(value["sl-mlp"] - value["sl"])
    assert (other.winner, other.seeds) == (None, 3)
    assert other.difference == pytest.approx(value["foreign"] - value["sl"])
    [same] = judge({"a": runs["sl"], "b": runs["sl"]}, "a")
    assert (same.difference, same.winner) == (0.0, None)
    wrong = scores_of(1, 1.0)
    runs["foreign"] = {0: Scores(wrong.ids[::-1], wrong.groups, wrong.classes, wrong.on, wrong.scores)}
    with pytest.raises(SlmlpError, match="foreign, seed 0, has scores of other images or labels of films than SL"):
        judge(runs, "sl")
