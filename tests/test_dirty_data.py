"""One dirty folder, and what each command that reads images says of it, writes of it, and puts beside its numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_images import jpeg, two_classes, write
from slmlp import api, cli
from slmlp.results import records

WORDS = "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment weak --threads 1"
WARNINGS = {"duplicates_across_parts": 1, "classes_without_test_images": 1, "unreadable": 2}


@pytest.fixture
def dirty(tmp_path):
    """82 images of 4 classes, 20 of them in the test part, and everything that may be wrong beside them."""
    files = {**two_classes("train/", each=29), **two_classes("dev/", each=9, start=200)}
    files["dev/dog/copy.jpg"] = files["train/cat/3.jpg"]
    files |= {"train/emu/1.jpg": jpeg(900), "train/emu/2.jpg": jpeg(901), "train/yak/1.heic": b"x"}
    files |= {"train/fox/1.jpg": jpeg(902), "train/fox/2.jpg": jpeg(903), "dev/fox/3.jpg": jpeg(904)}
    files["train/cat/page.jpg"] = b"<html>"
    files["train/cat/cut.jpg"] = jpeg(77)[:300]  # found when it is decoded
    return str(write(tmp_path / "pets", files))


def said(capsys) -> list[str]:
    """Return the lines about the data that the last command said."""
    lines = capsys.readouterr().err.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("pets: 82 images"))
    return [lines[at], *(line for line in lines[at + 1 :] if line.startswith("  "))]


@pytest.mark.slow
def test_every_command_says_and_writes_the_same(dirty, tmp_path, capsys):
    run = str(tmp_path / "run")
    allow = "--allow-unreadable"
    assert cli.main(["pretrain", dirty, *WORDS.split(), allow, "--out", run]) == 0
    expected = said(capsys)
    text = "\n".join(expected)
    for words in (
        "62 train, 20 test",
        "no test images: emu",
        "taken as parts: dev as test, train as train",
        "unreadable, left out: 2",
        "train/cat/cut.jpg",
        "train/cat/page.jpg",
        "and class 'yak' has no image",
        "in both parts, byte for byte: 1",
    ):
        assert words in text
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    listed = (tmp_path / "run" / "unreadable.txt").read_text()
    assert [line.split("\t")[0] for line in listed.splitlines()] == ["train/cat/cut.jpg", "train/cat/page.jpg"]
    commands = {
        "evaluate": (["evaluate", run, dirty, "--task", "knn", "--out", "{}"], "data/pets/"),
        "suite": (["suite", run, "--also", dirty, "--tasks", "knn", "--out", "{}"], "data/pets/"),
        "features": (["features", run, dirty, "--part", "train", "--out", "{}/f.npz"], "f."),
        "split": (["split", dirty, "--by", "random", "--out", "{}/s.json"], "s."),
    }
    for name, (words, prefix) in commands.items():
        out = tmp_path / name
        assert cli.main([word.format(out) for word in [*words, allow]]) == 0, name
        assert said(capsys) == expected, name
        assert json.loads((out / f"{prefix}data.json").read_text()) == facts, name
        assert (out / f"{prefix}unreadable.txt").read_text() == listed, name
    for name in ("evaluate", "suite"):
        rows = records.read(tmp_path / name / "results.jsonl")
        assert {tuple(sorted(row.warnings.items())) for row in rows} == {tuple(sorted(WARNINGS.items()))}
    page = (tmp_path / "suite" / "report.html").read_text()
    assert "test images that equal a training image byte for byte: 1" in page
    assert "classes without a test image: 1" in page


@pytest.mark.slow
def test_warnings_stand_beside_the_numbers(dirty, tmp_path, capsys):
    words = ["evaluate", "timm:test_resnet@random", dirty, "--allow-unreadable", "--task", "knn", "centroid"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert [line.split(";")[0] for line in err.splitlines() if line.startswith("warning")] == [
        "warning: pets: test images that equal a training image byte for byte: 1 (knn, centroid)",
        "warning: pets: classes without a test image: 1 (knn, centroid)",
        "warning: pets: files that cannot be read and were left out: 2 (knn, centroid)",
    ]
    assert "warning" not in out


def test_a_drawn_test_part_is_said_beside_the_number(tmp_path, capsys):
    data = str(write(tmp_path / "pets", two_classes(each=10)))
    [row, *_] = api.evaluate("timm:test_resnet@random", data, task="centroid", out=tmp_path / "out")
    assert row.warnings == {"test_part_drawn": 6}
    assert "14 train, 6 test (drawn here: the data has no test part of its own)" in capsys.readouterr().err


def test_images_that_come_twice_are_counted_where_folds_are_drawn(tmp_path):
    files = {f"{name}/{i}.jpg": jpeg(10 * at + i) for at, name in enumerate("abcd") for i in range(8)}
    files["a/again.jpg"], files["d/again.jpg"] = files["a/3.jpg"], files["d/3.jpg"]
    data = str(write(tmp_path / "letters", files))
    split = api.split(data, tmp_path / "s.json")
    rows = api.evaluate("timm:test_resnet@random", data, task="unseen", split=split, out=tmp_path / "out")
    twice = len({"a", "d"} & set(split.unseen))
    assert {row.warnings.get("repeated_images", 0) for row in rows} == {twice}
    assert "test_part_drawn" not in rows[0].warnings
    assert records.read(tmp_path / "out" / "results.jsonl") == rows


def test_features_of_a_file_carry_the_same_warnings(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 2
    np.savez(tmp_path / "drawn.npz", x=x, y=y)
    assert api.evaluate(tmp_path / "drawn.npz", task="knn", out=tmp_path / "a")[0].warnings == {"test_part_drawn": 12}
    x[[30, 31]] = x[[2, 3]]
    parts = np.where(np.arange(40) < 25, "train", "test")
    np.savez(tmp_path / "own.npz", x=x, y=y, parts=parts)
    rows = api.evaluate(tmp_path / "own.npz", task="knn", out=tmp_path / "b")
    assert rows[0].warnings == {"duplicates_across_parts": 2}
