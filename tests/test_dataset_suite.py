"""A folder of data sets: known ones, a user's own, other layouts, broken tables; each problem is one line."""

from __future__ import annotations

import dataclasses
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

import dataset_miniatures as miniatures
from data_images import jpeg, two_classes, write
from slmlp.config import DataOptions
from slmlp.data.published import ENTRIES, find, get, known, missing, open_found, opening
from slmlp.runtime.errors import SlmlpError

pytestmark = pytest.mark.slow


@pytest.fixture
def options(tmp_path):
    return DataOptions(cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def small(monkeypatch):
    miniatures.small_registry(monkeypatch)


WRONG = {
    "ChestX": ({"images/1.png": jpeg(0)}, "no Data_Entry_2017.csv"),
    "CropDisease": (two_classes(), "no folders train and test but cat, dog"),
    "DeepWeeds": ({"labels.csv": b"file,label\na.jpg,1\n", "a.jpg": jpeg(0)}, "labels.csv without column Filename"),
    "EuroSAT": (two_classes("train/") | two_classes("test/"), "part folders"),
    "ISIC": (two_classes(), "no ISIC2018_Task3_Training_GroundTruth.csv"),
    "Kaokore": ({"labels.csv": b"image,gender,status,set\n1.jpg,0,0,train\n"}, "none of the images that it lists"),
    "Omniglot": ({"a.png": jpeg(0)}, "images but no class folders"),
    "Sketch": ({"notes.txt": b"x"}, "no images"),
    "SUN397": (two_classes(), "no Training_01.txt"),
    "DTD": ({"dtd/images/a/1.jpg": jpeg(0)}, "no labels/train1.txt"),
    "SVHN": (two_classes(), "no train_32x32.mat"),
    "CIFAR10": ({"cifar-10-batches-py/test_batch": b"x"}, "no data_batch_1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_layout_is_one_line_with_what_was_expected_and_found(name, tmp_path, options):
    files, found = WRONG[name]
    write(tmp_path / name, files)
    with pytest.raises(SlmlpError) as caught:
        opening.open_entry(get(name), tmp_path / name, options)
    text = str(caught.value)
    assert f"is not laid out as {name}: expected {get(name).on_disk}; found" in text
    assert found in text
    assert "\n" not in text


BROKEN = {
    "a label twice": ("ISIC", b"1.0,1.0,0.0", r"line 2: expected a 1 in one of MEL, .* found \['MEL', 'NV'\]"),
    "no number": ("ISIC", b"yes,1.0,0.0", r"line 2: expected 0 or 1, found 'yes'"),
    "an unknown value": ("Kaokore", b"00000000.jpg,5,0,train", r"line 2: gender, status hold \['5', '0'\]"),
    "a file twice": ("Kaokore", b"00000001.jpg,0,0,train", r"lists '00000001.jpg' twice, in lines 2 and 3"),
    "not UTF-8": ("Kaokore", b"\xff,0,0,train", r"labels.csv is not UTF-8 text"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_table_is_one_line_that_names_the_line(case, tmp_path, options):
    name, content, message = BROKEN[case]
    folder = miniatures.make(name, tmp_path / name)
    table = next(folder.rglob("*.csv"))
    good = b"0.0,1.0,0.0" if name == "ISIC" else b"00000000.jpg,0,0,train"
    table.write_bytes(table.read_bytes().replace(good, content, 1))
    with pytest.raises(SlmlpError, match=message):
        opening.open_entry(miniatures.entry(name), folder, options)


def test_damaged_files_of_torchvision_are_one_line(tmp_path, options):
    folder = miniatures.make("CIFAR10", tmp_path / "CIFAR10")
    with pytest.raises(SlmlpError, match=r"torchvision cannot read CIFAR10.*not the published ones"):
        opening.open_entry(miniatures.entry("CIFAR10"), folder, options)
    assert sorted(p.name for p in folder.iterdir()) == ["cifar-10-batches-py"]  # nothing is downloaded into it


@pytest.mark.parametrize(
    ("word", "name"),
    [("chest_xray", "ChestX"), ("NWPU-RESISC45", "Resisc45"), ("ImageNet-Sketch", "Sketch"), ("cifar-10", "CIFAR10"),
     ("oxford-iiit-pet", "Pets"), ("FLOWERS-102", "Flowers102"), ("fashion-mnist", "FashionMNIST")],
)  # fmt: skip
def test_common_spellings(word, name):
    assert known(word).name == name
    assert known("pacs-sketch") is None
    with pytest.raises(SlmlpError, match="unknown data set 'EuroSTA': did you mean 'EuroSAT'"):
        get("EuroSTA")


def test_a_folder_of_data_sets(tmp_path, options, small):
    root = tmp_path / "datasets"
    miniatures.make("EuroSAT", root / "eurosat")
    miniatures.make("SVHN", root / "SVHN")
    write(root / "ISIC", two_classes())
    write(root / "mine", {**two_classes("train/"), **two_classes("test/", start=50)})
    write(root / "notes", {"readme.txt": b"x"})
    (root / "list.txt").write_text("no data set")
    miniatures.make("Sketch", tmp_path / "s")
    with tarfile.open(root / "sketch.tar", "w") as tar:
        tar.add(tmp_path / "s", ".")
    write(tmp_path / "own", two_classes(each=10))
    with tarfile.open(root / "own.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "own", "own")
    found = {dataset.name: dataset for dataset in find(root, options)}
    assert list(found) == ["ISIC", "SVHN", "EuroSAT", "mine", "notes", "own", "Sketch"]
    assert {name for name, d in found.items() if d.entry is not None} == {"ISIC", "SVHN", "EuroSAT", "Sketch"}
    assert "is not laid out as ISIC" in found["ISIC"].problem
    assert "contains no images" in found["notes"].problem
    assert [n for n, d in found.items() if d.problem] == ["ISIC", "notes"]
    assert missing(list(found.values())) == (
        "ChestX", "CropDisease", "DeepWeeds", "DTD", "Flowers102", "ISIC", "Kaokore", "Omniglot", "Resisc45",
    )  # fmt: skip
    sizes = {n: Counter(open_found(d, options).parts.tolist()) for n, d in found.items() if d.problem is None}
    assert sizes == {
        "SVHN": {"train": 2, "test": 2}, "EuroSAT": {"train": 21, "test": 9}, "Sketch": {"train": 14, "test": 6},
        "mine": {"train": 6, "test": 6}, "own": {"train": 14, "test": 6},
    }  # fmt: skip
    with pytest.raises(SlmlpError, match="is not laid out as ISIC"):
        open_found(found["ISIC"], options)


def test_limits_hold_for_entries_too(tmp_path, options, small):
    folder = miniatures.make("EuroSAT", tmp_path / "EuroSAT")
    images = opening.open_entry(get("EuroSAT"), folder, dataclasses.replace(options, images_per_class=2))
    assert Counter(images.parts.tolist()) == {"train": 6, "test": 9}


def test_two_copies_of_one_data_set_and_empty_folders(tmp_path, options, small):
    root = tmp_path / "datasets"
    for name in ("EuroSAT", "eurosat"):
        miniatures.make("EuroSAT", root / name)
    first, second = find(root, options)
    assert first.problem is None
    assert "is the same data set as" in second.problem
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "holds no data set"), ("nothing", "found nothing there")):
        with pytest.raises(SlmlpError, match=words):
            find(tmp_path / folder, options)


@pytest.mark.skipif("SLMLP_DATA" not in os.environ, reason="SLMLP_DATA names no folder of real images")
def test_real_images_of_ones_own(options):
    found = find(Path(os.environ["SLMLP_DATA"]) / "domains", options)
    assert [d.problem for d in found] == [None] * len(found)
    assert {d.entry for d in found} == {None}  # pacs-sketch and omniglot-small are not the published sets
    images = open_found(next(d for d in found if d.name == "flowers5"), options)
    assert Counter(images.parts.tolist()) == {"train": 1400, "test": 600}
    assert missing(found) == tuple(name for name, entry in ENTRIES.items() if entry.suite == "islam2021")
