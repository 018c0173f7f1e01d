"""Result lines survive kills and second writers; predictions round-trip."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slmlp.results import records
from slmlp.results.records import Predictions, Result
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("convert_results", ROOT / "scripts" / "convert_results.py")
convert_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(convert_results)


def line(value=0.5, **changes):
    base = {"run": "r", "method": "sl", "encoder": "e", "seed": 0, "task": "unseen", "data": "d", "metric": "accuracy"}
    return Result(**{**base, "value": value, "n": 3, **changes})


def test_lines_round_trip_and_the_newest_of_a_key_counts(tmp_path):
    path = tmp_path / "results.jsonl"
    full = line(interval=(0.4, 0.6), hashes={"encoder": "x"}, predictions="p.csv", extra={"l2": [0.1]})
    for row in (line(0.1), line(0.2, seed=1), full):
        records.append(path, row)
    assert records.read(path) == [dataclasses.replace(row, lines=1) for row in (line(0.2, seed=1), full)]
    assert len(path.read_text().splitlines()) == 3  # nothing is rewritten


def test_a_file_is_parsed_once_while_it_stands_and_anew_when_it_has_changed(tmp_path, monkeypatch):
    path, parsed, parse = tmp_path / "results.jsonl", [], json_files.read_lines
    monkeypatch.setattr(json_files, "read_lines", lambda file, *more: parsed.append(file) or parse(file, *more))
    assert records.read(path) == []
    records.append(path, line(0.1))
    for _ in range(3):
        found = records.read(path)
        found.clear()  # the caller's own list
    assert (records.read(path), len(parsed)) == ([line(0.1, lines=1)], 1)
    records.append(path, line(0.2, seed=1))
    assert (len(records.read(path)), len(parsed)) == (2, 2)
    first, second = path.read_text().splitlines(keepends=True)
    files.write_text(path, first + json_files.line(json.loads(second) | {"value": 0.3}))  # as long, another file
    assert [row.value for row in records.read(path)] == [0.1, 0.3]


def test_a_torn_line_loses_only_itself(tmp_path):
    path = tmp_path / "results.jsonl"
    records.append(path, line())
    with path.open("a") as file:
        file.write('{"run": "half')
    records.append(path, line(seed=1))
    assert [row.seed for row in records.read(path)] == [0, 1]


def test_writers_in_four_processes_never_mix(tmp_path):
    code = """
import sys
from pathlib import Path
from slmlp.results import records as results
for i in range(60):
    results.append(Path(sys.argv[1]), results.Result("r" * 500, sys.argv[2], "e", i, "t", "d", "m", i / 7, 1))
"""
    path = str(tmp_path / "results.jsonl")
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(w)]) for w in range(4)]
    assert [w.wait() for w in writers] == [0] * 4
    rows = records.read(tmp_path / "results.jsonl")
    assert {(r.method, r.seed) for r in rows} == {(str(w), i) for w in range(4) for i in range(60)}


def test_lines_of_a_newer_version_are_refused(tmp_path):
    json_files.append(tmp_path / "r.jsonl", {"schema": 99})
    with pytest.raises(SlmlpError, match="newer slmlp"):
        records.read(tmp_path / "r.jsonl")


def test_predictions_round_trip_whatever_the_names(tmp_path):
    names = np.array(['a,"b"', "c\nd", "<e>"])
    rows = Predictions(names, names, names, names[::-1], np.arange(3))
    records.write_predictions(tmp_path / "p.csv", rows)
    again = records.read_predictions(tmp_path / "p.csv")
    assert again.ids.tolist() == names.tolist()
    assert again.predictions.tolist() == names[::-1].tolist()
    assert again.correct.tolist() == [0.0, 1.0, 0.0]
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SlmlpError, match="no predictions file"):
        records.read_predictions(tmp_path / "x.csv")


@pytest.mark.parametrize("confidence", [None, np.linspace(0, 1, 200)])
def test_predictions_without_quotes_are_those_that_the_csv_module_reads(tmp_path, confidence):
    rng, path = np.random.default_rng(0), tmp_path / "p.csv"
    ids = np.array([f"train/a b;{i}" for i in range(200)])
    labels, found = (np.array(["é", "", "'x'", "7"])[rng.integers(0, 4, 200)] for _ in range(2))
    records.write_predictions(path, Predictions(ids, ids[::-1], labels, found, rng.integers(0, 5, 200), confidence))
    again = records.read_predictions(path)
    with path.open(newline="") as file:
        plain = list(csv.DictReader(file))
    columns = {"id": again.ids, "group": again.groups, "label": again.labels, "prediction": again.predictions}
    for name, column in columns.items():
        assert column.tolist() == [row[name] for row in plain]
    assert again.folds.tolist() == [int(row["fold"]) for row in plain]
    assert (again.confidence is None) == (confidence is None)
    assert confidence is None or again.confidence.tolist() == [float(row["confidence"]) for row in plain]


def test_predictions_of_no_image_and_damaged_ones(tmp_path):
    path, none = tmp_path / "p.csv", np.array([], dtype=np.str_)
    records.write_predictions(path, Predictions(none, none, none, none, np.array([], dtype=np.int64)))
    assert records.read_predictions(path).ids.tolist() == []
    header = ",".join(records.COLUMNS)
    lines = (f"{header}\na,b,c,d\n", f"{header}\na,a,b,b,0,\na,a,b,0\n", f"{header}\na,a,b,b,x\n", "", '"\0,\n')
    for content in (*(text.encode() for text in lines), b"\xff\xfe\x00,"):
        path.write_bytes(content)
        with pytest.raises(SlmlpError, match="is no predictions file"):
            records.read_predictions(path)


def test_committed_lines_have_the_names_of_today(tmp_path, capsys):
    committed = sorted((ROOT / "docs" / "results").glob("*.jsonl"))
    assert len(committed) >= 19
    for path in committed:
        rows = [json.loads(text) for text in path.read_text().splitlines()]
        assert [convert_results.convert(row) for row in rows] == rows
    kept = ROOT / "docs" / "results" / "tiny-imagenet-124-76-coarse.jsonl"
    old = kept.read_text().replace('"labels":"superclass"', '"labels":"class_group"').replace('"l2":', '"strengths":')
    path = tmp_path / "old.jsonl"
    path.write_text(old)
    assert convert_results.verdicts([json.loads(text) for text in old.splitlines()])
    convert_results.main([str(path)])
    assert path.read_text() == kept.read_text()
    assert records.read(path) == records.read(kept)
    assert "972 of 972 lines converted" in capsys.readouterr().out


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    json_files.write(path, {"a": 1})

    def interrupted():
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert json_files.read(path, dict) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
