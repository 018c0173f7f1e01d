"""Exports: the other tool's loader gives the same features, what does not fit is refused, and nothing is left of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

import slmlp
from data_images import photo
from export_files import images, left, out
from slmlp.encoders import Encoder
from slmlp.encoders.preprocess import Preprocess
from slmlp.encoders.sources import open_encoder
from slmlp.exports import TARGETS, timm_config
from slmlp.exports.bundle import open_bundle

N = 4


# ---- round trips, read here once more without slmlp


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
@pytest.mark.parametrize("classes", [None, 5])
def test_torchvision_takes_its_state_dict_strictly(encoder_file, tmp_path, name, classes):
    encoder, path = Encoder.load(encoder_file(name)), out(tmp_path, "torchvision")
    done = slmlp.export(encoder_file(name), "torchvision", path, images=N, classifier=classes)
    assert [d.output for d in done.differences] == ["features"]
    assert done.differences[0].relative < 1e-6
    model = torchvision.models.get_model(name, num_classes=classes or 1000)
    head = "fc" if name == "resnet18" else "classifier"
    if classes is None:
        setattr(model, head, torch.nn.Identity())
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    setattr(model.eval(), head, torch.nn.Identity())
    x = images(encoder)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), encoder(x))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem"), [("efficientnet_b0", "standard"), ("test_vit", "small")])
@pytest.mark.parametrize("classes", [None, 5])
def test_timm_takes_file_and_config(encoder_file, tmp_path, name, stem, classes):
    run, path = encoder_file(name, 32, stem), out(tmp_path, "timm")
    slmlp.export(run, "timm", path, images=N, classifier=classes)
    about = json.loads(Path(f"{path}.json").read_text())
    model = timm.create_model(name, num_classes=classes or 0, checkpoint_path=path, **about["model_args"]).eval()
    encoder, x = Encoder.load(run), images(Encoder.load(run))
    with torch.inference_mode():
        assert model(x).shape == (3, classes or encoder.dim)
        model.reset_classifier(0)
        torch.testing.assert_close(model(x), encoder(x))


def test_a_vits_small_stem_is_an_argument_of_timm(encoder_file):
    small, standard = (Encoder.load(encoder_file("test_vit", 32, stem)) for stem in ("small", "standard"))
    assert timm_config.arguments(small) == {"img_size": 32, "patch_size": 4}
    assert timm_config.arguments(standard) == {"img_size": 32}


@pytest.mark.slow
def test_the_folder_is_one_of_timm_and_of_transformers(encoder_file, tmp_path):
    path = out(tmp_path, "hf")
    done = slmlp.export(encoder_file("resnet18"), "hf", path, images=N)
    assert left(path) == ["README.md", "config.json", "model.safetensors"]
    assert done.card == path / "README.md"
    encoder, x = Encoder.load(encoder_file("resnet18")), images(Encoder.load(encoder_file("resnet18")))
    with torch.inference_mode():
        torch.testing.assert_close(timm.create_model(f"local-dir:{path}", pretrained=True).eval()(x), encoder(x))
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        wrapped = transformers.TimmWrapperModel.from_pretrained(path).eval()
        torch.testing.assert_close(wrapped(x).pooler_output, encoder(x))


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 96])
def test_timm_prepares_images_as_the_config_says(encoder_file, tmp_path, size):
    encoder = Encoder.load(encoder_file("resnet18", size))
    slmlp.export(encoder_file("resnet18", size), "hf", tmp_path / "folder", images=N)
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    picture = Image.fromarray(photo(120, 120))
    theirs = transform(picture)
    pixels = torch.from_numpy(__import__("numpy").array(picture))
    from slmlp.data.decode import resize_image

    ours = encoder.preprocess(torch.from_numpy(resize_image(pixels.numpy(), encoder.preprocess.resize))[None])[0]
    assert theirs.shape == (3, size, size)
    torch.testing.assert_close(theirs, ours, atol=0.02, rtol=0)  # one level of 255 is 0.018


@pytest.mark.parametrize(("name", "stem"), [("resnet10", "small"), ("test_vit", "standard")])
def test_safetensors_holds_the_backbones_names(encoder_file, tmp_path, name, stem):
    run, path = encoder_file(name, 32, stem), out(tmp_path, "safetensors")
    slmlp.export(run, "safetensors", path, images=N)
    encoder = Encoder.load(run)
    assert load_file(path).keys() == encoder.weights().keys()
    assert Encoder.load(path).hash() == encoder.hash()


@pytest.mark.slow
def test_an_exported_program_takes_any_batch(encoder_file, tmp_path):
    path = out(tmp_path, "exported-program")
    done = slmlp.export(encoder_file("resnet10", 32, "small"), "exported-program", path, images=N)
    assert [d.output for d in done.differences] == ["features", "features of one image"]
    encoder, module = Encoder.load(encoder_file("resnet10", 32, "small")), torch.export.load(path).module()
    with torch.inference_mode():
        for n in (1, 2, 7):
            torch.testing.assert_close(module(images(encoder, n)), encoder(images(encoder, n)))


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 20])
def test_onnx_says_its_opset_and_takes_any_batch(encoder_file, tmp_path, opset):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = out(tmp_path, "onnx")
    slmlp.export(encoder_file("resnet10", 32, "small"), "onnx", path, images=N, opset=opset)
    assert left(tmp_path) == ["made.onnx", "made.onnx.md"]  # weights are inside
    model = onnx.load(path)
    assert {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")} == {opset}
    assert {p.key: p.value for p in model.metadata_props}["slmlp.preprocess"] == "square32-centre32-imagenet"
    encoder, session = Encoder.load(encoder_file("resnet10", 32, "small")), onnxruntime.InferenceSession(path)
    for n in (1, 5):
        x = images(encoder, n)
        (found,) = session.run(["features"], {"images": x.numpy()})
        with torch.inference_mode():
            torch.testing.assert_close(torch.from_numpy(found), encoder(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_onnx_file_says_how_its_images_are_prepared(encoder_file, tmp_path):
    """It is evaluated as the encoder is; ImageNet's mean and a square of another side would be another encoder."""
    pytest.importorskip("onnxruntime")
    net = Encoder.load(encoder_file("resnet10", 32, "small"))
    net.preprocess = prepared = Preprocess(32, 40, (0.5, 0.4, 0.3), (0.5, 0.25, 0.1), "bilinear", squash=True)
    net.save(tmp_path / "own.safetensors")
    slmlp.export(tmp_path / "own.safetensors", "onnx", out(tmp_path, "onnx"), images=N)
    assert open_encoder(str(out(tmp_path, "onnx"))).preprocess == prepared


def test_every_target_has_the_contract(encoder_file):
    bundle = open_bundle(encoder_file("resnet18"), with_projector=False, classes=None, opset=18, license_name="mit")
    for name in TARGETS:
        target = slmlp.exports._target(name)
        assert target.unsupported(bundle) is None
        assert "made" in target.usage(bundle, "made")
        assert isinstance(target.TOOL, str)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torchvision", "timm", "safetensors", "onnx", "hf", "exported-program"])
def test_the_code_on_the_card_runs(encoder_file, tmp_path, monkeypatch, to):
    x = images(Encoder.load(encoder_file("resnet18")))
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    names = {"images": x.numpy() if to == "onnx" else x}
    path = out(tmp_path, to)
    done = slmlp.export(encoder_file("resnet18"), to, path, images=2)
    of_card = done.usage.replace(str(done.path), done.path.name)  # the card lies beside the file
    assert f"```\n{of_card}\n```" in done.card.read_text()
    monkeypatch.chdir(tmp_path)
    exec(done.usage, names)
    if "model" in names and to != "exported-program":
        assert names["model"].state_dict().keys() == Encoder.load(encoder_file("resnet18")).weights().keys()
    if "features" in names:
        assert names["features"].shape == (3, 512)
