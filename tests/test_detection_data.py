"""COCO data: found where it lies, checked, taken as COCO takes it; what does not fit is one line that counts it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detection_data import data_set, packed, settings
from detection_data import part as part_of
from slmlp.detection.coco import learnable, same_categories, shared
from slmlp.detection.evaluate import average_precision
from slmlp.detection.layout import find_parts
from slmlp.detection.main import _parts, _with_masks
from slmlp.detection.reading import load, write_list
from slmlp.detection.samples import Samples, image_tensor, mask, order_plan, size_of, target
from slmlp.runtime.errors import SlmlpError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def edited(folder, tmp_path):
    """Return a function that loads the training part after a change of its annotations."""

    def change(how, **options):
        copy = tmp_path / f"edited-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy)
        file = copy / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        how(content)
        file.write_text(json.dumps(content))
        return load(find_parts(str(copy), {})["train"], settings(**options))

    return change


def test_a_folder_a_tar_and_named_files_are_the_same_data(folder, tmp_path):
    by_folder = load(find_parts(str(folder), {})["train"])
    by_tar = load(find_parts(str(packed(folder, tmp_path / "x.tar")), {})["train"])
    file = folder / "annotations" / "instances_train.json"
    by_name = load(find_parts(None, {"train": (str(file), str(folder / "images" / "train"))})["train"])
    assert by_folder.hash() == by_tar.hash() == by_name.hash()
    picture = by_folder.pictures[1]
    for other in (by_tar, by_name):
        assert other.store.read(other.pictures[1].name) == by_folder.store.read(picture.name)
    assert by_folder.masks
    assert by_folder.categories == ((3, "brick"), (7, "ball"))


def test_a_folder_a_part_is_found_too(folder, tmp_path):
    for part, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(folder / "images" / part, tmp_path / name)
        shutil.copy(folder / "annotations" / f"instances_{part}.json", tmp_path / name / "_annotations.coco.json")
    found = find_parts(str(tmp_path), {})
    assert sorted(found) == ["train", "val"]
    assert load(found["val"]).pictures[0].name == "valid/000.png"


@pytest.mark.parametrize(("name", "counts", "masks"), [("tinycoco", (32, 6), True), ("bccd", (205, 87, 72), False)])
def test_real_data_passes_the_checks(name, counts, masks):
    if "SLMLP_DATA" not in os.environ:
        pytest.skip("SLMLP_DATA names no folder of real data")
    found = find_parts(str(Path(os.environ["SLMLP_DATA"]) / "detection" / f"{name}.tar"), {})
    parts = [load(place) for place in found.values()]
    assert tuple(len(part) for part in parts) == counts
    assert all(part.masks == masks for part in parts)
    same_categories(parts[0], parts[1])


def test_crowd_and_boxes_without_extent_are_not_learnt_from_but_stay_in_the_truth(edited):
    def flat(content):
        content["annotations"][0]["bbox"][2] = 0

    part = edited(flat)
    told = sum(len(learnable(picture)) for picture in part.pictures)
    total = len(part.truth()["annotations"])
    assert total - told == 2  # the crowd region, and the box without width
    assert "1 crowd regions, 1 boxes without extent" in part.describe()
    assert [row["id"] for row in part.truth()["annotations"]] == list(range(1, total + 1))


def _append(key, **row):
    return lambda content: content[key].append({**content[key][-1], **row})


def _set(key, place, name, value):
    return lambda content: content[key][place].__setitem__(name, value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (_append("images"), "1 ids of images are there twice: 15"),
        (_append("annotations"), "ids of annotations are there twice"),
        (_append("categories"), "1 ids of categories are there twice: 7"),
        (lambda content: content.pop("categories"), "expected a list of objects under 'categories'"),
        (_set("images", 0, "id", "a"), "1 entries of images have no whole number as id: entry 0 ('a')"),
    ],
)
def test_what_does_not_fit_is_counted_and_named(edited, how, said):
    with pytest.raises(SlmlpError) as error:
        edited(how)
    assert said in str(error.value)
    assert "instances_train.json" in str(error.value)
    assert "\n" not in str(error.value)


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
def test_a_bad_annotation_is_named_with_its_reason_or_left_out(edited, folder, entry, value, said):
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
    whole = load(find_parts(str(folder), {})["train"])
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
        edited(_set("images", 2, entry, value))
    assert said in str(error.value)
    part = edited(_set("images", 2, entry, value), allow_unreadable=True)
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
    write_list({"train": part}, tmp_path)
    assert len((tmp_path / "unreadable.txt").read_text().splitlines()) == 3
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


def test_a_picture_of_200_million_pixels_is_bad_before_any_training(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    Image.new("1", (20_000, 10_000)).save(copy / "images" / "train" / "001.png")
    with pytest.raises(SlmlpError, match=r"image 001.png: it cannot be read: Image size \(200000000 pixels\) exceeds"):
        load(find_parts(str(copy), {})["train"])


def test_parts_without_objects_are_refused_before_training(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    crowds = [row for row in content["annotations"] if row["iscrowd"]]
    for rows in ([], crowds):
        file.write_text(json.dumps({**content, "annotations": rows}))
        with pytest.raises(SlmlpError, match="the val part has no object that is no crowd"):
            _parts(str(copy), {}, settings())


def test_training_images_in_another_part_are_counted(folder):
    given = {part: (str(folder / "annotations" / "instances_train.json"), str(folder / "images" / "train"))
             for part in ("train", "val")}  # fmt: skip
    parts = _parts(None, given, settings())
    assert (shared(parts, "val"), shared(parts, "train")) == (6, 0)
    assert shared(_parts(str(folder), {}, settings()), "val") == 0


@pytest.mark.parametrize(
    ("other", "fits"), [("images/training", True), ("images/thumbs", False), ("small", False), ("val/train", False)]
)
def test_images_of_the_same_names_in_two_folders_are_a_tie(folder, tmp_path, other, fits):
    copy = shutil.copytree(folder, tmp_path / "copy")
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


def test_missing_and_unreadable_files_are_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "images" / "train" / "003.png").write_bytes(b"no image")
    with pytest.raises(SlmlpError, match=r"1 of 6 pictures .*image 003.png: it cannot be read"):
        load(find_parts(str(copy), {})["train"])
    (copy / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(SlmlpError, match="not valid JSON"):
        find_parts(str(copy), {})
    with pytest.raises(SlmlpError, match="expected a folder or a tar"):
        find_parts(str(tmp_path / "nowhere"), {})
    with pytest.raises(SlmlpError, match="--train-json"):
        find_parts(str(folder / "images"), {})
    with pytest.raises(SlmlpError, match="no such file"):
        find_parts(None, {"train": (str(tmp_path / "x.json"), None)})


def test_other_categories_in_another_part_are_refused(folder, edited):
    train = load(find_parts(str(folder), {})["train"])
    other = edited(_set("categories", 1, "name", "disc"))
    with pytest.raises(SlmlpError, match=r"1 differ, first id 7 \('disc' there, 'ball' in training\)"):
        same_categories(train, other)


def test_boxes_and_masks_move_with_the_image(folder):
    part = load(find_parts(str(folder), {})["train"])
    labels = {3: 1, 7: 2}
    for picture in part.pictures:
        for mirrored in (False, True):
            size = size_of(picture.height, picture.width, 72, 1000)
            made = target(picture, labels, size, mirrored, with_masks=True)
            image = image_tensor(part, picture, size, mirrored)
            assert image.shape == (3, *size)
            assert image.max() <= 1
            assert len(made["boxes"]) == len(made["masks"]) == len(learnable(picture))
            for box, drawn in zip(made["boxes"], made["masks"], strict=True):
                rows, columns = torch.nonzero(drawn.any(1)).flatten(), torch.nonzero(drawn.any(0)).flatten()
                found = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
                torch.testing.assert_close(found, box, atol=1.01, rtol=0)
            last = made["labels"][-1]  # drawn last, so nothing hides it
            inside = image[:, made["masks"][-1].bool()].mean(1)
            assert (inside[0] > inside[2]) == (last == 1)  # bricks are red, balls are blue


def test_a_packed_mask_is_the_polygon_it_came_from(folder):
    from faster_coco_eval.core import mask as coco_mask

    part = load(find_parts(str(folder), {})["train"])
    picture = part.pictures[0]
    ring = learnable(picture)[0]["segmentation"]
    size = picture.height, picture.width
    plain = mask(ring, picture, size)
    rle = coco_mask.encode(np.asfortranarray(plain))
    text = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    np.testing.assert_array_equal(mask(text, picture, size), plain)


def test_every_image_is_seen_once_an_epoch_and_a_step_is_the_same_again(folder):
    part = load(find_parts(str(folder), {})["train"])
    plan = order_plan(len(part.usable()), settings(batch_size=4), 9)
    seen = [part.usable()[i] for step in range(9) for i in plan.chosen(step)]
    for epoch in range(6):
        assert sorted(seen[6 * epoch : 6 * epoch + 6]) == list(range(6))
    whole = Samples(part, plan, settings(), True, slice(None))
    again = Samples(part, order_plan(len(part.usable()), settings(batch_size=4), 9), settings(), True, slice(2, 4))
    (images, targets), (images_2, targets_2) = whole[7], again[7]
    for a, b in zip(images[2:], images_2, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for a, b in zip(targets[2:], targets_2, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    sides = {min(image.shape[1:]) for step in range(9) for image in whole[step][0]}
    assert len(sides) > 3
    assert sides <= set(settings().sides)
    with pytest.raises(SlmlpError, match="--batch-size 7 is more than the 6 training images"):
        order_plan(len(part.usable()), settings(batch_size=7), 9)


def test_resizing_smooths_as_detectron2_does():
    """A checkerboard of single pixels shrunk to a quarter is grey, not black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = np.array(Image.fromarray(board).resize((16, 16), Image.Resampling.BILINEAR))
    assert abs(small.astype(int) - 127).max() < 20


