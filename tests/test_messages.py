"""What a person is told: which file, what is wrong with it, and what to type now."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from data_images import jpeg, pack, tiff, two_classes, write
from slmlp import api, cli
from slmlp.data import load
from slmlp.data.decode import decode
from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load as load_coco
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plain, short
from slmlp.runtime.progress import say

from detection_data import data_set  # isort: skip


def told(*words: object) -> tuple[int, str]:
    return cli.attempt([str(word) for word in words], False)


def test_an_array_in_place_of_an_encoder(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((4, 2)))
    code, line = told("evaluate", tmp_path / "f.npy")
    assert (code, "np.savez('f.npz', x=features, y=labels)" in line) == (2, True), line
    (tmp_path / "notes.txt").write_text("x")
    assert "no encoder: expected" in told("evaluate", tmp_path / "notes.txt")[1]


@pytest.mark.parametrize("source", ["{}/w.pt", "timm:test_resnet@{}/w.pt", "torchvision:resnet18"])
def test_weights_of_others_are_not_exported(tmp_path, source):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pt")
    code, line = told("export", source.format(tmp_path), "--to", "onnx", "--out", tmp_path / "x.onnx")
    assert code == 2
    assert "takes a run's folder or an encoder.safetensors that slmlp wrote" in line


def test_features_that_are_not_finite_are_named_by_their_image(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    x[7] = np.nan
    np.savez(tmp_path / "f.npz", x=x, y=np.arange(40) % 2, parts=np.where(np.arange(40) < 3, "test", "train"))
    with pytest.raises(SlmlpError, match=r"\(first: image '7'\)"):
        api.evaluate(tmp_path / "f.npz", task="centroid", out=tmp_path / "out")


def test_a_class_of_one_image_is_no_matter_of_groups(tmp_path):
    data = write(tmp_path / "d", {"a/0.jpg": jpeg(0), "b/0.jpg": jpeg(1), "b/1.jpg": jpeg(2)})
    with pytest.raises(SlmlpError, match="has one image: it takes at least two to hold some out"):
        api.evaluate("timm:test_resnet@random", str(data), task="centroid", out=tmp_path / "out")


def test_a_network_of_four_channels(tmp_path, monkeypatch):
    layers = "nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()"
    code = f"from torch import nn\ndef net():\n    return nn.Sequential({layers})\n"
    (tmp_path / "four_channels.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SlmlpError, match=r"cannot take images \(N, 3, 224, 224\).*slmlp gives RGB squares"):
        api.evaluate("four_channels:net", "emoji", task="centroid", out=tmp_path / "out")


def test_a_tiff_of_many_bands_is_no_damaged_header(tmp_path):
    assert decode(tiff(3)).shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"a TIFF of 7 bands of 8 bits, which cannot be read: save one band, or three"):
        decode(tiff(7))
    with pytest.raises(ValueError, match="damaged header"):
        decode(b"II*\0" + bytes(40))


@pytest.mark.parametrize("form", ["./{}", ".\\{}", "{}"])
def test_pictures_of_coco_in_linked_folders_and_with_dots(tmp_path, form):
    data_set(tmp_path / "real")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "annotations").symlink_to(tmp_path / "real" / "annotations")
    (tmp_path / "coco" / "images").symlink_to(tmp_path / "real" / "images")
    file = tmp_path / "real" / "annotations" / "instances_train.json"
    text = file.read_text()
    for i in range(6):
        text = text.replace(f'"{i:03d}.png"', '"' + form.format(f"{i:03d}.png").replace("\\", "\\\\") + '"')
    file.write_text(text)
    part = load_coco(find_parts(str(tmp_path / "coco"), {})["train"])
    assert [picture.name for picture in part.pictures] == [f"images/train/{i:03d}.png" for i in range(6)]


def test_linked_folders_dots_and_blanks_in_images(tmp_path):
    root = write(tmp_path / "real", two_classes())
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(root / name)
    assert load(str(tmp_path / "linked")).hash() == load(str(root)).hash()
    rows = "path,label\n./real/cat/0.jpg,a\n real/cat/1.jpg,a\nreal/./dog/0.jpg,b\nreal//dog/1.jpg,b\n"
    (tmp_path / "list.csv").write_text(rows)
    images = load(str(tmp_path / "list.csv"))
    assert images.ids == ("real/cat/0.jpg", "real/cat/1.jpg", "real/dog/0.jpg", "real/dog/1.jpg")
    files = {f"./{name}": content for name, content in two_classes().items()}
    assert load(str(pack(tmp_path / "dots.tar", files))).hash() == load(str(root)).hash()


# ---- the terminal

ACTING = "a\x1b[2J\x1b]0;t\x07b\u202egnp\u2066.\u200f\r\x9b"


def test_names_cannot_act_on_a_terminal(tmp_path, capsys):
    assert not set(plain(ACTING)) & set("\x1b\x07\u202e\u2066\u200f\r\x9b")
    assert plain("caf\u00e9 \u732b\n\tx") == "caf\u00e9 \u732b\n\tx"
    say(ACTING)
    assert "\x1b" not in capsys.readouterr().err
    name = "ca\x1b[31mt\u202e"
    data = write(tmp_path / "d\x1b[2J", {**two_classes(each=4), f"{name}/1.jpg": jpeg(7), f"{name}/2.jpg": jpeg(8)})
    out = tmp_path / "o\x1b[2J"
    assert cli.main(["evaluate", "timm:test_resnet@random", str(data), "--task", "centroid", "--out", str(out)]) == 0
    assert cli.main(["evaluate", "timm:test_resnet@random", str(tmp_path / "gone\x1b[2J")]) == 2
    captured = capsys.readouterr()
    assert not set(captured.out + captured.err) & set("\x1b\u202e")


def test_messages_of_libraries_are_cut_between_words_and_without_colours():
    text = "\x1b[31mRuntimeError\x1b[0m: " + "size mismatch " * 40
    cut = short(text, 60)
    assert len(cut) <= 60
    assert cut.endswith("size ...") or cut.endswith("mismatch ...")
    assert "\x1b" not in cut
    assert "[31m" not in cut
    assert short(ValueError()) == "ValueError"
    assert short("x" * 100, 20) == "x" * 17 + "..."
