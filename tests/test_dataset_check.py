"""The check of a data set finds what was done to a copy, names it, and finds nothing in a good one."""

from __future__ import annotations

import dataclasses
import json
import zlib

import numpy as np
import pytest

import dataset_miniatures as miniatures
from data_images import encoded, jpeg, two_classes, write
from slmlp.cli import main
from slmlp.config import DataOptions
from slmlp.data.published import check


@pytest.fixture
def options(tmp_path):
    return DataOptions(cache_dir=str(tmp_path / "cache"))


def entry(name):
    """An entry whose classes and their counts are those of its miniature."""
    per_class = {
        "EuroSAT": dict.fromkeys(("Forest", "River", "SeaLake"), 10),
        "DeepWeeds": {"Lantana": 5, "Negative": 4, "Chinee apple": 3},
        "ChestX": {"Mass": 7, "Nodule": 5, "Effusion": 4},
    }.get(name)
    return miniatures.entry(name, per_class=per_class)


def findings(path, options, name=None, **settings):
    found = check.check(path, options, name and entry(name), **settings)
    return {f.check: f for f in found.findings}, found


@pytest.mark.parametrize("name", ["EuroSAT", "DeepWeeds", "ChestX", "CropDisease", "Omniglot", "DTD", "SUN397"])
def test_a_good_copy_is_ok(name, tmp_path, options):
    by_check, found = findings(miniatures.make(name, tmp_path / name), options, name)
    assert found.ok, found.findings
    assert found.images == miniatures.COUNTS[name][1]
    assert found.parts == miniatures.COUNTS[name][2:]
    assert {f.level for f in found.findings} <= {"note"}
    assert ("the total (no counts by class)" in found.checked) == (entry(name).per_class is None)
    assert set(by_check) <= {"extra"}


def test_counts_and_class_names(tmp_path, options):
    folder = miniatures.make("EuroSAT", tmp_path / "x")
    (folder / "2750/River").rename(folder / "2750/Rivers")
    (folder / "2750/Forest/Forest_4.jpg").unlink()
    by_check, found = findings(folder, options, "EuroSAT")
    assert not found.ok
    assert "images: expected 30, found 29" in by_check["counts"].examples
    assert "images of class 'Forest': expected 10, found 9" in by_check["counts"].examples
    assert "'Rivers' is no published class; did you mean 'River'?" in by_check["class names"].examples
    assert "'River' is missing" in by_check["class names"].examples


def test_missing_and_extra_files(tmp_path, options):
    folder = miniatures.make("DeepWeeds", tmp_path / "x")
    (folder / "images/20170126-095103-0.jpg").unlink()
    write(folder, {"images/holiday.jpg": jpeg(77)})
    by_check, _ = findings(folder, options, "DeepWeeds")
    assert by_check["missing"].level == "wrong"
    assert by_check["missing"].examples == ("20170126-095103-0.jpg",)
    assert by_check["extra"].level == "note"
    assert by_check["extra"].examples == ("images/holiday.jpg: not in labels/labels.csv",)
    assert "counts" not in by_check


def test_pictures_that_are_known_to_be_gone_are_a_note(tmp_path, options):
    folder = miniatures.make("Kaokore", tmp_path / "x")
    (folder / "images_256/00000003.jpg").unlink()
    by_check, found = findings(folder, options, "Kaokore")
    assert by_check["missing"].level == "note"
    assert found.ok


def test_damage_is_found_at_both_ends_of_a_file(tmp_path, options):
    folder = miniatures.make("EuroSAT", tmp_path / "x")
    (folder / "2750/River/River_1.jpg").write_bytes(b"<html>not found</html>")
    cut = folder / "2750/River/River_2.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    _, found = findings(folder, options, "EuroSAT")
    damaged = [f for f in found.findings if f.check == "unreadable"]
    assert [f.level for f in damaged] == ["wrong", "wrong"]
    assert damaged[0].examples[0].startswith("River/River_1.jpg: no image")
    assert damaged[1].examples[0].startswith("River/River_2.jpg: ")
    quick, _ = findings(folder, options, "EuroSAT", quick=True)
    assert quick["unreadable"].examples == damaged[0].examples


def test_parts_that_overlap(tmp_path, options):
    folder = miniatures.make("CropDisease", tmp_path / "x")
    source = folder / "CropDiseases/train/Peach___healthy/2 HL.JPG"
    (folder / "CropDiseases/test/Peach___healthy/9 HL.JPG").write_bytes(source.read_bytes())
    by_check, found = findings(folder, options, "CropDisease")
    assert by_check["overlap"].examples == ("test/Peach___healthy/9 HL.JPG = train/Peach___healthy/2 HL.JPG",)
    assert "(50.0 %)" in by_check["overlap"].what
    assert not found.ok


