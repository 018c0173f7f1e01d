"""Manifests: what their columns say, beside them or in a tar, and the line that every mistake is in."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from data_images import jpeg, pack, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import describe, load, summary
from slmlp.runtime.errors import SlmlpError

HEADER = "path,label,part,superclass,group\n"


def manifest(root, text, suffix=".csv"):
    write(root, {f"images/{i}.jpg": jpeg(i) for i in range(6)})
    path = root / f"list{suffix}"
    path.write_text(text)
    return str(path)


def test_a_manifest_says_label_part_superclass_and_unit(tmp_path):
    lines = [
        f"images/{i}.jpg,{'cat' if i % 2 else 'dog'},{'test' if i > 3 else 'train'},pet,patient {i // 2}"
        for i in range(6)
    ]
    images = load(manifest(tmp_path, HEADER + "\n".join(lines)))
    assert images.name == "list"
    assert images.ids == tuple(f"images/{i}.jpg" for i in range(6))
    assert [images.classes[y] for y in images.labels] == ["dog", "cat"] * 3
    assert images.parts.tolist() == ["train"] * 4 + ["test"] * 2
    assert images.superclasses == ("pet", "pet")
    assert images.has_groups
    assert images.groups.tolist() == ["patient 0"] * 2 + ["patient 1"] * 2 + ["patient 2"] * 2
    assert images.sizes[0] == len(jpeg(0))


def test_tsv_and_json_lines_say_the_same(tmp_path):
    rows = [(f"images/{i}.jpg", "a, b" if i % 2 else "c") for i in range(6)]
    tsv = load(manifest(tmp_path, "label\tpath\n" + "".join(f"{y}\t{p}\n" for p, y in rows), ".tsv"))
    lines = "".join(f'{{"path": "{p}", "label": "{y}", "more": 1}}\n\n' for p, y in rows)
    json_lines = load(manifest(tmp_path, lines, ".jsonl"))
    assert tsv.classes == json_lines.classes == ("a, b", "c")
    assert tsv.hash() == json_lines.hash()
    quoted = load(manifest(tmp_path, "\ufeffpath,label\r\n" + "".join(f'"{p}","{y}"\r\n' for p, y in rows)))
    assert quoted.hash() == tsv.hash()


def test_labels_are_kept_as_they_are_written(tmp_path):
    text = "path,label\nimages/0.jpg,Cat\nimages/1.jpg,cat\nimages/2.jpg, cat\nimages/3.jpg,007\n"
    assert load(manifest(tmp_path, text)).classes == (" cat", "007", "Cat", "cat")
    numbers = "".join(f'{{"path": "images/{i}.jpg", "label": {i % 2}}}\n' for i in range(4))
    assert load(manifest(tmp_path, numbers, ".jsonl")).classes == ("0", "1")


def test_absolute_paths_and_paths_beside_the_manifest(tmp_path):
    write(tmp_path / "elsewhere", {"x.jpg": jpeg(30), "y.jpg": jpeg(31)})
    inside = tmp_path / "here"
    text = f"path,label\n{inside}/images/0.jpg,cat\n{tmp_path}/elsewhere/x.jpg,dog\n"
    text += "../elsewhere/y.jpg,dog\n./images//1.jpg,cat\n"
    images = load(manifest(inside, text))
    assert images.ids == ("../elsewhere/y.jpg", f"{tmp_path}/elsewhere/x.jpg", "images/0.jpg", "images/1.jpg")
    assert all(images.read(i).shape == (20, 24, 3) for i in range(4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 'path' is missing"),
        ("path,label\n", "lists no images"),
        ("where,label\nimages/0.jpg,cat\n", r"line 1: column 'path' is missing: .*found where,label"),
        ("path,label\nimages/0.jpg,cat\nimages/1.jpg,dog, large\n", "line 3: 3 fields where the header has 2"),
        ("path,label,Label\nimages/0.jpg,cat,1\nimages/1.jpg,dog\n,cat,2", "line 4: the path is missing"),
        ("image,file,label\na,b,c\n", "columns 'image' and 'file' may both be the path"),
        ("path,label,label\na,b,c\n", "column 'label' comes twice"),
        ("path,label\nimages/0.jpg,cat\nimages/1.jpg,\n", "line 3: the label is missing"),
        ("path,label\nimages/0.jpg,cat\nimages/1.jpg\n", "line 3: the label is missing"),
        ("path,label\nimages/0.jpg,cat\n\n,dog\n", "line 4: the path is missing"),
        ("path,label\nimages/0.jpg,cat\n./images/0.jpg,dog\n", "twice, in lines 2 and 3"),
        (
            "path,label,part\nimages/0.jpg,cat,train\nimages/1.jpg,dog,holdout\n",
            "line 3: part must be one of .*found 'holdout'",
        ),
        ("path,label,part\nimages/0.jpg,cat,train\nimages/1.jpg,dog,\n", "line 3: the part is missing"),
        ("path,label,part\nimages/0.jpg,cat,test\nimages/1.jpg,dog,test\n", "no training part"),
        (
            "path,label,superclass\nimages/0.jpg,cat,a\nimages/1.jpg,dog,a\nimages/2.jpg,cat,b\n",
            "class 'cat' is in two superclasses",
        ),
        ("path,label,superclass\nimages/0.jpg,cat,a\nimages/1.jpg,dog,\n", "class 'dog' has no superclass"),
        ('path,label\n"images/0.jpg,cat\n', "after line 1: .*mend the quotes"),
    ],
)
def test_mistakes_in_a_manifest_are_named_with_their_line(tmp_path, text, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        load(manifest(tmp_path, text))
    assert "list.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{bad\n", "line 1 is not valid JSON"),
        ("\n[1]\n", "line 2: expected"),
        ('{"path": "images/0.jpg"}\n', "column 'label' is missing"),
        ('{"path": "images/0.jpg", "label": "a"}\n{"path": "images/1.jpg"}', "line 2: the label"),
    ],
)
def test_mistakes_in_json_lines_are_named_with_their_line(tmp_path, text, words):
    with pytest.raises(SlmlpError, match=words):
        load(manifest(tmp_path, text, ".jsonl"))


def test_a_manifest_that_is_no_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"path,label\ncaf\xe9.jpg,cat\n")
    with pytest.raises(SlmlpError, match="not UTF-8 text"):
        load(str(path))


def test_listed_files_that_are_missing_count_as_unreadable(tmp_path):
    lines = [f"images/{i}.jpg,{'cat' if i % 2 else 'dog'}" for i in range(6)]
    os.mkfifo(tmp_path / "pipe.jpg")
    text = "path,label\n" + "\n".join([*lines, "images/gone.jpg,cat", "images,cat", "pipe.jpg,dog"])
    path = manifest(tmp_path, text)
    with pytest.raises(SlmlpError, match=r"3 of 9 files cannot be read.*first: images: no file"):
        load(path, DataOptions(cache_dir=str(tmp_path)))
    images = load(path, DataOptions(allow_unreadable=True))
    assert len(images) == 6
    assert dict(images.unreadable)["images/gone.jpg"] == "No such file or directory"
    assert images.read(5).shape == (20, 24, 3)


def test_a_group_in_both_parts_is_refused(tmp_path):
    text = "path,label,part,group\nimages/0.jpg,cat,train,anna\nimages/1.jpg,dog,test,anna\nimages/2.jpg,cat,test,ben\n"
    with pytest.raises(SlmlpError, match="group 'anna' has images in both"):
        load(manifest(tmp_path, text))


def test_an_image_without_a_group_is_its_own(tmp_path):
    text = "path,label,group\nimages/0.jpg,cat,anna\nimages/1.jpg,dog,\n"
    assert load(manifest(tmp_path, text)).groups.tolist() == ["anna", "images/1.jpg"]


@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_a_manifest_at_the_root_of_a_folder_or_tar_is_obeyed(tmp_path, prefix):
    text = "path,label,group\n" + "".join(f"cat/{i}.jpg,{'even' if i % 2 == 0 else 'odd'},u{i}\n" for i in range(3))
    files = {prefix + name: content for name, content in {**two_classes(), "manifest.csv": text.encode()}.items()}
    sets = [load(str(pack(tmp_path / "x.tar", files))), load(str(write(tmp_path / "x", files)))]
    for images in sets:
        assert images.name == "x"
        assert images.ids == ("cat/0.jpg", "cat/1.jpg", "cat/2.jpg")
        assert images.classes == ("even", "odd")
        assert images.groups.tolist() == ["u0", "u1", "u2"]
        np.testing.assert_array_equal(images.read(1), sets[0].read(1))
    assert sets[0].hash() == sets[1].hash()
    files[prefix + "manifest.jsonl"] = b"{}"
    for path in (pack(tmp_path / "x.tar", files), write(tmp_path / "x", files)):
        with pytest.raises(SlmlpError, match=r"several manifests .*manifest\.csv, .*manifest\.jsonl"):
            load(str(path))


def test_a_manifest_beside_one_folder_is_at_the_root(tmp_path):
    text = "path,label\npets/cat/0.jpg,cat\npets/dog/0.jpg,dog\n"
    files = {**two_classes("pets/"), "manifest.csv": text.encode()}
    for path in (pack(tmp_path / "x.tar", files), write(tmp_path / "x", files)):
        assert load(str(path)).ids == ("pets/cat/0.jpg", "pets/dog/0.jpg")


def test_a_manifest_in_a_tar_cannot_name_files_outside(tmp_path):
    secret = write(tmp_path, {"secret.jpg": jpeg(50)}) / "secret.jpg"
    text = f"path,label\ncat/0.jpg,cat\ndog/0.jpg,dog\n../secret.jpg,cat\n{secret},cat\n"
    path = pack(tmp_path / "x.tar", {**two_classes(), "manifest.csv": text.encode()})
    images = load(str(path), DataOptions(allow_unreadable=True))
    assert images.ids == ("cat/0.jpg", "dog/0.jpg")
    assert {reason for _, reason in images.unreadable} == {"not in the archive"}


def test_columns_are_known_by_the_names_that_others_give_them(tmp_path):
    lines = "".join(f"images/{i}.jpg,{'ab'[i % 2]},{'Dev' if i > 3 else 'TRAIN'},p{i // 2},{i}\n" for i in range(6))
    text = "File Name,Class,Split,Patient_ID,width\n" + lines
    images = load(manifest(tmp_path, text))
    assert images.classes == ("a", "b")
    assert images.parts.tolist() == ["train"] * 4 + ["test"] * 2
    assert images.groups.tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert images.notes == (
        "columns taken: File Name as path, Class as label, Split as part, Patient_ID as group",
        "columns not used: width",
        "taken as parts: Dev as test, TRAIN as train",
    )
    assert all(note in describe(images) for note in images.notes)
    assert summary(images)["notes"] == list(images.notes)
    lines = "".join(
        f'{{"IMAGE": "images/{i}.jpg", "category": "{"ab"[i % 2]}", "Unit": "{i // 2}", "area": 7}}\n' for i in range(6)
    )
    as_json = load(manifest(tmp_path, lines, ".jsonl"))
    assert as_json.groups.tolist() == ["0", "0", "1", "1", "2", "2"]
    assert as_json.notes[-1] == "columns not used: area"


def test_the_own_name_of_a_column_comes_before_others(tmp_path):
    text = "path,class,label,Label,subset,Part\n" + "".join(
        f"images/{i}.jpg,x,{'ab'[i % 2]},y,z,train\n" for i in range(4)
    )
    images = load(manifest(tmp_path, text))
    assert images.classes == ("a", "b")
    assert images.notes == ("columns taken: Part as part", "columns not used: class, Label, subset")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_between_columns_are_seen_in_the_header(tmp_path, mark):
    text = "path,label\n" + "".join(f'images/{i}.jpg,"{"ab"[i % 2]}, large"\n' for i in range(4))
    other = text.replace(",", mark, 1).replace('.jpg,"', f'.jpg{mark}"')
    assert load(manifest(tmp_path, other)).hash() == load(manifest(tmp_path, text)).hash()


def test_paths_written_on_windows(tmp_path):
    rows = "".join(f"images\\{i}.jpg,{'ab'[i % 2]}\n" for i in range(4))
    images = load(manifest(tmp_path, "path,label\n" + rows))
    assert images.ids == tuple(f"images/{i}.jpg" for i in range(4))
    files = {f"images/{i}.jpg": jpeg(i) for i in range(4)}
    packed = load(str(pack(tmp_path / "x.tar", {**files, "manifest.csv": ("path,label\n" + rows).encode()})))
    assert packed.hash() == images.hash()
    (tmp_path / r"images\0.jpg").write_bytes(jpeg(40))  # a name that a file of Linux may have
    assert load(manifest(tmp_path, "path,label\n" + rows)).ids[-1] == r"images\0.jpg"
    text = "path,label\n" + rows + "C:\\data\\4.jpg,a\n"
    with pytest.raises(SlmlpError, match=r"a path on drive C: of Windows; write it relative to the manifest"):
        load(manifest(tmp_path, text), DataOptions(cache_dir=str(tmp_path)))


def test_values_of_the_part_column_can_be_told(tmp_path):
    text = "path,label,fold\n" + "".join(f"images/{i}.jpg,{'ab'[i % 2]},{i // 2}\n" for i in range(6))
    text = text.replace("fold", "part")
    path = manifest(tmp_path, text)
    with pytest.raises(
        SlmlpError, match=r"line 2: part must be one of .*found '0'.* --parts \.\.\.=0 \.\.\.=1 \.\.\.=2"
    ):
        load(path)
    images = load(path, DataOptions(parts=("train=0", "train=1", "test=2")))
    assert images.parts.tolist() == ["train"] * 4 + ["test"] * 2
    with pytest.raises(SlmlpError, match="--parts says nothing of '2'"):
        load(path, DataOptions(parts=("train=0", "test=1")))
    with pytest.raises(SlmlpError, match="--parts names '3', and the values are 0, 1, 2"):
        load(path, DataOptions(parts=("train=0", "train=1", "train=2", "test=3")))
    with pytest.raises(SlmlpError, match="--parts needs a column part"):
        load(manifest(tmp_path, text.replace("part", "place")), DataOptions(parts=("train=0",)))


def test_names_that_are_almost_equal_are_pointed_out(tmp_path):
    labels = ["Cat", "cat ", "07", "7", "7.0", "Caf\u00e9", "Cafe\u0301", "dog"]
    text = "path,label,group\n" + "".join(f"images/{i % 6}.jpg,{y},P{i}\n" for i, y in enumerate(labels[:6]))
    images = load(manifest(tmp_path, text))
    assert images.notes == (
        "classes that differ in case, spaces, Unicode form or the form of a number only: '07' and '7' and '7.0', 'Cat' "
        "and 'cat '",
    )
    folder = write(tmp_path / "folder", {f"{name}/1.jpg": jpeg(1) for name in labels[5:]})
    assert load(str(folder)).notes[0].endswith(r"only: 'Cafe\u0301' and 'Caf\xe9'")
    groups = "path,label,group\nimages/0.jpg,a,Anna\nimages/1.jpg,b,anna\nimages/2.jpg,b,ben\n"
    assert load(manifest(tmp_path, groups)).notes[0].endswith("only: 'Anna' and 'anna'")


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        ("phase", ("train", "test"), "'phase' holds test, train and is not read as the part: name it part"),
        ("Dataset", ("Training", "valid", ""), "'Dataset' holds training, valid and is not read"),
        ("is_test", ("0", "1"), "'is_test' holds 0 and 1 and is not read as the part: write a column part"),
        ("isTrain", ("True", "False"), "'isTrain' holds false and true"),
        ("Test Set", ("no", "yes"), "'Test Set' holds no and yes"),
        ("history", ("1", "0"), None),
        ("site", ("train station", "test site"), None),
        ("kind", ("train", "tram"), None),
        ("vehicle", ("train", "train"), None),
    ],
)
def test_a_column_that_tells_training_from_test_is_not_passed_over(tmp_path, column, values, fault):
    rows = [(f"images/{i}.jpg", "ab"[i % 2], values[i % len(values)]) for i in range(6)]
    text = f"path,label,{column}\n" + "".join(",".join(row) + "\n" for row in rows)
    lines = "".join(json.dumps(dict(zip(("path", "label", column), row, strict=True))) + "\n" for row in rows)
    for path in (manifest(tmp_path, text), manifest(tmp_path, lines, ".jsonl")):
        if fault is None:
            assert load(path).notes == (f"columns not used: {column}",)
        else:
            with pytest.raises(SlmlpError, match=fault):
                load(path)
    parts = f"path,label,{column},part\n" + "".join(",".join(row) + ",train\n" for row in rows)
    assert load(manifest(tmp_path, parts)).notes == (f"columns not used: {column}",)


def test_flags_in_json_lines_are_seen_too(tmp_path):
    lines = "".join(
        json.dumps({"path": f"images/{i}.jpg", "label": "ab"[i % 2], "is_test": i > 3, "boxes": [[1, i]]}) + "\n"
        for i in range(6)
    )
    with pytest.raises(SlmlpError, match="'is_test' holds false and true"):
        load(manifest(tmp_path, lines, ".jsonl"))
