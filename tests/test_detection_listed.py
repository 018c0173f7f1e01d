"""COCO files as other tools write them: names that are not there, images listed twice, parts without their images."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load
from slmlp.runtime.errors import SlmlpError


def renamed(name):
    return lambda content: [row.update(file_name=name(row["file_name"])) for row in content["images"]]


@pytest.mark.parametrize(
    "name",
    [
        lambda name: f"/mnt/data/coco/images/train/{name}",  # of another machine
        lambda name: f"train/{name.upper()}",
        lambda name: f"my%20pets/{name}",
        lambda name: f"D:\\coco\\{name}",
    ],
)
def test_a_missing_picture_is_told_with_the_one_that_is_there(edited, name):
    with pytest.raises(SlmlpError, match=r"6 of 6 pictures cannot be used.*; there is images/(train|val)/000\.png"):
        edited(renamed(name))


def test_the_file_of_the_right_folder_is_told(edited):
    with pytest.raises(SlmlpError, match=r"; there is images/val/000\.png"):
        edited(renamed(lambda name: f"x/images/val/{name.upper()}"))


def test_ids_that_are_texts_are_said_to_be_no_numbers(edited):
    with pytest.raises(SlmlpError, match="its image_id '10' is no image of the file, whose ids are whole numbers"):
        edited(lambda content: [row.update(image_id=str(row["image_id"])) for row in content["annotations"]])


def test_an_image_under_two_ids_counts_once(edited):
    def twice(content):
        content["images"].append({**content["images"][0], "id": 99})

    with pytest.raises(SlmlpError, match="it is listed twice, as ids 10 and 99"):
        edited(twice)
    part = edited(twice, allow_unreadable=True)
    assert [picture.id for picture in part.pictures] == list(range(10, 16))


def test_doubled_annotations_and_names_of_categories_are_said(edited):
    whole = edited(lambda content: None)
    assert "already" not in whole.describe()
    doubled = edited(lambda content: content["annotations"].append({**content["annotations"][0], "id": 99}))
    assert "1 annotations of a class and box that an image has already" in doubled.describe()
    named = edited(
        lambda content: [row.update(name=name) for row, name in zip(content["categories"], "aA", strict=True)]
    )
    assert "2 categories of a name that another one has" in named.describe()


def test_a_picture_that_exif_turns_is_told_so(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "coco")
    tag = Image.Exif()
    tag[0x112] = 6
    for file in (copy / "images" / "train").glob("*.png"):
        image = Image.open(file).resize((120, 90))
        image.save(file, exif=tag)
    annotations = copy / "annotations" / "instances_train.json"
    content = json.loads(annotations.read_text())
    for row in content["images"]:
        row.update(width=120, height=90)
    annotations.write_text(json.dumps(content))
    with pytest.raises(SlmlpError, match=r"it is 90 x 120, annotated as 120 x 90 \(its EXIF tag turns it"):
        load(find_parts(str(copy), {})["train"])


def test_images_of_training_are_not_taken_for_those_of_another_part(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "coco")
    shutil.rmtree(copy / "images" / "val")
    with pytest.raises(SlmlpError, match=r"found in images/train alone.*--val-json FILE --val-images FOLDER"):
        find_parts(str(copy), {})
    given = {"val": (str(copy / "annotations" / "instances_val.json"), str(copy / "images" / "train"))}
    assert set(find_parts(str(copy), given)) == {"train", "val"}  # as it was said


def test_a_file_of_another_name_is_told(coco, tmp_path):
    copy = shutil.copytree(coco, tmp_path / "coco")
    (copy / "annotations" / "instances_train.json").rename(copy / "annotations" / "instances_default.json")
    with pytest.raises(SlmlpError, match=r"found annotations/instances_default\.json, annotations/instances_val\.json"):
        find_parts(str(copy), {})


def test_roboflows_layout_is_read(coco, tmp_path):
    for part, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(coco / "images" / part, tmp_path / name)
        content = json.loads((coco / "annotations" / f"instances_{part}.json").read_text())
        content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(content))
    parts = {name: load(files) for name, files in find_parts(str(tmp_path), {}).items()}
    assert {name: (len(part), part.objects) for name, part in parts.items()} == {"train": (6, 13), "val": (5, 9)}
    assert [picture.name for picture in parts["val"].pictures][:1] == ["valid/000.png"]