def test_objects_without_masks_are_boxes_alone_or_bad(edited, folder):
    def some(content):
        del content["annotations"][0]["segmentation"]

    val, train = (load(find_parts(str(folder), {})[part]) for part in ("val", "train"))
    assert _with_masks({"train": train, "val": val}, settings())
    boxes = edited(some, boxes_only=True)
    assert not boxes.left_out
    assert not _with_masks({"train": boxes, "val": val}, settings(boxes_only=True))
    with pytest.raises(SlmlpError, match=r"1 of \d+ annotations .*it has no mask, and others have one .*--boxes-only"):
        edited(some)
    with pytest.raises(SlmlpError, match="its objects have no masks, those of training have"):
        _with_masks({"train": train, "val": boxes}, settings())


def test_worker_processes_give_the_same_batches_from_a_tar(folder, tmp_path):
    part = load(find_parts(str(packed(folder, tmp_path / "x.tar")), {})["train"])
    plan = order_plan(len(part.usable()), settings(batch_size=2), 3)
    here, there = (
        list(Samples(part, plan, settings(workers=n), True, slice(None)).iterate(1, n)) for n in (0, 1)
    )  # the steps that are left after one
    assert len(here) == len(there) == 2
    for (images, targets), (images_2, targets_2) in zip(here, there, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, images_2, strict=True))
        assert all(torch.equal(a[k], b[k]) for a, b in zip(targets, targets_2, strict=True) for k in a)
