"""COCO data: found where it lies, checked, taken as COCO takes it; what does not fit is one line that counts it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detection_data import change, packed, settings
from slmlp.detection.coco import learnable, same_categories
from slmlp.detection.layout import find_parts
from slmlp.detection.main import _with_masks
from slmlp.detection.reading import load
from slmlp.detection.samples import Samples, image_tensor, mask, order_plan, size_of, target
from slmlp.runtime.errors import SlmlpError


def test_a_folder_a_tar_and_named_files_are_the_same_data(coco, tmp_path):
    by_folder = load(find_parts(str(coco), {})["train"])
    by_tar = load(find_parts(str(packed(coco, tmp_path / "x.tar")), {})["train"])
    file = coco / "annotations" / "instances_train.json"
    by_name = load(find_parts(None, {"train": (str(file), str(coco / "images" / "train"))})["train"])
    assert by_folder.hash() == by_tar.hash() == by_name.hash()
    picture = by_folder.pictures[1]
    for other in (by_tar, by_name):
        assert other.store.read(other.pictures[1].name) == by_folder.store.read(picture.name)
    assert by_folder.masks
    assert by_folder.categories == ((3, "brick"), (7, "ball"))


def test_a_folder_a_part_is_found_too(coco, tmp_path):
    for part, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(coco / "images" / part, tmp_path / name)
        shutil.copy(coco / "annotations" / f"instances_{part}.json", tmp_path / name / "_annotations.coco.json")
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


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (_append("images"), "1 ids of images are there twice: 15"),
        (_append("annotations"), "ids of annotations are there twice"),
        (_append("categories"), "1 ids of categories are there twice: 7"),
        (lambda content: content.pop("categories"), "expected a list of objects under 'categories'"),
        (change("images", 0, "id", "a"), "1 entries of images have no whole number as id: entry 0 ('a')"),
    ],
)
def test_what_does_not_fit_is_counted_and_named(edited, how, said):
    with pytest.raises(SlmlpError) as error:
        edited(how)
    assert said in str(error.value)
    assert "instances_train.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_files_are_named(coco, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(coco, copy)
    (copy / "images" / "train" / "003.png").write_bytes(b"no image")
    with pytest.raises(SlmlpError, match=r"1 of 6 pictures .*image 003.png: it cannot be read"):
        load(find_parts(str(copy), {})["train"])
    (copy / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(SlmlpError, match="not valid JSON"):
        find_parts(str(copy), {})
    with pytest.raises(SlmlpError, match="expected a folder or a tar"):
        find_parts(str(tmp_path / "nowhere"), {})
    with pytest.raises(SlmlpError, match="--train-json"):
        find_parts(str(coco / "images"), {})
    with pytest.raises(SlmlpError, match="no such file"):
        find_parts(None, {"train": (str(tmp_path / "x.json"), None)})


def test_other_categories_in_another_part_are_refused(coco, edited):
    train = load(find_parts(str(coco), {})["train"])
    other = edited(change("categories", 1, "name", "disc"))
    with pytest.raises(SlmlpError, match=r"1 differ, first id 7 \('disc' there, 'ball' in training\)"):
        same_categories(train, other)


def test_boxes_and_masks_move_with_the_image(coco):
    part = load(find_parts(str(coco), {})["train"])
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


def test_a_packed_mask_is_the_polygon_it_came_from(coco):
    from faster_coco_eval.core import mask as coco_mask

    part = load(find_parts(str(coco), {})["train"])
    picture = part.pictures[0]
    ring = learnable(picture)[0]["segmentation"]
    size = picture.height, picture.width
    plain = mask(ring, picture, size)
    rle = coco_mask.encode(np.asfortranarray(plain))
    text = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    np.testing.assert_array_equal(mask(text, picture, size), plain)


def test_every_image_is_seen_once_an_epoch_and_a_step_is_the_same_again(coco):
    part = load(find_parts(str(coco), {})["train"])
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


def test_objects_without_masks_are_boxes_alone_or_bad(edited, coco):
    def some(content):
        del content["annotations"][0]["segmentation"]

    val, train = (load(find_parts(str(coco), {})[part]) for part in ("val", "train"))
    assert _with_masks({"train": train, "val": val}, settings())
    boxes = edited(some, boxes_only=True)
    assert not boxes.left_out
    assert not _with_masks({"train": boxes, "val": val}, settings(boxes_only=True))
    with pytest.raises(SlmlpError, match=r"1 of \d+ annotations .*it has no mask, and others have one .*--boxes-only"):
        edited(some)
    with pytest.raises(SlmlpError, match="its objects have no masks, those of training have"):
        _with_masks({"train": train, "val": boxes}, settings())


def test_worker_processes_give_the_same_batches_from_a_tar(coco, tmp_path):
    part = load(find_parts(str(packed(coco, tmp_path / "x.tar")), {})["train"])
    plan = order_plan(len(part.usable()), settings(batch_size=2), 3)
    here, there = (
        list(Samples(part, plan, settings(workers=n), True, slice(None)).iterate(1, n)) for n in (0, 1)
    )  # the steps that are left after one
    assert len(here) == len(there) == 2
    for (images, targets), (images_2, targets_2) in zip(here, there, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, images_2, strict=True))
        assert all(torch.equal(a[k], b[k]) for a, b in zip(targets, targets_2, strict=True) for k in a)
