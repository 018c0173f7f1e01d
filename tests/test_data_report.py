"""What is said of the data, duplicates across parts, and superclasses of classes."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import numpy as np
import pytest

from data_images import jpeg, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import announce, apply_superclasses, describe, duplicates_across_parts, load, readers, repeated, summary
from slmlp.runtime.errors import SlmlpError


@pytest.fixture
def images(tmp_path):
    files = {**two_classes("train/", each=40), **two_classes("test/", each=20, start=200), "train/cat/a.heic": b"x"}
    files["test/dog/copy.jpg"] = files["train/cat/30.jpg"] = files["train/cat/3.jpg"]
    files["test/dog/copy too.jpg"] = files["train/cat/3.jpg"]
    files["train/dog/page.jpg"] = b"<html>"
    return load(str(write(tmp_path / "pets", files)))


def test_duplicates_across_parts_are_found_by_content(images, tmp_path, monkeypatch):
    expected = [("train/cat/3.jpg", "test/dog/copy too.jpg"), ("train/cat/3.jpg", "test/dog/copy.jpg")]
    assert duplicates_across_parts(images) == expected
    read = []
    real = readers.FileReader.raw
    monkeypatch.setattr(readers.FileReader, "raw", lambda self, i, size=None: read.append(i) or real(self, i, size))
    duplicates_across_parts(images)
    train, test = (set(images.sizes[images.parts == part].tolist()) for part in ("train", "test"))
    alike = sum(int(size) in train & test for size in images.sizes)
    assert alike < len(images)
    # the beginning of every file of a size that both parts have, then all of those that begin alike
    assert len(read) == alike + 4


def test_duplicates_in_arrays_are_found_by_pixels(tmp_path):
    x = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
    x[4] = x[1]
    part = np.array(["train"] * 3 + ["test"] * 3)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(6) % 2, part=part)
    assert duplicates_across_parts(load(str(tmp_path / "x.npz"))) == [("1", "4")]


def test_images_that_come_twice_are_found_within_one_set(images, tmp_path):
    cats = images.of_part("train")
    assert repeated(cats) == [("train/cat/3.jpg", "train/cat/30.jpg")]
    assert len(repeated(images)) == 3
    alike = np.zeros((5, 80, 80), dtype=np.uint8)  # equal in their first 4,096 bytes
    alike[[0, 2, 3], 79, 79] = 1, 2, 1
    np.savez(tmp_path / "x.npz", x=alike, y=np.arange(5) % 2)
    assert repeated(load(str(tmp_path / "x.npz"))) == [("0", "3"), ("1", "4")]


def test_the_summary_counts_everything(images):
    facts = summary(images)
    assert facts["images"] == 122
    assert facts["parts"] == {"train": 80, "test": 42}
    assert facts["classes"] == {"cat": {"train": 40, "test": 20}, "dog": {"train": 40, "test": 22}}
    assert facts["unreadable"] == 1
    assert facts["ignored"] == {"unknown suffix .heic": 1}
    assert facts["superclasses"] is None
    assert facts["groups"] is None
    assert facts["hash"] == images.hash()
    assert len(facts["duplicates_across_parts"]) == 2
    superclassed = dataclasses.replace(images, superclasses=("pet", "pet"), has_groups=True)
    assert summary(superclassed)["superclasses"] == {"pet": 2}
    assert summary(superclassed)["groups"] == 122
    assert summary(superclassed)["classes"]["cat"]["superclass"] == "pet"


def test_the_report_is_written_and_renewed(images, tmp_path):
    announce(images, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "data.json").read_text()) == summary(images)
    lines = (tmp_path / "out" / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["train/dog/page.jpg"]
    assert lines[0].split("\t")[1].startswith("no image")
    announce(dataclasses.replace(images, unreadable=()), tmp_path / "out")
    announce(images, tmp_path, "features.")
    assert json.loads((tmp_path / "features.data.json").read_text())["images"] == 122
    assert (tmp_path / "features.unreadable.txt").exists()
    assert not (tmp_path / "out" / "unreadable.txt").exists()


def test_the_description_is_short_and_says_what_matters(images):
    text = describe(images)
    for words in [
        "pets: 122 images of 2 classes (images per class: min 60, median 61, max 62)",
        "parts: 80 train, 42 test",
        "unreadable, left out: 1: train/dog/page.jpg: no image",
        "ignored: 1 unknown suffix .heic (train/cat/a.heic)",
        "in both parts, byte for byte: 2 test images: train/cat/3.jpg = test/dog/copy too.jpg",
    ]:
        assert words in text, text
    assert "no test part" not in text
    assert "superclasses" not in text
    assert len(text.splitlines()) == 5
    alone = dataclasses.replace(
        images.of_part("train"),
        has_test_part=False,
        has_groups=True,
        superclasses=("pet", "wild"),
        unreadable=(),
        ignored=(),
    )
    assert describe(alone).splitlines() == [
        "pets: 80 images of 2 classes (images per class: min 40, median 40, max 40)",
        "  parts: 80 train, 0 test (the data has no test part of its own)",
        "  superclasses: 2 (classes per superclass: min 1, max 1)",
        "  groups: 80",
    ]


def test_classes_of_one_part_only_are_mentioned(tmp_path):
    write(tmp_path, {**two_classes("train/"), "test/cat/1.jpg": jpeg(50), "test/emu/1.jpg": jpeg(51)})
    text = describe(load(str(tmp_path)))
    assert "no train images: emu" in text
    assert "no test images: dog" in text


GROUPS = [
    ("cat\tfelines\ndog\tcanines\n", ("felines", "canines")),
    ("cat,felines\ndog,canines\nemu,birds\n", ("felines", "canines")),
    ("class,superclass\n# a comment\n\ndog,canines\ncat,felines\n", ("felines", "canines")),
    ('cat,"felines, all"\ndog,canines\n', ("felines, all", "canines")),
    ("cat\tfelines, all\ndog\tcanines\r\n", ("felines, all", "canines")),
]


@pytest.mark.parametrize(("text", "expected"), GROUPS)
def test_superclasses_from_a_file(images, tmp_path, text, expected):
    path = tmp_path / "superclasses.txt"
    path.write_bytes(text.encode())
    assert apply_superclasses(images, str(path)).superclasses == expected
    assert load(images.source, DataOptions(superclasses=str(path))).superclasses == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat\tfelines\n", "has no superclass for class 'dog'"),
        ("cat\tfelines\ndog\n", "line 2: expected class<tab>superclass or class,superclass, found dog"),
        ("cat\tfelines\ndog\t\n", "line 2: expected"),
        ("cat,a,b\n", "line 1: expected"),
        ("cat\ta\ncat\tb\ndog\ta\n", "line 2: class 'cat' has two superclasses, 'a' and 'b'"),
        (None, "cannot read .*No such file"),
    ],
)
def test_mistakes_in_a_file_of_superclasses(images, tmp_path, text, words):
    path = tmp_path / "superclasses.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SlmlpError, match=words):
        apply_superclasses(images, str(path))


def test_superclasses_from_wordnet(images, monkeypatch):
    asked = []

    def cut(classes, n, senses):
        asked.append((tuple(classes), n, tuple(senses)))
        return dict.fromkeys(classes, "mammal")

    stub = types.SimpleNamespace(cut=cut)
    monkeypatch.setitem(sys.modules, "slmlp.data.wordnet", stub)
    monkeypatch.setattr("slmlp.data.wordnet", stub, raising=False)
    assert apply_superclasses(images, "wordnet:7", ["cat=n02121808"]).superclasses == ("mammal", "mammal")
    assert asked == [(("cat", "dog"), 7, ("cat=n02121808",))]
    for spec in ("wordnet:", "wordnet:1", "wordnet:many"):
        with pytest.raises(SlmlpError, match="expected wordnet:N"):
            apply_superclasses(images, spec)
