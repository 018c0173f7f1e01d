"""Folders named like parts, folders that may be either, and what a user says of them."""

from __future__ import annotations

import numpy as np
import pytest

from data_images import jpeg, pack, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import describe, load
from slmlp.data.sources import parts
from slmlp.runtime.errors import SlmlpError


def counts(images):
    return {part: int((images.parts == part).sum()) for part in ("train", "test")}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "dev"), (4, 6)),
        (("Training Images", "Testing Images"), (4, 6)),
        (("train_set", "test_set"), (4, 6)),
        (("train2017", "val2017"), (4, 6)),
        (("images-training", "images-validation"), (4, 6)),
        (("trainval", "test"), (4, 6)),
        (("TrainSet", "ValidSet", "TestSet"), (10, 8)),
    ],
)
def test_parts_are_known_by_their_usual_names(tmp_path, names, expected):
    for i, name in enumerate(names):
        write(tmp_path / "pets", two_classes(f"{name}/", each=2 + i, start=10 * i))
    for path in (tmp_path / "pets", pack(tmp_path / "pets.tar", contents(tmp_path / "pets"))):
        images = load(str(path))
        assert images.classes == ("cat", "dog")
        assert tuple(counts(images).values()) == expected
        plain = all(name in ("train", "test") for name in names)  # what val is is said
        assert ("taken as parts" in describe(images)) == (not plain)


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}


@pytest.mark.parametrize(
    "word", ["trains", "contest", "attest", "latest images", "devil", "training ground", "set", "2017"]
)
def test_words_that_only_look_like_parts(word):
    assert parts.part_kind(word) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        # a part without a class folder: its images would be left out, and training images scored in their place
        (
            {"train/x/1.jpg": 1, "train/y/1.jpg": 2, "val/1.png": 3},
            r"part val has no image in a class folder .*found val/1.png",
        ),
        ({"train/x/1.jpg": 1, "train/y/1.jpg": 2, "test/1.jpg": 3, "val/x/1.jpg": 4}, "part test has no image"),
        # as Tiny-ImageNet comes: the folder below val/ is no class
        (
            {"train/x/1.jpg": 1, "train/y/1.jpg": 2, "val/images/1.jpg": 3},
            r"no class folder of val \(images\) is one of",
        ),
        ({"train/x/1.jpg": 1, "train/y/1.jpg": 2, "extra/1.jpg": 3}, r"part folders \(train\) and others \(extra\)"),
        ({"x/1.jpg": 1, "y/1.jpg": 2, "test/1.jpg": 3}, r"part folders \(test\) and others \(x, y\)"),
        (
            {"one/x/1.jpg": 1, "one/y/1.jpg": 2, "two/x/3.jpg": 3, "two/y/4.jpg": 4},
            r"folders of the same names \(x, y\)",
        ),
        (
            {f"{a}/{b}/1.jpg": ord(b) for a in ("f1", "f2", "f3") for b in "xyz"[: 2 + (a != "f2")]},
            r"\(f1, f2, f3\) share",
        ),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_what_to_type(tmp_path, files, words):
    write(tmp_path / "d", {name: jpeg(seed) for name, seed in files.items()})
    for path in (tmp_path / "d", pack(tmp_path / "d.tar", contents(tmp_path / "d"))):
        with pytest.raises(SlmlpError, match=words) as caught:
            load(str(path))
        assert "--parts train=" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_each_reading_can_be_said(tmp_path):
    root = write(tmp_path / "d", {**two_classes("one/"), **two_classes("two/", each=2, start=9)})
    for path in (root, pack(tmp_path / "d.tar", contents(root))):
        as_parts = load(str(path), DataOptions(parts=("train=one", "test=two")))
        assert (as_parts.classes, counts(as_parts)) == (("cat", "dog"), {"train": 6, "test": 4})
        as_classes = load(str(path), DataOptions(parts=("train=.",)))
        assert (as_classes.classes, as_classes.has_test_part) == (("one", "two"), False)
        alone = load(str(path), DataOptions(parts=("train=two",)))
        assert (len(alone), alone.ids[0]) == (4, "two/cat/0.jpg")
        assert dict(alone.ignored)["one/cat/0.jpg"] == "outside of the folders that --parts names"
    typed = load(str(root), DataOptions(parts=(f"train={root}/one", f"test={root}/two/")))
    assert counts(typed) == {"train": 6, "test": 4}


