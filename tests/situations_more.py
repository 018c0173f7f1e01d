"""More situations for ``situations.py``: files beside weights, runs that go on, messages, loops of others."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_images import jpeg, tiff, two_classes, write
from detection_data import data_set
from onnx_files import matrix_product

NET = "timm:test_resnet@random"
EVALUATE = ["--task", "centroid", "--out", "{}/out"]
SMALL = "--encoder resnet10 --image-size 16 --batch-size 8 --augment weak --threads 1 --epochs 1 --base-lr"
PARTS = {**two_classes("train/", each=6), **two_classes("test/", each=2, start=50)}


@dataclass(frozen=True)
class Situation:
    """One input and the words that must be told of it; exit code 2, or 0 where it goes on."""

    name: str
    build: Callable[[Path], list[object]]
    tells: str
    code: int = 2


def other_weights_beside(at: Path) -> list[object]:
    """Evaluate an ONNX file, then write other weights beside it."""
    from slmlp import api

    data, weight = write(at / "pets", PARTS), np.random.default_rng(0).normal(size=(3, 6))
    api.evaluate(matrix_product(at / "net.onnx", weight), str(data), task="centroid", out=at / "out")
    return ["evaluate", matrix_product(at / "net.onnx", weight + 1), data, *EVALUATE]


def no_weights_beside(at: Path) -> list[object]:
    """Take the weights away that lie beside an ONNX file."""
    file = matrix_product(at / "net.onnx", np.ones((3, 6)))
    (at / "weights.bin").unlink()
    return ["evaluate", file, write(at / "pets", PARTS), *EVALUATE]


def begun(at: Path, form: str = "JPEG") -> list[str]:
    """Train a run, and take its encoder away, as if it had been killed; return its command."""
    from slmlp import cli

    images = {name.replace(".jpg", ".bmp") if form == "BMP" else name: jpeg(i) for i, name in enumerate(PARTS)}
    folder = write(at / "pets", images)
    for file in folder.rglob("*.bmp"):
        Image.open(file).save(file, "BMP")
    words = ["pretrain", str(folder), *SMALL.split(), "0.2", "--out", str(at / "run")]
    assert cli.main(words) == 0
    (at / "run" / "encoder.safetensors").unlink()
    return words


def other_settings(at: Path) -> list[object]:
    """Resume with other settings."""
    begun(at)
    return ["pretrain", "--resume", at / "run", "--epochs", "5", "--base-lr", "0.9"]


def other_images(at: Path) -> list[object]:
    """Resume on moved data of which an image is gone."""
    begun(at)
    (at / "pets").rename(at / "moved")
    next((at / "moved" / "train").rglob("*.jpg")).unlink()
    return ["pretrain", at / "moved", "--resume", at / "run"]


def moved_images(at: Path) -> list[object]:
    """Resume on moved data."""
    begun(at)
    (at / "pets").rename(at / "moved")
    return ["pretrain", at / "moved", "--resume", at / "run"]


def other_pixels(at: Path) -> list[object]:
    """Change images under their names and sizes, and give the same command."""
    words = begun(at, "BMP")
    for file in (at / "pets").rglob("*.bmp"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file, "BMP")
    return list(words)


def four_channels(at: Path) -> list[object]:
    """Give a network for images of four channels."""
    layers = "nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()"
    (at / "four_bands.py").write_text(f"from torch import nn\ndef net():\n    return nn.Sequential({layers})\n")
    sys.path.append(str(at))
    return ["evaluate", "four_bands:net", "emoji", *EVALUATE]


def not_finite(at: Path) -> list[object]:
    """Give features with a NaN in one row of the training part."""
    x = np.random.default_rng(0).normal(size=(40, 5))
    x[7] = np.nan
    np.savez(at / "f.npz", x=x, y=np.arange(40) % 2, parts=np.where(np.arange(40) < 3, "test", "train"))
    return ["evaluate", at / "f.npz", *EVALUATE]


def weights(change: Callable[[str, object], None]) -> Callable[[Path], list[object]]:
    """Return a builder of an evaluation of weights that were changed one by one."""

    def build(at: Path) -> list[object]:
        import timm
        import torch

        state = timm.create_model("test_resnet", num_classes=0).state_dict()
        for name, value in state.items():
            change(name, value)
        torch.save(state, at / "w.pt")
        return ["evaluate", f"timm:test_resnet@{at}/w.pt", write(at / "pets", PARTS), *EVALUATE]

    return build


def larger_vit(at: Path) -> list[object]:
    """Give a ViT that was trained at another size than timm's default."""
    import timm
    import torch

    torch.save(timm.create_model("test_vit", img_size=80, num_classes=0).state_dict(), at / "vit.pt")
    return ["evaluate", f"timm:test_vit@{at}/vit.pt", write(at / "pets", PARTS), *EVALUATE]


def linked(at: Path) -> list[object]:
    """Give a folder of links to class folders."""
    write(at / "real", two_classes(each=4))
    (at / "linked").mkdir()
    for name in ("cat", "dog"):
        (at / "linked" / name).symlink_to(at / "real" / name)
    return ["evaluate", NET, at / "linked", *EVALUATE]


