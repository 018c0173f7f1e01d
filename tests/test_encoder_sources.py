"""Encoders of any origin: the same outputs as their own library, its preprocessing, and one line for what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from data_images import photo
from encoder_words import features, refused
from slmlp import config
from slmlp.encoders import Encoder, build
from slmlp.encoders.preprocess import Preprocess
from slmlp.encoders.sources import describe, open_encoder
from slmlp.encoders.sources.preparing import from_timm
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

Flags = config.PreprocessFlags
SMALL = Flags(size=32)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def theirs():
    """Return a tiny timm network with a classifier and drawn weights."""
    with seeds.seeded(1, "theirs"):
        return timm.create_model("test_resnet", num_classes=7).eval()


# ---- runs and files of slmlp


def test_a_file_of_slmlp_opens_as_encoder_load_does(tmp_path):
    with seeds.seeded(0, "encoder"):
        encoder = build("resnet10", 24, "small").eval()
    encoder.save(tmp_path / "encoder.safetensors")
    opened = open_encoder(str(tmp_path / "encoder.safetensors"))
    assert opened.hash() == encoder.hash()
    assert opened.preprocess == Preprocess.ours(24)
    assert "as it was trained" in describe(opened)
    other = open_encoder(str(tmp_path), overrides=Flags(interpolation="bilinear", squash=True))
    assert other.hash() == encoder.hash()
    assert other.preprocess == dataclasses.replace(Preprocess.ours(24), interpolation="bilinear", squash=True)


def test_what_is_no_encoder_is_said(tmp_path):
    refused(tmp_path / "none", ["no encoder at", "timm:NAME", "module:function"])
    (tmp_path / "w.pth").write_bytes(b"x")
    refused(tmp_path / "w.pth", "weights without a network")


# ---- timm


@pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped", "parallel"])
def test_timm_files_give_timms_features(tmp_path, theirs, form, capsys):
    state = theirs.state_dict()
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state, file)
    else:
        held = {"module." + k: v for k, v in state.items()} if form == "parallel" else state
        torch.save({"epoch": 3, "state_dict": held} if form != "pt" else held, file)
    encoder = open_encoder(f"timm:test_resnet@{file}", overrides=SMALL)
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), features(theirs, x), atol=1e-6, rtol=1e-5)
    said = capsys.readouterr().err
    assert ("below 'state_dict'" in said) == (form in ("wrapped", "parallel"))
    assert ("module." in said) == (form == "parallel")


def test_a_vits_position_embedding_is_resampled_as_timm_does_it(tmp_path):
    with seeds.seeded(1, "theirs"):
        net = timm.create_model("test_vit").eval()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    own = open_encoder(f"timm:test_vit@{tmp_path}/w.pt")
    assert own.preprocess.size == net.pretrained_cfg["input_size"][1]
    encoder = open_encoder(f"timm:test_vit@{tmp_path}/w.pt", overrides=Flags(size=96))
    larger = timm.create_model("test_vit", img_size=96).eval()
    from timm.models.vision_transformer import checkpoint_filter_fn

    larger.load_state_dict(checkpoint_filter_fn(net.state_dict(), larger), strict=True)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), features(larger, x), atol=1e-5, rtol=1e-4)
    encoder.save(tmp_path / "encoder.safetensors")  # slmlp's own file keeps size and preprocessing
    again = Encoder.load(tmp_path / "encoder.safetensors")
    assert again.preprocess == encoder.preprocess
    assert again.hash() == encoder.hash()


def test_random_weights_are_those_of_the_seed(capsys):
    one, same, other = (open_encoder("timm:test_resnet@random", overrides=SMALL, seed=s) for s in (0, 0, 1))
    assert one.hash() == same.hash() != other.hash()


@pytest.mark.parametrize("name", ["resnet50", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "test_resnet"])
def test_preprocessing_is_that_of_timms_own_evaluation(name):
    cfg = timm.get_pretrained_cfg(name).to_dict()
    made = from_timm(cfg, "timm's config", name, None).preprocess
    theirs = timm.data.resolve_data_config({}, pretrained_cfg=cfg, use_test_size=True)
    assert (3, made.size, made.size) == theirs["input_size"]
    assert (made.mean, made.std, made.interpolation) == (theirs["mean"], theirs["std"], theirs["interpolation"])
    transform = timm.data.create_transform(**theirs, is_training=False)
    image = Image.fromarray(photo(5, 700, 500))
    wanted = transform(image).numpy()
    from slmlp.data.decode import resize_image

    found = made(torch.from_numpy(resize_image(np.asarray(image), made.resize)[None]))[0].numpy()
    assert made.side == theirs_side(theirs)
    assert found.shape == wanted.shape
    # timm rounds the crop to whole pixels and to bytes between its two passes
    assert np.abs(found - wanted).mean() < 0.05
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def theirs_side(theirs):
    return int(theirs["input_size"][1] / theirs["crop_pct"])


def test_test_values_belong_together_and_flags_go_first():
    cfg = timm.get_pretrained_cfg("resnet50").to_dict()
    assert (cfg["test_input_size"], cfg["test_crop_pct"]) == ((3, 288, 288), 1.0)
    sides = {}
    for size in (None, 224, 288, 320):
        made = from_timm(cfg, "timm's config", "timm:resnet50", Flags(size=size))
        sides[made.preprocess.size] = made.preprocess.side
    assert sides == {288: 288, 224: 235, 320: 320}  # 224 / 0.95
    made = from_timm(cfg, "t", "timm:resnet50", Flags(size=64, side=80, mean=(0, 0, 0), squash=True))
    assert made.preprocess == Preprocess(64, 80, (0, 0, 0), (0.229, 0.224, 0.225), "bicubic", squash=True)
    assert made.values["mean"] == "given"
    assert made.values["std"] == "t"
    with pytest.raises(SlmlpError, match="side must be at least"):
        from_timm(cfg, "t", "timm:resnet50", Flags(side=200))
    squash = from_timm(cfg | {"crop_mode": "squash", "interpolation": "bilinear"}, "t", "x", None).preprocess
    assert squash.squash
    assert squash.interpolation == "bilinear"
    for wrong, words in (
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"interpolation": "lanczos"}, "'lanczos'"),
        ({"input_size": (1, 224, 224)}, "squares of three channels"),
        ({"input_size": (3, 128, 256), "test_input_size": None}, "squares of three channels"),
        ({"mean": (0.5,)}, "each of 3 channels"),
    ):
        with pytest.raises(SlmlpError, match=words.replace("(", r"\(")):
            from_timm(cfg | wrong, "t", "x", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": 4}, "size must be 8 to 4096"),
        ({"size": 64, "side": 32}, "side must be at least size"),
        ({"mean": (123.7, 116.3, 103.5)}, "divide by 255"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be above 0"),
    ],
)
def test_overrides_that_cannot_be_are_refused(given, words):
    with pytest.raises(SlmlpError, match=words):
        Flags(**given)


def test_describe_is_one_line_that_says_who_said_what(tmp_path, theirs):
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    encoder = open_encoder(f"timm:test_resnet@{tmp_path}/w.pt", overrides=Flags(size=64, std=(0.2, 0.2, 0.2)))
    text = describe(encoder)
    assert "\n" not in text
    for word in ("timm:test_resnet@", "96 features", "M parameters", "size 64", "std 0.2 0.2 0.2", "timm's config"):
        assert word in text, text
    assert text.index("std 0.2") < text.index("(given)") or "size 64" in text.split("(given)")[0]


def test_weights_of_another_network_are_refused_by_their_keys(tmp_path, theirs):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "other.pt")
    refused(
        f"timm:test_resnet@{tmp_path}/other.pt", ["missing 85 (conv1.0.weight", "unexpected 81 (blocks.0.0.bn1.bias"]
    )
    state = theirs.state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "less.pt")
    refused(f"timm:test_resnet@{tmp_path}/less.pt", "missing 1 (layer1.0.conv1.weight)")


@pytest.mark.slow
def test_files_that_are_no_weights_are_refused(tmp_path):
    class Unsafe:
        def __reduce__(self):
            return (print, ("a pickle has run code",))

    torch.save(Unsafe(), tmp_path / "unsafe.pt")
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "numbers.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "text.safetensors").write_text("hello")
    for file, words in (
        ("unsafe.pt", "objects that only running their code could read (builtins.print)"),
        ("numbers.pt", "the keys epoch, best"),
        ("list.pt", "a list"),
        ("text.safetensors", "cannot be read as weights"),
        ("none.pt", "no file"),
    ):
        refused(f"timm:test_resnet@{tmp_path}/{file}", words)
        refused(f"torchvision:resnet18@{tmp_path}/{file}", words)


def test_unknown_names_offer_the_nearest():
    refused("timm:test_resnte@random", ["unknown timm model", "'test_resnet'"])
    refused("torchvision:resnet81@random", ["unknown torchvision model", "'resnet18'"])


def test_weights_that_a_hub_does_not_give_are_one_line(monkeypatch):
    made = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("We couldn't connect\nto the hub")
        return made(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    refused("timm:test_resnet", ["cannot be downloaded (We couldn't connect to the hub)", "give timm:test_resnet@FILE"])
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    for where in ("", "@IMAGENET1K_V1"):
        entry = torchvision.models.ResNet18_Weights
        monkeypatch.setattr(entry, "get_state_dict", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
        refused(f"torchvision:resnet18{where}", ["cannot be downloaded (no route)", "torchvision:resnet18@FILE"])
