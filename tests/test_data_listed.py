"""What manifests of others list: paths that are not there, values that are none, several labels in one text."""

from __future__ import annotations

import unicodedata

import pytest

from data_images import jpeg, write
from slmlp.config import DataOptions
from slmlp.data import load
from slmlp.runtime.errors import SlmlpError


def listed(root, lines, header="path,label", suffix=".csv"):
    path = root / f"list{suffix}"
    path.write_text("\n".join([header] * bool(header) + lines) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("MY PETS/A 1.JPG", None),  # the folder's case differs too: nothing is guessed
        ("my pets/A 1.JPG", r"there is my pets/a 1\.jpg: write it so, in the same case"),
        ("my%20pets/a%201.jpg", r"there is my pets/a 1\.jpg: write the path without codes such as %20"),
        ("/home/anna/my pets/a 1.jpg", r"there is my pets/a 1\.jpg: write paths relative to the manifest"),
        ("images/a 1.jpg", None),
        ("../x/my pets/a 1.jpg", r"there is my pets/a 1\.jpg: write paths relative to the manifest"),
        ("my pets/a 1", r"there is my pets/a 1\.jpg: write the suffix too"),
        (unicodedata.normalize("NFD", "my pets/\u00e9.jpg"), r"there is my pets/\\xe9\.jpg: write it so.*Unicode form"),
        ("https://example.org/a.jpg", "an address and no path"),
        ("file:///data/a.jpg", "an address and no path"),
        (r"\\server\pets\a.jpg", "a path on a share of Windows"),
    ],
)
def test_a_missing_file_is_told_with_the_one_that_is_there(tmp_path, path, words):
    write(tmp_path, {"my pets/a 1.jpg": jpeg(1), "my pets/\u00e9.jpg": jpeg(2), "b.jpg": jpeg(3), "c.jpg": jpeg(4)})
    with pytest.raises(SlmlpError, match=words or "No such file or directory; all:") as caught:
        load(listed(tmp_path, ["b.jpg,cat", "c.jpg,dog", f"{path},cat"]), DataOptions(cache_dir=str(tmp_path / "x")))
    assert "\n" not in str(caught.value)


def four(root, labels, **columns):
    write(root, {f"{i}.jpg": jpeg(i) for i in range(len(labels))})
    rows = [",".join([f"{i}.jpg", *row]) for i, row in enumerate(zip(labels, *columns.values(), strict=True))]
    return listed(root, rows, ",".join(["path", "label", *columns]))


def test_names_that_mean_nothing_are_pointed_out(tmp_path):
    images = load(four(tmp_path, ["cat", "nan", "cat", "dog"], patient=["NaN", "p", "NaN", "q"]))
    assert images.classes == ("cat", "dog", "nan")
    assert images.notes[1:] == (
        "classes whose names mean that there is none: 'nan'",
        "groups whose names mean that there is none: 'NaN'",
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat", "dog", "cat|dog", "dog"], "'cat|dog' (for those, --label-separator '|')"),
        (["cat", "dog", "cat;dog", "dog;cat"], "'cat;dog', 'dog;cat' (for those, --label-separator ';')"),
        (["['cat']", "['dog']", "['cat']", "['dog']"], "\"['cat']\", \"['dog']\" (for those, --label-separator '|')"),
        (["maillot", "maillot|tank suit", "tench|Tinca tinca", "maillot"], None),  # synonyms
    ],
)
def test_several_labels_in_one_text_are_pointed_out(tmp_path, labels, said):
    notes = load(four(tmp_path, labels)).notes
    assert notes == ((f"classes that look like several labels: {said}",) if said else ())


@pytest.mark.parametrize("record", ['{"id": 1}', "[[1]]"])
def test_a_value_that_is_no_text_is_named_with_its_line(tmp_path, record):
    write(tmp_path, {f"{i}.jpg": jpeg(i) for i in range(2)})
    rows = ['{"path": "0.jpg", "label": "a"}', f'{{"path": "1.jpg", "label": "b", "group": {record}}}']
    with pytest.raises(SlmlpError, match=r"line 2: the group is .* expected a text or a number"):
        load(listed(tmp_path, rows, "", ".jsonl"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["train", "train", "test", "unused"], "'phase' holds test, train, unused and is not read as the part"),
        (["train", "train", "holdout", "train"], "'phase' holds holdout, train and is not read as the part"),
        (["train", "bus", "car", "bus"], None),  # vehicles
    ],
)
def test_parts_beside_other_words_are_not_passed_over(tmp_path, values, words):
    path = four(tmp_path, ["a", "b", "a", "b"], phase=values)
    if words is None:
        assert load(path).notes == ("columns not used: phase",)
        return
    with pytest.raises(SlmlpError, match=words):
        load(path)


def test_a_manifest_decides_whatever_the_case_of_its_name(tmp_path):
    write(tmp_path / "d", {f"{c}/{i}.jpg": jpeg(i + ord(c)) for c in "ab" for i in range(2)})
    (tmp_path / "d" / "Manifest.CSV").write_text("path,label,part\na/0.jpg,x,train\na/1.jpg,y,test\nb/1.jpg,y,train\n")
    images = load(str(tmp_path / "d"))
    assert (images.classes, images.parts.tolist()) == (("x", "y"), ["train", "test", "train"])
