"""A detection run: training, evaluation, resuming after a kill, comparison and page; on one process and on two."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import browser as browsers
import tiny
from detection_data import QUICK, data_set, encoder, packed, settings
from dist_launch import ended, started
from slmlp import cli
from slmlp.cli.detecting import Detect
from slmlp.cli.parse import parse
from slmlp.detection import detect, model, predict, summary, train
from slmlp.detection.evaluate import average_precision
from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load
from slmlp.detection.samples import Samples, order_plan
from slmlp.report import choice
from slmlp.report.words import signed
from slmlp.results import records
from slmlp.runtime import device
from slmlp.runtime.errors import SlmlpError

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
from slmlp import cli
from slmlp.detection import train
steps = train.lr_at
def until(step, *rest):
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return steps(step, *rest)
train.lr_at = until
sys.exit(cli.main(sys.argv[1:]))
"""


def flags(**other) -> list[str]:
    words = []
    for key, value in {**QUICK, **other}.items():
        words += [f"--{key.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


@pytest.fixture(scope="module")
def place(once):
    """A folder with data (a folder and a tar, with masks; another with boxes) and two encoders."""

    def make(root):
        (root / "coco").mkdir()
        (root / "boxes").mkdir()
        packed(data_set(root / "coco"), root / "coco.tar")
        data_set(root / "boxes", masks=False)
        for name, seed in (("a", 1), ("b", 2)):
            encoder(seed).save(root / f"{name}.safetensors")

    return once("detect", make)


def both(place: Path, out: Path) -> list[str]:
    """Two encoders and both controls, evaluated on two parts."""
    words = ["detect", f"{place}/a.safetensors", f"{place}/b.safetensors", f"{place}/coco.tar", "--out", str(out)]
    return [*words, *flags(evaluate=("val", "train"), controls=("random", "random-frozen"))]


@pytest.fixture(scope="module")
def straight(place, once):
    def make(out):
        assert cli.main(both(place, out)) == 0

    return once("detect-straight", make)


def test_every_row_has_its_numbers_predictions_and_detector(place, straight):
    rows = records.read(straight / "results.jsonl")
    names = {"a", "b", "random-init", "random-frozen"}
    assert {row.method for row in rows} == names
    assert {row.task for row in rows} == {"detect", "detect-train"}
    truth = load(find_parts(str(place / "coco"), {})["val"]).truth()
    for name in names:
        mine = {row.metric: row for row in rows if row.method == name and row.task == "detect"}
        assert {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50"} <= set(mine)
        line = mine["mask_ap"]
        assert (line.data, line.n, line.encoder) == ("coco", 5, "test_resnet")
        assert line.role == ("final" if name in "ab" else "baseline")
        assert set(line.hashes) == {"encoder", "data", "detector"}
        found = predict.read(straight / line.predictions)
        again = average_precision(truth, found, "mask") | average_precision(truth, found, "box")
        assert {metric: row.value for metric, row in mine.items()} == pytest.approx(again)
        folder = straight / "detectors" / name
        assert (folder / "detector.safetensors").exists()
        assert not list((folder / "checkpoints").glob("*.ckpt"))
        logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in logged] == [1, 2, 3]
    start = encoder(0)  # the random controls have seed 0, as the files that name no run
    frozen = load_file(straight / "detectors" / "random-frozen" / "detector.safetensors")
    moved = load_file(straight / "detectors" / "random-init" / "detector.safetensors")
    key = "layer1.0.conv1.weight"
    assert torch.equal(frozen[f"network.backbone.body.{key}"], start.weights()[key])
    assert not torch.equal(moved[f"network.backbone.body.{key}"], start.weights()[key])


@pytest.mark.browser
def test_the_page_holds_on_a_wide_screen_in_the_dark(straight, browser):
    browsers.check(browser, straight / "report.html", "detection", 1280, dark=True)


@pytest.mark.browser
def test_the_reader_chooses_the_baseline_sorts_and_copies(straight, browser):
    verdict = json.loads((straight / "verdict.json").read_text())
    task = verdict["tasks"][verdict["headline"]]
    names = ["a", "b", "random-init", "random-frozen"]
    assert {frozenset((c["a"], c["b"])) for c in task["every"]} == {
        frozenset(two) for two in itertools.combinations(names, 2)
    }
    with browsers.Opened(browser, straight / "report.html") as opened:
        page = opened.page
        page.get_by_label("Compare with").select_option("untrained encoder")
        shown = page.locator(".choice .option:visible")
        shown.locator("summary").click()
        rows = shown.locator("tbody tr").all_inner_texts()
        expected = choice.against(task, names, "random-init")
        assert [c["b"] for c in expected] == ["a", "b", "random-frozen"]
        for row, one in zip(rows, expected, strict=True):
            assert row.split("\t")[1] == signed(one["difference"])
        table = (
            page.locator("section", has=page.get_by_role("heading", name="Average precision")).locator("table").first
        )
        heading = table.locator("thead th").nth(1)
        heading.locator("button").click()
        cells = [row.locator("th, td").nth(1).inner_text().split("\n")[0] for row in table.locator("tbody tr").all()]
        assert heading.get_attribute("aria-sort") == "descending"
        assert cells == sorted(cells, key=float, reverse=True)
        assert page.locator("button.csv:visible").count() >= 2
        assert opened.messages == []


def test_the_page_shows_table_differences_and_pictures(straight):
    page = (straight / "report.html").read_text()
    verdict = json.loads((straight / "verdict.json").read_text())
    assert [(c["a"], c["b"]) for c in verdict["tasks"]["detect box_ap"]["comparisons"]] == [
        ("a", "b"), ("random-init", "a"), ("random-frozen", "a"), ("random-init", "b"), ("random-frozen", "b")
    ]  # fmt: skip
    assert verdict["note"].startswith("one seed per encoder")
    pictures = sorted((straight / "pictures").glob("*.png"))
    assert [p.name for p in pictures] == ["000.png", "004.png"]
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    for words in ("mask AP50", "untrained encoder, frozen", "A short training.", "Few images.", "pycocotools"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_was_read_is_written(place, straight):
    facts = json.loads((straight / "data.json").read_text())
    parts = {name: load(files) for name, files in find_parts(str(place / "coco"), {}).items()}
    assert {name: (f["images"], f["objects"], f["hash"]) for name, f in facts.items()} == {
        name: (len(part), part.objects, part.hash()) for name, part in parts.items()
    }


def test_a_dry_run_says_what_is_left_and_writes_nothing(place, straight, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in straight.rglob("*")}
    assert cli.main([*both(place, straight), "--dry-run"]) == 0
    assert "plan: 4 detectors, 4 of them done, about 0 s on this machine, 0 bytes" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in straight.rglob("*")} == before
    words = [*both(place, tmp_path / "new"), "--dry-run", "--json"]
    assert cli.main(words) == 0
    first, left = json.loads(capsys.readouterr().out)["plan"]
    size = re.fullmatch(r"4 detectors, about \d+ \w+ on this machine, ([\d.]+) MB", first)[1]
    weights = [file.stat().st_size for file in straight.glob("detectors/*/detector.safetensors")]
    assert float(size) * 1e6 == pytest.approx(sum(weights) + 4 * max(weights), rel=0.05)
    assert left == "left: a, b, random-init, random-frozen"
    assert list(tmp_path.iterdir()) == []


def test_its_command_is_a_file(place, straight):
    command = parse(Detect, "detect", ["--config", str(straight / "command.yaml"), "--out", "x"])
    assert command.words == tuple(str(place / name) for name in ("a.safetensors", "b.safetensors", "coco.tar"))
    assert command.detection == settings(evaluate=("val", "train"), controls=("random", "random-frozen"))


def test_what_is_done_is_not_done_again(place, straight, monkeypatch, capsys):
    before = (straight / "results.jsonl").read_bytes()
    monkeypatch.setattr(train, "fit", None)
    monkeypatch.setattr(predict, "predict", None)
    assert cli.main(both(place, straight)) == 0
    assert (straight / "results.jsonl").read_bytes() == before
    assert "box_ap50" in capsys.readouterr().out
    with pytest.raises(SlmlpError, match=r"holds another detector \(it differs in settings"):
        detect([f"{place}/a.safetensors"], f"{place}/coco.tar", straight, cfg=settings(roi_batch_size=32))


def test_numbers_that_are_taken_away_before_the_page_are_named(place, straight, tmp_path, monkeypatch, capsys):
    out, written = shutil.copytree(straight, tmp_path / "out"), summary.write

    def taken(detectors, *rest):
        (detectors.folder / "results.jsonl").unlink()
        return written(detectors, *rest)

    monkeypatch.setattr(summary, "write", taken)
    assert cli.main(both(place, out)) == 2
    assert "lost numbers that were in it" in capsys.readouterr().err


def test_killed_it_goes_on_and_ends_bit_for_bit_the_same(place, straight, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    words = ["detect", f"{place}/a.safetensors", f"{place}/coco.tar", "--out", str(tmp_path / "run"),
             *flags(evaluate=("val", "train"), checkpoint_minutes=0)]  # fmt: skip
    words += ["--controls"]  # none
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = tmp_path / "run" / "detectors" / "a"
    assert [p.name for p in sorted((kept / "checkpoints").iterdir())] == ["step-000000001.ckpt", "step-000000002.ckpt"]
    assert not (tmp_path / "run" / "results.jsonl").exists()
    assert cli.main(words) == 0
    found, expected = (load_file(p / "detector.safetensors") for p in (kept, straight / "detectors" / "a"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    gone = [json.loads(line) for line in (kept / "metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (straight / "detectors" / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in gone] == [row["loss"] for row in whole]


def test_ap_before_training_and_boxes_alone(place, tmp_path):
    cfg = settings(evaluate_start=True, norm="sync", controls=())
    detect([f"x={place}/a.safetensors"], str(place / "boxes"), tmp_path / "out", cfg=cfg)
    rows = records.read(tmp_path / "out" / "results.jsonl")
    assert {row.metric.split("_")[0] for row in rows} == {"box"}
    assert {(row.role, row.epoch) for row in rows} == {("curve", 0), ("final", None)}
    assert {row.method for row in rows} == {"x"}
    assert "Faster R-CNN on boxes" in (tmp_path / "out" / "report.html").read_text()
    assert "before training" in (tmp_path / "out" / "report.html").read_text()


def test_two_processes_train_one_detector(place, tmp_path):
    words = ["-m", "slmlp", "detect", f"{place}/a.safetensors", f"{place}/coco.tar", "--out", tmp_path / "run",
             *flags(norm="sync", batch_size=4, steps=2), "--controls"]  # fmt: skip
    outcome = ended(started(2, *words))
    assert [code for code, _, _ in outcome] == [0, 0], outcome[0][2] + outcome[1][2]
    assert outcome[0][2].count("report: ") == 1
    assert outcome[0][1].startswith("method\t")
    assert outcome[1][1] == ""
    rows = records.read(tmp_path / "run" / "results.jsonl")
    assert len({row.metric for row in rows}) == len(rows) > 4
    about = json.loads((tmp_path / "run" / "detectors" / "a" / "config.json").read_text())
    assert about["machine"]["processes"] == 2


@pytest.mark.parametrize(
    ("encoders", "data", "more", "said"),
    [
        (["gone"], "coco", {}, "no encoder at gone"),
        (["small"], "coco", {}, "small-image stem"),
        (["vit"], "coco", {}, "no stages that an FPN can stand on"),
        (["a"], "gone", {}, "no data at"),
        (["a"], "coco", {"evaluate": ("test",)}, "no annotations of the test part"),
        (["a", "small"], "coco", {}, "small-image stem"),
        (["a"], "coco", {"batch_size": 7}, "--batch-size 7 is more than the 6 training images"),
        (["a", "a"], "coco", {}, "are both a with seed 0: give them names of their own"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, tmp_path, capsys, encoders, data, more, said):
    for name, stem, network in (("small", "small", "test_resnet"), ("vit", "standard", "test_vit")):
        encoder(0, network, stem).save(tmp_path / f"{name}.safetensors")
    where = {"a": place / "a.safetensors", "small": tmp_path / "small.safetensors", "vit": tmp_path / "vit.safetensors"}
    words = ["detect", *(str(where.get(name, name)) for name in encoders), str(place / data)]
    assert cli.main([*words, "--out", str(tmp_path / "out"), *flags(**more)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("slmlp: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_loss_falls_on_four_real_images():
    if "SLMLP_DATA" not in os.environ:
        pytest.skip("SLMLP_DATA names no folder of real data")
    data = load(find_parts(str(Path(os.environ["SLMLP_DATA"]) / "detection" / "tinycoco.tar"), {})["train"])
    cfg = settings(batch_size=4, steps=24, roi_batch_size=16, warmup=4, base_lr=0.04)
    detector = model.build(encoder(0), len(data.categories), True, cfg, False)
    samples = Samples(data, order_plan(4, cfg, 24), cfg, True, slice(None))
    compute = device.choose(detector, "cpu", "float32")
    rows = tiny.rows(train.start(detector, cfg), samples, train.schedule(cfg, 24), compute)
    losses = [row["loss"] for row in rows]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
