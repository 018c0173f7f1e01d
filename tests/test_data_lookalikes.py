"""Folders that look like classes and are none, and names that may not be meant so, as data sets of others have them."""

from __future__ import annotations

import re
import shlex

import pytest

from data_images import jpeg, pack, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import load
from slmlp.runtime.errors import SlmlpError


def drawn(*names):
    return {name: jpeg(seed) for seed, name in enumerate(names)}


def counts(images):
    return {part: int((images.parts == part).sum()) for part in ("train", "test")}


def told(text):
    """Return the first --parts of an error's advice."""
    words = shlex.split(text.partition("--parts ")[2])
    return tuple(word for word in words[:3] if re.match("(train|val|test)=", word))


NESTED = {
    # as they come from Kaggle: Intel's scenes, the alphabet of signs, ten monkeys
    "seg": {**two_classes("seg_train/seg_train/"), **two_classes("seg_test/seg_test/", each=2, start=20),
            **drawn("seg_pred/seg_pred/1.jpg")},
    "asl": {**two_classes("asl_train/asl_train/"), **two_classes("asl_test/asl_test/", each=2, start=20)},
    "ten": {**two_classes("training/training/"), **two_classes("validation/validation/", each=2, start=20)},
    "test1": {**two_classes("train1/"), **two_classes("test1/", each=2, start=20)},
}  # fmt: skip


@pytest.mark.parametrize("files", NESTED.values(), ids=NESTED)
def test_parts_under_other_names_are_refused_and_the_advice_gives_the_right_counts(tmp_path, files):
    for path in (write(tmp_path / "d", files), pack(tmp_path / "d.tar", files)):
        with pytest.raises(SlmlpError, match="--parts train=") as caught:
            load(str(path))
        images = load(str(path), DataOptions(parts=told(str(caught.value))))
        assert (images.classes, counts(images)) == (("cat", "dog"), {"train": 6, "test": 4})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            drawn(*(f"train/{c}.{i}.jpg" for c in "ab" for i in range(3)), "test1/1.jpg", "test1/2.jpg"),
            r"others \(test1",
        ),
        (drawn("train/1.jpg", "train/2.jpg", "eval/1.jpg", "eval/2.jpg"), r"test=eval where they are parts"),
        (drawn("cats_train/1.jpg", "dogs_train/1.jpg", "cats_test/1.jpg", "dogs_test/1.jpg"), "have names of parts"),
        (drawn("trainA/1.jpg", "trainB/1.jpg", "testA/1.jpg", "testB/1.jpg"), "have names of parts"),
        # Office-31: domains above the classes, with a folder between
        ({**two_classes("amazon/images/"), **two_classes("dslr/images/", start=9)}, r"share folders .*\(cat, dog\)"),
    ],
)
def test_top_folders_that_are_no_classes_are_refused(tmp_path, files, words):
    with pytest.raises(SlmlpError, match=words):
        load(str(write(tmp_path / "d", files)))


def test_classes_with_a_word_of_a_part_in_their_name_stay_classes(tmp_path):
    files = drawn(*(f"{c}/{i}.jpg" for c in ("train_station", "bus_stop", "contest") for i in range(2)))
    assert load(str(write(tmp_path / "d", files))).classes == ("bus_stop", "contest", "train_station")
    files = drawn(*(f"{c}/images/{i}.jpg" for c in ("cat", "dog") for i in range(2)))
    assert load(str(write(tmp_path / "e", files))).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "names",
    [
        ("images/1.png", "images/2.png", "masks/1.png", "masks/2.png"),
        ("train/images/1.png", "train/masks/1.png", "test/images/1.png", "test/masks/1.png"),
        ("images/cat_1.jpg", "annotations/trimaps/cat_1.png"),
        ("COVID/images/1.png", "COVID/masks/1.png", "Normal/images/1.png", "Normal/masks/1.png"),
        ("JPEGImages/1.jpg", "SegmentationClass/1.png"),
    ],
)
def test_masks_are_not_taken_for_images(tmp_path, names):
    path = write(tmp_path / "d", drawn(*names))
    for options in (DataOptions(parts=("train=.",)), DataOptions(unlabelled=True)):
        with pytest.raises(SlmlpError, match="what is drawn on the images"):
            load(str(path), options)


def test_masks_outside_of_the_named_parts_are_no_matter(tmp_path):
    files = {**two_classes("images/"), **two_classes("masks/", start=20)}
    images = load(str(write(tmp_path / "d", files)), DataOptions(parts=("train=images",)))
    assert (len(images), images.classes) == (6, ("cat", "dog"))


def test_folders_of_file_servers_and_desktops_are_no_classes(tmp_path):
    files = two_classes()
    thumbs = {f"cat/@eaDir/{i}.jpg/SYNOPHOTO_THUMB_M.jpg": files[f"cat/{i}.jpg"] for i in range(3)}
    other = drawn("#recycle/1.jpg", "$RECYCLE.BIN/1.jpg", "@eaDir/x/1.jpg", "System Volume Information/1.jpg")
    for path in (write(tmp_path / "d", {**files, **thumbs, **other}), pack(tmp_path / "d.tar", {**files, **thumbs})):
        images = load(str(path))
        assert (images.classes, len(images)) == (("cat", "dog"), 6)


def test_folders_whose_names_are_not_read_are_said(tmp_path):
    files = {**two_classes("animals/"), **drawn("plants/oak/1.jpg", "plants/fern/1.jpg")}
    (note,) = load(str(write(tmp_path / "d", files))).notes
    assert note.endswith("whose names are not read: animals/cat, animals/dog, plants/fern, ... (4 in all)")
    files = {**two_classes("train/"), **drawn("test/cat/a/1.jpg", "test/cat/b/1.jpg", "test/dog/1.jpg")}
    notes = load(str(write(tmp_path / "e", files))).notes
    assert notes == ("folders below the class folders, whose names are not read: test/cat/a, test/cat/b",)


def test_two_folders_of_one_part_are_said(tmp_path):
    files = {**two_classes("train/"), **two_classes("test/", start=20), **two_classes("Test/", start=40)}
    images = load(str(write(tmp_path / "d", files)))
    assert counts(images) == {"train": 6, "test": 12}
    assert images.notes == ("taken as parts: Test as test, test as test, train as train",)