def test_parts_made_by_somebody_else(tmp_path, options):
    write(tmp_path / "x", {**two_classes("train/"), **two_classes("test/", start=9)})
    by_check, found = findings(tmp_path / "x", options, "EuroSAT")
    assert "part folders" in by_check["layout"].what
    assert not found.ok


def test_an_overlap_of_arrays(tmp_path, options, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.svhn.SVHN._check_integrity", lambda _: True)
    folder = miniatures.make("SVHN", tmp_path / "x")
    (folder / "test_32x32.mat").write_bytes((folder / "train_32x32.mat").read_bytes())
    by_check, _ = findings(folder, options, "SVHN")
    assert len(by_check["overlap"].examples) == 2


def pattern(seed, side=48):
    """A picture with contrast of its own."""
    random = np.random.default_rng(seed)
    return np.kron(random.integers(0, 255, (6, 6, 3)), np.ones((side // 6, side // 6, 1))).astype(np.uint8)


def own(root, **extra):
    parts = {"train": 4, "test": 2}
    files = {
        f"{part}/{c}/{i}.png": encoded(pattern(zlib.crc32(f"{part} {c} {i}".encode())), "PNG")
        for part, n in parts.items()
        for c in ("cat", "dog")
        for i in range(n)
    }
    return write(root, {**files, **extra})


def test_a_folder_of_ones_own_that_is_ok(tmp_path, options):
    _, found = findings(own(tmp_path / "mine"), options)
    assert found.findings == ()
    assert (found.name, found.images, found.parts) == ("mine", 12, (8, 4))


def test_a_folder_of_ones_own_with_everything_wrong(tmp_path, options):
    one = encoded(pattern(1), "PNG")
    folder = own(
        tmp_path / "mine",
        **{
            "train/cat/a.png": one, "test/cat/b.png": one, "train/dog/c.png": one, "train/dog/d.png": one,
            "test/dog/cut.png": one[:-60],
            "test/Bird/x.png": encoded(pattern(8), "PNG"), "train/bird/x.png": encoded(pattern(9), "PNG"),
            "train/cat/notes.xyz": b"?",
        },
    )  # fmt: skip
    by_check, found = findings(folder, options)
    assert not found.ok
    assert by_check["overlap"].examples == ("test/cat/b.png = train/cat/a.png",)
    assert any("train/dog/c.png" in text and "cat" in text for text in by_check["two classes"].examples)
    assert by_check["repeated"].examples == ("train/dog/d.png = train/dog/c.png",)
    assert by_check["unreadable"].examples[0].startswith("test/dog/cut.png: ")
    assert "'Bird' (the other part has 'bird')" in by_check["parts"].examples
    assert by_check["extra"].examples == ("train/cat/notes.xyz: unknown suffix .xyz",)


def test_one_image_in_a_class(tmp_path, options):
    by_check, found = findings(write(tmp_path / "mine", {**two_classes(), "eel/1.jpg": jpeg(70)}), options)
    assert by_check["classes"].examples == ("eel",)
    assert not found.ok


def test_the_command_says_what_to_do_and_how_it_went(tmp_path, capsys, monkeypatch):
    folder = miniatures.make("EuroSAT", tmp_path / "x")
    monkeypatch.setitem(check.__dict__, "EXAMPLES", 2)
    assert main(["data", "check", "EuroSAT", str(folder), "--cache-dir", str(tmp_path / "c")]) == 1
    shown = capsys.readouterr().out
    assert "wrong  counts: " in shown
    assert "do: unpack the published archive again" in shown
    assert "things are wrong" in shown
    good = str(own(tmp_path / "mine"))
    assert main(["data", "check", good]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert main(["data", "check", "folder", good, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["parts"] == [8, 4]
    assert main(["data", "check", "EuroSAT", str(folder), "--json", "--quick"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {f["check"] for f in report["findings"]} >= {"counts", "class names"}
    assert "every file to its end" not in report["checked"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "needs to know what: slmlp data check NAME PATH"),
        (["get"], "needs to know what: slmlp data get NAME"),
        (["check", "EuroSAT"], "needs to know where it is: slmlp data check EuroSAT PATH"),
        (["check", "EuroSTA", "."], "unknown data set 'EuroSTA': did you mean 'EuroSAT'"),
        (["check", "nowhere/at/all"], "does not exist"),
        (["list", "--datasets", "nowhere/at/all"], "expected a folder of data sets, found nothing there"),
    ],
)
def test_bad_words_are_one_line(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_reports_are_plain_json(tmp_path, options):
    found = check.check(own(tmp_path / "mine"), options)
    assert json.loads(json.dumps(found.as_json()))["name"] == "mine"
    assert dataclasses.is_dataclass(found)
