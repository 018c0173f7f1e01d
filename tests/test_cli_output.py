"""What commands print: tables as wide as the terminal, rows for scripts, one JSON document, more or less said."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from report_folder import make
from slmlp import config
from slmlp.cli import main, pages
from slmlp.cli.answer import Answer, Output, show
from slmlp.cli.table import Table
from slmlp.data.published import ENTRIES
from slmlp.results import records
from terminal import seen, terminal

TINY = "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment weak"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("study"))
    (folder / "report.html").touch()
    return folder / "report.html"


def tsv(text):
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "words", ["methods", "methods simclr", "recipes", "recipes --wide", "recipes sl-small", "data list --wide"]
)
def test_no_line_of_a_table_is_wider_than_the_terminal(words, columns):
    lines = seen(*words.split(), columns=columns).lines
    rule = next(i for i, line in enumerate(lines) if "───" in line)
    assert max(map(len, lines[: lines.index("", rule)])) <= columns


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("columns", [60, 80, 250])
def test_a_studys_table_is_three_columns_or_all_of_them(page, columns, wide):
    answer = pages.answer(page)
    with terminal(columns) as shown:
        show(answer, "study", Output(wide=wide))
    [table] = answer.tables
    rules = [line for line in shown.lines if "───" in line]
    assert len(rules) == (1 if not wide else 1 if columns == 250 else 2 if columns == 80 else 3)
    assert max(map(len, rules)) <= columns
    for heading in table.columns[1:4] if not wide else table.columns[1:]:
        assert all(word in shown.text for word in heading.split())
    measured = [heading for heading in table.columns if "redundancy" in heading]
    assert len(measured) == 1
    assert ("redundancy" in shown.text.partition("Unseen accuracy")[0]) is wide
    assert any(line.startswith("report: ") for line in shown.lines)


def test_labels_are_never_cut_to_the_same_text():
    ends = [f"sl-mlp:projector.hidden={n}:cosine=true:training.epochs=120" for n in (512, 1024, 2048)]
    table = Table(("contender", "accuracy, %", "difference", "95 % interval"), [(n, 51.2, -0.5, "") for n in ends])
    with terminal(46) as shown:
        from rich.console import Console

        [part], left = table.fitting(46, wide=False)
        Console().print(part.rich())
    assert left == 1
    assert "".join(line.split("   ")[0] for line in shown.lines[2:] if "─" not in line).endswith("".join(ends))


def test_codes_in_names_reach_neither_terminal_nor_file(capsys):
    table = Table(("name", "value"), [("a\x1b[2Jb\tc\nd", 1.0)])
    with terminal() as shown:
        from rich.console import Console

        Console().print(table.rich())
    assert "\x1b[2J" not in shown.printed.decode()
    assert table.tsv().splitlines() == ["name\tvalue", "a\\x1b[2Jb c d\t1.0"]


def test_codes_in_names_are_escapes_of_json(capsys):
    name = "a\x1b[2J\x9bb\u202egnp\udc80 象"
    show(Answer({"classes": [name]}), "features", Output(json=True))
    printed = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e\udc80") & set(printed)
    assert "象" in printed
    assert json.loads(printed)["classes"] == [name]


def test_a_pipe_gets_rows_and_nothing_else(page):
    done = subprocess.run([sys.executable, "-m", "slmlp", "methods"], capture_output=True, text=True, check=True)
    assert [row["method"] for row in tsv(done.stdout)] == list(config.METHODS)
    assert "slmlp methods NAME" in done.stderr
    values = {(row.method, row.task, row.metric): [] for row in records.read(page.parent / "results.jsonl")}
    for row in records.read(page.parent / "results.jsonl"):
        if row.role in ("final", "baseline") and row.layer == "output":
            values[row.method, row.task, row.metric].append(row.value)
    rows = tsv(pages.answer(page).rows.tsv())
    assert len(rows) > 20
    for row in rows:
        mine = values[row["method"], row["task"], row["metric"]]
        assert float(row["value"]) == pytest.approx(np.mean(mine), rel=1e-12)
        assert int(row["seeds"]) == len(mine)


def test_json_of_a_page_has_the_lines_and_the_verdict_as_they_are_in_its_files(page, capsys):
    show(pages.answer(page), "study", Output(json=True))
    printed = json.loads(capsys.readouterr().out)
    assert printed["command"] == "study"
    verdict = json.loads((page.parent / "verdict.json").read_text())
    verdict.pop("sha256", None)
    assert printed["verdict"] == verdict
    lines = [json.loads(line) for line in (page.parent / "results.jsonl").read_text().splitlines()]
    assert {row["role"] for row in printed["results"]} == {"final", "baseline"}
    fields = {field.name for field in dataclasses.fields(records.Result)}
    assert all(row.keys() == fields for row in printed["results"])
    assert {r["value"] for r in printed["results"]} <= {line["value"] for line in lines}


def of(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_json_of_the_listings(capsys):
    assert [m["method"] for m in of(capsys, "methods")[0]["methods"]] == list(config.METHODS)
    assert of(capsys, "methods", "byol")[0]["settings"]["ema_momentum"] == config.METHOD_CONFIGS["byol"].ema_momentum
    assert len(of(capsys, "recipes")[0]["recipes"]) > 20
    assert of(capsys, "recipes", "sl-small")[0]["training"]["batch_size"] == 128
    assert [d["name"] for d in of(capsys, "data", "list")[0]["data_sets"]] == list(ENTRIES)


@pytest.mark.slow
def test_json_along_the_way_from_images_to_measures(shapes, tmp_path, capsys):
    split, _ = of(capsys, "split", shapes, "--by", "random", "--out", tmp_path / "s.json")
    assert split["split"]["unseen"] == json.loads((tmp_path / "s.json").read_text())["unseen"]
    dry, _ = of(capsys, "pretrain", shapes, *TINY.split(), "--out", tmp_path / "run", "--dry-run", "-q")
    assert re.search(r"\d+ images, \d+ steps", dry["plan"][0])
    words = ["pretrain", shapes, *TINY.split(), "--split", tmp_path / "s.json", "--out", tmp_path / "run"]
    run, said = of(capsys, *words, "-q")
    assert run["encoder"] == str(tmp_path / "run" / "encoder.safetensors")
    assert run["last_step"]["loss"] > 0
    assert said == ""
    found, said = of(capsys, "evaluate", tmp_path / "run", shapes, "--out", tmp_path / "ev", "-v")
    assert {row["metric"] for row in found["results"]} >= {"accuracy", "mean_class_accuracy"}
    assert f"wrote {tmp_path / 'ev' / 'data'}" in said
    features, _ = of(capsys, "features", tmp_path / "run", shapes, "--out", tmp_path / "f.npz")
    assert (features["images"], features["dim"]) == np.load(tmp_path / "f.npy").shape
    measures, _ = of(capsys, "measure", tmp_path / "f.npz")
    assert measures["measures"]["n_per_class"] > 0
    exported, _ = of(capsys, "export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "e.safetensors")
    assert exported["differences"][0]["relative"] < 1e-4


def test_warnings_are_printed_when_quiet_and_are_in_the_document(tmp_path, shapes, capsys):
    assert main(["split", str(shapes), "--by", "random", "--out", str(tmp_path / "s.json")]) == 0
    fewer = shutil.copytree(shapes, tmp_path / "fewer")
    next((fewer / "train" / "ring").iterdir()).unlink()
    capsys.readouterr()
    words = ["pretrain", fewer, *TINY.split(), "--split", tmp_path / "s.json", "--dry-run", "-q"]
    printed, said = of(capsys, *words, "--out", tmp_path / "run")
    [warning] = printed["warnings"]
    assert f"warning: {warning}" in said
    assert len(said.splitlines()) == 2  # the warning, and the plan that was asked for


def test_quiet_and_verbose_contradict_each_other(capsys):
    assert main(["methods", "-q", "--verbose"]) == 2
    assert "-q and -v" in capsys.readouterr().err
