"""Bad COCO annotations and pictures: each is named with its reason before any training, or left out and listed."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from PIL import Image

from detection_data import change, settings
from detection_data import part as part_of
from slmlp.detection.announce import announce, summary
from slmlp.detection.coco import copies_of_training, learnable
from slmlp.detection.evaluate import average_precision
from slmlp.detection.layout import find_parts
from slmlp.detection.main import _parts
from slmlp.detection.reading import load
from slmlp.detection.samples import target
from slmlp.results.records import Result
from slmlp.results.sentences import data_warnings
from slmlp.runtime.errors import SlmlpError

NAN, INF = float("nan"), float("inf")
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("image_id", 99, "its image_id 99 is no image of the file"),
        ("image_id", None, "its image_id None is no image"),
        ("category_id", 4, "its category_id 4 is no category"),
        ("bbox", [1, 2, 3], "box [1, 2, 3] is not [left, top, width, height]"),
        ("bbox", [1, 2, -3, 4], "has a negative width or height"),
        ("bbox", [1, 2, 3, NAN], "is not [left, top, width, height]"),
        ("bbox", [1, 2, INF, 4], "is not [left, top, width, height]"),
        ("bbox", ["1", 2, 3, 4], "is not [left, top, width, height]"),
        ("bbox", None, "box None is not"),
        ("bbox", [1, 2, 300, 4], "reaches more than 2 pixels out of its picture"),
        ("iscrowd", "false", "iscrowd is 'false', expected 0 or 1"),
        ("iscrowd", 2, "iscrowd is 2, expected 0 or 1"),
        ("segmentation", [SQUARE[:7]], "a ring of 7 numbers"),
        ("segmentation", [SQUARE[:4]], "a ring of 2 points"),
        ("segmentation", [[*SQUARE[:6], NAN, 30]], "a ring with NaN or infinity"),
        ("segmentation", [[*SQUARE[:6], INF, 30]], "a ring with NaN or infinity"),
        ("segmentation", [[0, 0, 1e9, 0, 1e9, 1e9]], "a ring that reaches to 1e+09 pixels"),
        ("segmentation", [[10, 10, 20, 20, 30, 30]], "a ring without area"),
        ("segmentation", [[10, 10, "20", 20, 30, 30]], "is no list of numbers"),
        ("segmentation", [SQUARE[0]], "is no list of numbers"),
        ("segmentation", "polygon", "segmentation is a str"),
        ("segmentation", [[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]], "lies beside its box"),
        ("segmentation", {"size": [9, 9], "counts": [81]}, "its mask is [9, 9], its picture [96, "),
        ("segmentation", {"size": [96, None], "counts": [81]}, "its mask has 81 pixels, its picture"),
        ("segmentation", {"size": [96, None], "counts": [5, -5]}, "no whole numbers of 0 and more"),
        ("segmentation", {"size": [96, None], "counts": [5.5]}, "no whole numbers of 0 and more"),
        ("segmentation", {"size": [96, None], "counts": "Q00"}, "its mask has"),
        ("segmentation", {"size": [96, None], "counts": "\u00fc\u00fc"}, "nor COCO's text of them"),
        ("segmentation", {"size": [96, None], "counts": "o" * 99}, "nor COCO's text of them"),
        ("segmentation", {"size": [96, None]}, "no whole numbers of 0 and more"),
    ],
)
def test_a_bad_annotation_is_named_with_its_reason_or_left_out(edited, coco, entry, value, said):
    def break_one(content):
        row = content["annotations"][1]
        picture = next(p for p in content["images"] if p["id"] == row["image_id"])
        row["bbox"], row["segmentation"] = [10, 10, 20, 20], [SQUARE]
        if isinstance(value, dict):
            row[entry] = {**value, "size": [picture["width"] if v is None else v for v in value["size"]]}
        else:
            row[entry] = value

    with pytest.raises(SlmlpError, match=r"1 of \d+ annotations cannot be used, more than 1 %") as error:
        edited(break_one)
    assert said in str(error.value)
    assert "instances_train.json" in str(error.value)
    assert "\n" not in str(error.value)
    part = edited(break_one, allow_unreadable=True)
    whole = load(find_parts(str(coco), {})["train"])
    assert part.objects == whole.objects - 1
    assert part.masks
    assert [name for name, _ in part.left_out] == ["annotation 1"]
    assert said in part.left_out[0][1]
    labels = {3: 1, 7: 2}
    for picture in part.pictures:
        size = (picture.height, picture.width)
        assert target(picture, labels, size, False, True)["masks"].flatten(1).any(1).all()
    average_precision(part.truth(), [], "mask")


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("file_name", "gone.png", "image gone.png: there is no file"),
        ("file_name", None, "image 12: it has no file_name"),
        ("width", 500, "image 002.png: it is"),
        ("height", "96", "its width and height are"),
        ("height", 0, "its width and height are"),
        ("width", True, "its width and height are True"),
    ],
)
def test_a_bad_picture_is_named_or_left_out_with_its_annotations(edited, entry, value, said):
    with pytest.raises(SlmlpError, match="1 of 6 pictures cannot be used") as error:
        edited(change("images", 2, entry, value))
    assert said in str(error.value)
    part = edited(change("images", 2, entry, value), allow_unreadable=True)
    assert [picture.id for picture in part.pictures] == [10, 11, 13, 14, 15]
    assert len(part.left_out) == 1
    assert len(part.truth()["images"]) == len(part.digests) == 5


def test_at_most_one_percent_is_left_out_without_a_word_of_permission(tmp_path):
    file = part_of(tmp_path, "train", 100, 0)
    content = json.loads(file.read_text())
    (tmp_path / "images" / "train" / "007.png").write_bytes(b"no image")
    objects = len(content["annotations"])
    for i in (3, 40):
        content["annotations"][i]["segmentation"] = [[1, 2, 3, 4]]
    file.write_text(json.dumps(content))
    assert 200 <= objects < 300
    part = load(find_parts(str(tmp_path), {})["train"])
    assert (len(part), part.masks) == (99, True)
    assert [name for name, _ in part.left_out] == ["image 007.png", "annotation 3", "annotation 40"]
    assert "3 bad images and annotations left out" in part.describe()
    announce({"train": part}, tmp_path)
    assert [line.split("\t")[:2] for line in (tmp_path / "unreadable.txt").read_text().splitlines()] == [
        ["train", "image 007.png"], ["train", "annotation 3"], ["train", "annotation 40"]
    ]  # fmt: skip
    content["annotations"][50]["iscrowd"] = "false"
    file.write_text(json.dumps(content))
    with pytest.raises(SlmlpError, match=rf"3 of {objects} annotations cannot be used"):
        load(find_parts(str(tmp_path), {})["train"])


def test_a_ring_that_cannot_be_drawn_is_taken_out_of_its_mask(edited):
    def more_rings(content):
        content["annotations"][0]["segmentation"] += [[1, 1, 2], [5, 5, 5, 5, 5, 5], []]

    part = edited(more_rings)
    assert not part.left_out
    assert all(len(a["segmentation"]) == 1 for p in part.pictures for a in learnable(p))


@pytest.mark.parametrize("nothing", [[], [[]], None])
def test_a_file_whose_masks_are_all_empty_is_one_of_boxes(edited, nothing):
    def empty(content):
        for row in content["annotations"]:
            if not row["iscrowd"]:
                row["segmentation"] = nothing

    part = edited(empty)
    assert not part.masks
    assert not part.left_out


def test_an_area_that_is_none_is_the_boxs(edited):
    def areas(content):
        for row, value in zip(content["annotations"], (NAN, -3, "9", None, True), strict=False):
            row["area"] = value

    rows = edited(areas).truth()["annotations"][:5]
    assert [row["area"] for row in rows] == [row["bbox"][2] * row["bbox"][3] for row in rows]


def test_boxes_as_shares_of_the_picture_are_refused(edited):
    def shares(content):
        for row in content["annotations"]:
            row["bbox"] = [value / 200 for value in row["bbox"]]

    with pytest.raises(SlmlpError, match=r"within 0 and 1, so they look like shares of the picture"):
        edited(shares, boxes_only=True)


def test_a_picture_of_200_million_pixels_is_bad_before_any_training(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "copy")
    Image.new("1", (20_000, 10_000)).save(copy / "images" / "train" / "001.png")
    with pytest.raises(SlmlpError, match=r"image 001.png: it cannot be read: Image size \(200000000 pixels\) exceeds"):
        load(find_parts(str(copy), {})["train"])


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.8])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_cut_short_is_bad_before_any_training(coco, tmp_path, keep, suffix):
    copy = shutil.copytree(coco, tmp_path / "copy")
    file = copy / "images" / "train" / "001.png"  # PIL goes by the content
    Image.open(file).save(file, "JPEG" if suffix == "jpg" else "PNG")
    assert not load(find_parts(str(copy), {})["train"]).left_out
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(
        SlmlpError, match=r"1 of 6 pictures cannot be used.*image 001.png: it cannot be read: "
    ) as error:
        load(find_parts(str(copy), {})["train"])
    assert "BytesIO" not in str(error.value)
    assert len(load(find_parts(str(copy), {})["train"], settings(allow_unreadable=True))) == 5


def test_parts_without_objects_are_refused_before_training(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "copy")
    file = copy / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    crowds = [row for row in content["annotations"] if row["iscrowd"]]
    for rows in ([], crowds):
        file.write_text(json.dumps({**content, "annotations": rows}))
        with pytest.raises(SlmlpError, match="the val part has no object that is no crowd"):
            _parts(str(copy), {}, settings())


def test_training_images_in_another_part_are_counted(coco):
    given = {part: (str(coco / "annotations" / "instances_train.json"), str(coco / "images" / "train"))
             for part in ("train", "val")}  # fmt: skip
    parts = _parts(None, given, settings())
    assert (len(copies_of_training(parts, "val")), copies_of_training(parts, "train")) == (6, [])
    assert copies_of_training(_parts(str(coco), {}, settings()), "val") == []


def test_copies_in_folders_of_their_own_are_named_with_them(coco, tmp_path):
    """Both are ``000.png`` below the folders that ``--train-images`` and ``--val-images`` name."""
    file, train = coco / "annotations" / "instances_train.json", coco / "images" / "train"
    other = shutil.copytree(train, tmp_path / "other")
    pairs = copies_of_training(_parts(None, {"train": (file, train), "val": (file, other)}, settings()), "val")
    assert pairs == [(f"{train}/{i:03}.png", f"{other}/{i:03}.png") for i in range(6)]


def test_boxes_that_are_corners_by_their_masks_are_refused(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "copy")
    file = copy / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    pictures = {row["id"]: row for row in content["images"]}
    kept = []
    for row in content["annotations"]:
        if not isinstance(row["segmentation"], list):
            continue
        left, top, width, height = row["bbox"]
        picture = pictures[row["image_id"]]
        if 2 * left + width <= picture["width"] and 2 * top + height <= picture["height"]:  # else it reaches out
            kept.append({**row, "bbox": [left, top, left + width, top + height]})
    corners = [row for row in kept if min(row["bbox"][:2]) > 3]
    assert corners
    file.write_text(json.dumps({**content, "annotations": corners}))
    with pytest.raises(SlmlpError, match=r"boxes are \[left, top, right, bottom\] by their masks"):
        load(find_parts(str(copy), {})["train"])


def test_a_warning_names_the_part_that_was_evaluated():
    row = Result(
        run="a", method="a", encoder="a", seed=0, task="detect", data="bricks", metric="box_ap", value=0.0, n=2,
        extra={"part": "val"}, warnings={"duplicates_across_parts": 1},
    )  # fmt: skip
    other = dataclasses.replace(row, extra={"part": "test"}, task="detect-test")
    assert [line.split(" images ")[0] for line in data_warnings([row, other])] == ["bricks: val", "bricks: test"]


@pytest.mark.parametrize(
    ("other", "fits"), [("images/training", True), ("images/thumbs", False), ("small", False), ("val/train", False)]
)
def test_images_of_the_same_names_in_two_folders_are_a_tie(coco, tmp_path, other, fits):
    copy = shutil.copytree(coco, tmp_path / "copy")
    shutil.rmtree(copy / "images" / "val")
    (copy / "annotations" / "instances_val.json").unlink()
    (copy / "images" / "train").rename(copy / "images" / "all")
    shutil.copytree(copy / "images" / "all", copy / other)
    if fits:  # its name says which part it is of
        assert find_parts(str(copy), {})["train"].folder == other
        return
    with pytest.raises(
        SlmlpError, match=rf"lie in .*{other}.*: name the folder of the right ones, --train-json FILE"
    ) as e:
        find_parts(str(copy), {})
    assert "images/all" in str(e.value)


def test_what_was_read_is_said_and_written_part_by_part(coco, tmp_path, capsys):
    copy = shutil.copytree(coco, tmp_path / "copy")
    file = copy / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    file.write_text(json.dumps(content))
    (copy / "images" / "train" / "003.png").write_bytes(b"no image")
    objects = [row for row in content["annotations"][1:] if not row["iscrowd"] and row["image_id"] != 13]
    val = json.loads((copy / "annotations" / "instances_val.json").read_text())
    same = copy / "images" / "val" / "001.png"
    shutil.copy(copy / "images" / "train" / "002.png", same)
    val["images"][1]["width"] = next(row["width"] for row in content["images"] if row["file_name"] == "002.png")
    val["annotations"] = [row for row in val["annotations"] if row["image_id"] != 11]
    (copy / "annotations" / "instances_val.json").write_text(json.dumps(val))

    parts = _parts(str(copy), {}, settings(allow_unreadable=True))
    announce(parts, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "data.json").read_text())
    assert facts == summary(parts)
    assert list(facts) == ["train", "val"]
    train = facts["train"]
    assert (train["images"], train["images_to_train_on"], train["objects"]) == (5, 4, len(objects))
    assert train["left_out"] == {"images": 1, "annotations": 1}
    assert [(row["id"], row["name"]) for row in train["categories"]] == [(3, "brick"), (7, "ball")]
    for row in train["categories"]:
        assert row["objects"] == sum(o["category_id"] == row["id"] for o in objects)
    assert (train["masks"], train["crowd_regions"], facts["val"]["crowd_regions"]) == (True, 1, 1)
    assert train["hash"] == parts["train"].hash() != facts["val"]["hash"]
    assert train["source"].endswith("instances_train.json")
    assert train["duplicates_with_training"] == []
    [[one, other]] = facts["val"]["duplicates_with_training"]
    assert (one.rsplit("/", 2)[1:], other.rsplit("/", 2)[1:]) == (["train", "002.png"], ["val", "001.png"])
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("warning")] == [
        f"warning: 1 of 5 val images equal a training image byte for byte: {one} = {other}"
    ]
    assert "left out of train: image 003.png: " in "\n".join(said)
    listed = (tmp_path / "out" / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[:2] for line in listed] == [["train", "image 003.png"], ["train", "annotation 0"]]
    announce(_parts(str(coco), {}, settings()), tmp_path / "out")
    assert not (tmp_path / "out" / "unreadable.txt").exists()
