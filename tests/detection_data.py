"""A COCO data set of coloured rectangles and discs, drawn and annotated here, and a tiny encoder."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from slmlp import config
from slmlp.detection.coco import DetectionSet
from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load
from slmlp.encoders import Encoder, build
from slmlp.runtime import seeds

SIDE = 96
CATEGORIES = [{"id": 3, "name": "brick"}, {"id": 7, "name": "ball"}]  # ids with gaps, as COCO's
QUICK = {
    "steps": 3, "batch_size": 2, "short_side": 64, "roi_batch_size": 16, "detections": 4, "norm": "group",
    "precision": "float32",
    "resamples": 100, "pictures": 2, "device": "cpu",
}  # fmt: skip


def part(folder: Path, name: str, count: int, seed: int, *, masks: bool = True, crowd: bool = True) -> Path:
    """Write images/<name>/*.png and annotations/instances_<name>.json; return the latter."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    (folder / "images" / name).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for i in range(count):
        height, width = SIDE, SIDE + 8 * int(rng.integers(0, 4))
        image = Image.new("RGB", (width, height), tuple(rng.integers(0, 90, 3).tolist()))
        pen = ImageDraw.Draw(image)
        images.append({"id": 10 + i, "file_name": f"{i:03d}.png", "width": width, "height": height})
        for _ in range(int(rng.integers(1, 4))):
            w, h = rng.integers(16, 44, 2).tolist()
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            brick = bool(rng.random() < 0.5)
            ink = (230, 60, 40) if brick else (60, 200, 240)
            if brick:
                pen.rectangle((x, y, x + w - 1, y + h - 1), fill=ink)
                ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            else:
                pen.ellipse((x, y, x + w - 1, y + h - 1), fill=ink)
                turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
                ring = np.stack([x + w / 2 * (1 + np.cos(turn)), y + h / 2 * (1 + np.sin(turn))], 1).ravel().tolist()
            annotations.append(
                {
                    "id": len(annotations), "image_id": 10 + i, "category_id": 3 if brick else 7,
                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, **({"segmentation": [ring]} if masks else {}),
                }
            )  # fmt: skip
        image.save(folder / "images" / name / f"{i:03d}.png")
    if crowd and masks:
        size = [images[0]["height"], images[0]["width"]]
        counts = [0, 40, size[0] * size[1] - 40]
        annotations.append(
            {
                "id": len(annotations), "image_id": 10, "category_id": 7, "bbox": [0, 0, 1, 40], "area": 40,
                "iscrowd": 1, "segmentation": {"size": size, "counts": counts},
            }
        )  # fmt: skip
    path = folder / "annotations" / f"instances_{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def data_set(folder: Path, *, masks: bool = True) -> Path:
    """Write 6 training and 5 validation images."""
    part(folder, "train", 6, 0, masks=masks)
    part(folder, "val", 5, 1, masks=masks)
    return folder


def packed(folder: Path, path: Path) -> Path:
    """Return a tar of a data set."""
    with tarfile.open(path, "w") as tar:
        for name in ("annotations", "images"):
            tar.add(folder / name, name)
    return path


def encoder(seed: int = 0, name: str = "test_resnet", stem: str = "standard") -> Encoder:
    """Return a tiny encoder with random weights and statistics other than 0 and 1."""
    with seeds.seeded(seed, "encoder"):
        made = build(name, 64, stem)
    return made.eval()


def edited(folder: Path, place: Path, how: Callable[[dict], object], **options: object) -> DetectionSet:
    """Return the training part of a copy of ``folder`` below ``place``, read after a change of its annotations."""
    copy = shutil.copytree(folder, place / f"edited-{len(list(place.iterdir()))}")
    file = copy / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))
    return load(find_parts(str(copy), {})["train"], settings(**options))


def change(key: str, place: int, name: str, value: object) -> Callable[[dict], None]:
    """Return what sets a field of an entry of an annotations file."""
    return lambda content: content[key][place].__setitem__(name, value)


def settings(**other: object) -> config.Detection:
    """Return settings for a few updates."""
    return config.Detection(**{**QUICK, **other})  # type: ignore[arg-type]


def noisy(truth: dict, seed: int, *, masks: bool) -> list[dict]:
    """Return predictions made up from the truth: moved, doubled, of a wrong class, missing, with random scores."""
    from faster_coco_eval.core import mask as coco_mask

    rng = np.random.default_rng(seed)
    sizes = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
    classes = [row["id"] for row in truth["categories"]]
    found = []
    for row in truth["annotations"]:
        for _ in range(int(rng.integers(0, 4))):
            shift = rng.normal(0, 0.12, 4) * np.tile(row["bbox"][2:], 2)
            x, y, w, h = np.array(row["bbox"], dtype=float) + shift
            x, y, w, h = max(x, 0.0), max(y, 0.0), max(w, 2.0), max(h, 2.0)
            one = {
                "image_id": row["image_id"],
                "category_id": row["category_id"] if rng.random() < 0.8 else int(rng.choice(classes)),
                "bbox": [round(float(v), 2) for v in (x, y, w, h)],
                "score": round(float(rng.random()), 2),  # two digits: ties happen
            }
            if masks:
                ring = [x, y, x + w, y, x + w, y + h, x, y + h]
                rle = coco_mask.merge(coco_mask.frPyObjects([ring], *sizes[row["image_id"]]))
                one["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
            found.append(one)
    return found
