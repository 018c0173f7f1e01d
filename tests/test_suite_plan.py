"""The plan of a suite: what is done and left as the suite itself finds it, nothing written; its command as a file.

Claims: a dry run leaves no trace and refuses what the suite would; lines that are gone are left, and so is an untrained
encoder whose statistics are gone; a file that cannot be read changes nothing of what is done; command.yaml makes the
same again; images per second are on the page.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest
import yaml

import suite_runs
from slmlp import api, cli, config
from slmlp.cli.parse import parse
from slmlp.cli.transfer import Suite
from slmlp.experiments.suite.main import suite
from slmlp.report import inputs, suite_ranking
from slmlp.results import records
from suite_runs import QUICK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(shapes, once):
    return suite_runs.trained(shapes, once)


@pytest.fixture(scope="module")
def datasets(once):
    return suite_runs.data_sets(once)


@pytest.fixture(scope="module")
def done(shapes, once):
    return suite_runs.finished(shapes, once)


def dry(encoders, out, sets, capsys, cfg=QUICK):
    """Return the lines of a dry run's plan."""
    capsys.readouterr()
    suite(encoders, out, datasets=str(sets), cfg=cfg, dry_run=True)
    found = capsys.readouterr().err.splitlines()
    start = next(i for i, line in enumerate(found) if line.startswith("plan: "))
    return found[start:]


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_suite_has_nothing_left_and_a_dry_run_writes_nothing(done, runs, datasets, tmp_path, capsys):
    everyone = [*runs, "timm:test_resnet@random"]
    before = state(done)
    first, *sets, _ = dry(everyone, done, datasets, capsys)
    assert first.startswith("plan: 98 numbers (7 encoders with 7 tasks on 2 data sets), 98 of them done, about 0 s on")
    assert [line.partition(":")[0] for line in sets] == ["grey-shapes", "plain"]
    assert all("left" not in line for line in sets)
    assert state(done) == before
    first, *sets, _ = dry(everyone, tmp_path / "new", datasets, capsys)
    assert re.match(r"plan: 98 numbers \(.*\), about \d+ \w+ on this machine, [\d.]+ \wB$", first)
    assert all("done" not in line for line in sets)
    assert list(tmp_path.iterdir()) == []


def test_lines_and_statistics_that_are_gone_are_left(done, runs, datasets, tmp_path, capsys):
    copy = shutil.copytree(done, tmp_path / "copy")
    lines = (copy / "results.jsonl").read_text().splitlines()
    gone = [line for line in lines if (row := json.loads(line))["task"] == "knn" and row["run"] == "sl-seed1"]
    (copy / "results.jsonl").write_text("".join(f"{line}\n" for line in lines if line not in gone))
    assert gone
    everyone = [*runs, "timm:test_resnet@random"]
    first, *sets, _ = dry(everyone, copy, datasets, capsys)
    assert "96 of them done" in first
    assert all(line.split(": ", 1)[1].startswith("left: knn of sl-seed1; done: linear, fewshot") for line in sets)
    for file in (copy / "cache" / "features").glob("norms-*"):
        file.unlink()
    assert "68 of them done" in dry(everyone, copy, datasets, capsys)[0]  # 14 numbers of each untrained encoder less
    wider = dataclasses.replace(QUICK, knn=config.Knn(neighbours=3))
    assert "60 of them done" in dry(everyone, copy, datasets, capsys, wider)[0]  # of the four others two


def test_a_file_that_cannot_be_read_is_no_reason_to_do_it_again(datasets, tmp_path, capsys):
    shutil.copytree(datasets / "grey-shapes", tmp_path / "sets" / "grey")
    next((tmp_path / "sets" / "grey" / "train").rglob("*.png")).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    cfg = dataclasses.replace(QUICK, tasks=("centroid",), data=config.DataOptions(allow_unreadable=True))
    suite(["timm:test_resnet@random"], tmp_path / "out", datasets=str(tmp_path / "sets"), cfg=cfg)
    assert (tmp_path / "out" / "data" / "grey" / "unreadable.txt").exists()
    assert "2 of them done" in dry(["timm:test_resnet@random"], tmp_path / "out", tmp_path / "sets", capsys, cfg)[0]


def test_what_the_suite_would_stop_with_is_told(runs, datasets, tmp_path, capsys):
    for more, said in (("--tasks unseen", "need --split"), ("--also nowhere", "'nowhere' does not exist")):
        words = [
            "suite",
            runs[0],
            "--datasets",
            str(datasets),
            *more.split(),
            "--dry-run",
            "--out",
            str(tmp_path / "x"),
        ]
        assert cli.main(words) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_plan(runs, datasets, tmp_path, capsys):
    words = ["suite", runs[0], "--datasets", str(datasets), "--tasks", "centroid", "--dry-run", "--json"]
    assert cli.main([*words, "--out", str(tmp_path / "x")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dry_run"]
    assert document["plan"][0].startswith("4 numbers (2 encoders with 1 task on 2 data sets), about")


def test_its_command_is_a_file_that_makes_it_again(done, runs, datasets, tmp_path, monkeypatch):
    content = yaml.safe_load((done / "command.yaml").read_text())
    assert content["command"] == "suite"
    assert "out" not in content
    command = parse(Suite, "suite", ["--config", str(done / "command.yaml"), "--out", "x"])
    assert (command.encoders, command.datasets) == ((*runs, "timm:test_resnet@random"), str(datasets))
    assert command.suite == QUICK
    monkeypatch.chdir(datasets)
    words = ["--also", "plain", "--tasks", "centroid", "--out", str(tmp_path / "first")]
    assert cli.main(["suite", f"mine={runs[0]}", *words]) == 0
    monkeypatch.chdir("/")
    file = str(tmp_path / "first" / "command.yaml")
    assert cli.main(["suite", "--config", file, "--out", str(tmp_path / "other")]) == 0
    first, other = (records.read(tmp_path / name / "results.jsonl") for name in ("first", "other"))
    assert [(row.key(), row.value) for row in first] == [(row.key(), row.value) for row in other]


def test_an_evaluation_is_made_again_by_its_file_and_a_runs_own_stays(runs, datasets, tmp_path, monkeypatch):
    run = shutil.copytree(runs[0], tmp_path / "run")
    before = (run / "command.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    cfg = config.TaskSettings(knn=config.Knn(neighbours=3))
    rows = api.evaluate("run", str(datasets / "plain"), task="knn", cfg=cfg)
    file = run / "evaluation" / "command.yaml"
    monkeypatch.chdir("/")
    assert cli.main(["evaluate", "--config", str(file), "--out", str(tmp_path / "again")]) == 0
    again = records.read(tmp_path / "again" / "results.jsonl")
    assert [(row.key(), row.value) for row in again] == [(row.key(), row.value) for row in rows]
    api.evaluate(str(run), str(datasets / "plain"), task="knn", cfg=cfg, out=run)
    assert (run / "command.yaml").read_text() == before  # of the run that the folder is of


def test_images_a_second_stand_on_the_page_and_stay_when_nothing_is_left(done, runs, datasets):
    about = json.loads((done / "suite.json").read_text())
    assert all(one["images_per_second"] > 0 and one["measured_on"] for one in about["encoders"])
    table = suite_ranking.costs(inputs.read(done))
    assert table.headings[-1] == "features, images/s"
    assert about["encoders"][0]["measured_on"] in table.note
    suite([*runs, "timm:test_resnet@random"], done, datasets=str(datasets), cfg=QUICK)
    again = json.loads((done / "suite.json").read_text())["encoders"]
    assert [one["images_per_second"] for one in again] == [one["images_per_second"] for one in about["encoders"]]