def dotted(at: Path) -> list[object]:
    """Write ./ before the paths of a manifest."""
    write(at, {f"{i}.jpg": jpeg(i) for i in range(6)})
    (at / "list.csv").write_text("path,label\n" + "".join(f"./{i}.jpg,{'ab'[i % 2]}\n" for i in range(6)))
    return ["evaluate", NET, at / "list.csv", *EVALUATE]


def exported(at: Path, *words: object) -> list[object]:
    """Export a fresh encoder."""
    from slmlp.encoders import build

    build("resnet18", 32, "standard").save(at / "encoder.safetensors")
    return ["export", at / "encoder.safetensors", "--images", "4", *words]


def script(code: str) -> Callable[[Path], list[object]]:
    """Return a builder of a training loop of somebody's."""

    def build(at: Path) -> list[object]:
        model = "slmlp.add_projector(timm.create_model('test_resnet', num_classes=5))"
        (at / "loop.py").write_text(f"import timm, torch, slmlp\nm = {model}\n{code}")
        return ["python", at / "loop.py"]

    return build


def annotated(**values: object) -> Callable[[Path], list[object]]:
    """Return a builder of a detection whose first annotation is changed."""

    def build(at: Path) -> list[object]:
        data_set(at / "coco")
        file = at / "coco" / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        content["annotations"][0].update(values)
        file.write_text(json.dumps(content))
        return ["detect", NET, at / "coco", "--out", at / "out"]

    return build


def named_alike(at: Path) -> list[object]:
    """Put the same names under another folder whose name is of training."""
    data_set(at / "coco")
    shutil.copytree(at / "coco" / "images" / "train", at / "coco" / "images" / "training")
    return ["detect", NET, at / "coco", "--out", at / "out"]


def zero(name: str, value: object) -> None:
    """Make a tensor zero."""
    value.zero_()


def nan(name: str, value: object) -> None:
    """Make the first weight NaN."""
    if name == "conv1.0.weight":
        value.fill_(float("nan"))


MORE = [
    Situation(
        "parts that the user names",
        lambda at: ["evaluate", NET, write(at / "pets", {**two_classes("a1/"), **two_classes("b2/", start=50)}),
                    "--parts", "train=a1", "test=b2", *EVALUATE],
        "6 train, 6 test", 0,
    ),
    Situation("a class of one image",
              lambda at: ["evaluate", NET, write(at / "d", {**two_classes(), "emu/0.jpg": jpeg(1)}), *EVALUATE],
              "class 'emu' has one image"),
    Situation("linked folders", linked, "8 images of 2 classes", 0),
    Situation("./ before the paths", dotted, "6 images of 2 classes", 0),
    Situation("a TIFF of seven bands",
              lambda at: ["evaluate", NET, write(at / "pets", {**two_classes(), "cat/x.tif": tiff(7)}), *EVALUATE],
              "a TIFF of 7 bands"),
    Situation("other weights beside an ONNX file", other_weights_beside, "pets: net.onnx: centroid", 0),
    Situation("no weights beside an ONNX file", no_weights_beside, "weights.bin, and there is no such file"),
    Situation("a network for four channels", four_channels, "slmlp gives RGB squares"),
    Situation("NaN in a row of features", not_finite, "(first: image '7')"),
    Situation("weights that are all zero", weights(zero), "weight tensors of the encoder that are one number", 0),
    Situation("NaN in weights", weights(nan), "NaN or infinity in 1 of"),
    Situation("a ViT that was trained at another size", larger_vit, "the weights' position embedding", 0),
    Situation("COCO: [[]] as a mask", annotated(segmentation=[[]]), "1 of 14 annotations cannot be used"),
    Situation("COCO: a ring of two points", annotated(segmentation=[[1, 1, 9, 9]]), "a ring of 2 points"),
    Situation("COCO: infinity in a box", annotated(bbox=[1, 1, float("inf"), 4]), "1 of 14 annotations cannot be used"),
    Situation("COCO: images/train and images/training", named_alike, "name the folder of the right ones"),
    Situation("--resume RUN --epochs 5 --base-lr 0.9", other_settings, "--base-lr, --epochs cannot be changed"),
    Situation("DATA --resume RUN, moved", moved_images, "images/s", 0),
    Situation("DATA --resume RUN, an image less", other_images, "trained on other images"),
    Situation("images changed under their names and sizes", other_pixels, "the same names and sizes, other pixels"),
    Situation("a rate of a billion",
              lambda at: ["pretrain", write(at / "pets", PARTS), *SMALL.split(), "1e9", "--epochs", "4",
                          "--out", at / "run"], "diverged"),
    Situation("export --out .", lambda at: exported(at, "--to", "onnx", "--out", "."), "is a folder that exists"),
    Situation("export --to detectron2 --out sub/x.pkl",
              lambda at: exported(at, "--to", "detectron2", "--out", at / "sub" / "x.pkl"),
              "python tools/train_net.py", 0),
    Situation("a last batch of one image", script("m.train()(torch.randn(1, 3, 160, 160))\n"), "a batch of one image"),
    Situation("reset_classifier after add_projector", script("m.reset_classifier(3)\n"), "is another layer now", 0),
]  # fmt: skip