def test_folders_of_parts_may_lie_deeper_and_inside_a_wrapper(tmp_path):
    files = {**two_classes("w/a/good/"), **two_classes("w/b/c/", each=2), "w/b/cat/0.jpg": jpeg(77)}
    root = write(tmp_path / "d", files)
    for prefix in ("", "w/"):
        options = DataOptions(parts=(f"train={prefix}a/good", f"val={prefix}b/c"))
        images = load(str(root), options)
        assert (images.classes, counts(images)) == (("cat", "dog"), {"train": 6, "test": 4})
        assert dict(images.ignored) == {"b/cat/0.jpg": "outside of the folders that --parts names"}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("train=one", "test=three"), "part three has no image in a class folder"),
        (("test=two",), "--parts names no training part"),
        (("train:one",), "--parts takes train=DIR, val=DIR and test=DIR, found 'train:one'"),
        (("train=",), "found 'train='"),
        (("unseen=one",), "found 'unseen=one'"),
        (("train=one", "test=one/"), "--parts names one as train and as test"),
    ],
)
def test_mistakes_in_parts_are_one_line(tmp_path, told, words):
    root = write(tmp_path / "d", {**two_classes("one/"), **two_classes("two/", start=9)})
    with pytest.raises(SlmlpError, match=words):
        load(str(root), DataOptions(parts=told))


def test_parts_below_the_classes_are_known(tmp_path):
    files = {name.replace("dog/", "dog/train/").replace("cat/", "cat/Train/"): of for name, of in two_classes().items()}
    files |= {"dog/test/7.jpg": jpeg(50), "cat/test/7.jpg": jpeg(51)}
    images = load(str(write(tmp_path / "d", files)))
    assert (images.classes, counts(images)) == (("cat", "dog"), {"train": 6, "test": 2})
    assert images.notes[0].startswith("parts below the class folders")


def test_classes_may_hold_one_folder_of_one_name_or_folders_of_their_own(tmp_path):
    files = {name.replace("/", "/images/"): content for name, content in two_classes().items()}
    assert load(str(write(tmp_path / "a", files))).classes == ("cat", "dog")
    files = {
        "cat/persian/1.jpg": jpeg(1),
        "cat/manx/1.jpg": jpeg(2),
        "dog/pug/1.jpg": jpeg(3),
        "dog/collie/1.jpg": jpeg(4),
    }
    assert load(str(write(tmp_path / "b", files))).classes == ("cat", "dog")


def test_classes_that_would_be_lost_are_named(tmp_path):
    root = write(tmp_path / "d", {**two_classes(), "yak/1.heic": b"x", "yak/2.heic": b"x", "cat/3.heic": b"x"})
    (root / "ant").mkdir()
    images = load(str(root))
    assert dict(images.ignored) == {
        "ant": "empty folder",
        "cat/3.heic": "unknown suffix .heic",
        "yak/1.heic": "unknown suffix .heic, and class 'yak' has no image",
        "yak/2.heic": "unknown suffix .heic, and class 'yak' has no image",
    }


def test_values_of_an_array_of_parts_can_be_told(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(6) % 2, part=np.array([0, 0, 0, 0, 1, 1]))
    images = load(str(tmp_path / "x.npz"), DataOptions(parts=("train=0", "test=1")))
    assert counts(images) == {"train": 4, "test": 2}


@pytest.mark.parametrize(
    ("tops", "advice"),
    [
        (("set1_test", "set1_train"), "--parts train=set1_train test=set1_test where"),
        (("TestA", "TrainA"), "--parts train=TrainA test=TestA where"),
        (("fold1", "fold2", "fold3"), "--parts train=fold1 test=fold2 where"),
        (("holdout", "train"), "--parts train=train test=holdout where"),
        (("background", "train", "val"), "--parts train=train val=val test=background where"),
    ],
)
def test_what_to_type_names_no_test_folder_as_training(tmp_path, tops, advice):
    for i, top in enumerate(tops):
        write(tmp_path / "pets", two_classes(f"{top}/", start=10 * i))
    with pytest.raises(SlmlpError, match=advice):
        load(str(tmp_path / "pets"))


def test_folds_of_which_one_lacks_a_class_are_no_classes(tmp_path):
    folds = {f"fold{i}/{name}/{j}.jpg": jpeg(9 * i + j) for i in range(3) for name in ("cat", "dog") for j in range(3)}
    lacking = {name: content for name, content in folds.items() if not name.startswith("fold2/dog")}
    with pytest.raises(SlmlpError, match=r"the top folders \(fold0, fold1, fold2\) share folders .*\(cat, dog\)"):
        load(str(write(tmp_path / "folds", lacking)))
    same = {f"{name}/images/{j}.jpg": jpeg(j + 7 * k) for k, name in enumerate(("cat", "dog")) for j in range(3)}
    assert load(str(write(tmp_path / "same", same))).classes == ("cat", "dog")
    tree = [("birds", ("owl", "other")), ("cats", ("lion", "tiger", "other")), ("dogs", ("fox", "wolf", "other"))]
    some = {f"{top}/{name}/{j}.jpg": jpeg(j) for top, names in tree for name in names for j in range(2)}
    assert load(str(write(tmp_path / "tree", some))).classes == ("birds", "cats", "dogs")


def test_a_val_part_beside_a_test_part_is_said_to_join_training(tmp_path):
    for i, name in enumerate(("train", "val", "test")):
        write(tmp_path / "pets", two_classes(f"{name}/", start=10 * i))
    assert load(str(tmp_path / "pets")).notes == ("taken as parts: test as test, train as train, val as train",)
