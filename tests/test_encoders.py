"""Encoders by name: stems, sizes, key names, weights that are loaded whole or not at all."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from slmlp.encoders import Encoder, build, choose_stem
from slmlp.encoders.pretrained import timm_weights
from slmlp.exports import weights_file
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.train.run import Run


@pytest.mark.parametrize(
    ("name", "size", "stem", "dim"),
    [
        ("resnet10", 32, "small", 256),
        ("resnet10", 96, "standard", 256),
        ("resnet18", 32, "small", 512),
        ("efficientnet_b0", 32, "small", 1280),
        ("vit_tiny_patch16_224", 32, "small", 192),
        ("convnext_atto", 32, "small", 320),
        ("mobilenetv3_small_100", 64, "standard", 1024),  # pools, then widens: the width is that of what comes out
    ],
)
def test_any_encoder_gives_features_of_its_width(name, size, stem, dim):
    encoder = build(name, size, stem).eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, 3, size, size))
    assert features.shape == (2, dim)
    assert encoder.dim == dim


def test_resnet50_has_torchvisions_key_names_and_function():
    encoder = build("resnet50", 64, "standard").eval()
    theirs = torchvision.models.resnet50()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(encoder.weights(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), encoder(x), atol=1e-4, rtol=1e-4)


def test_small_stem_keeps_the_resolution():
    small, standard = (build("resnet18", 32, stem).backbone for stem in ("small", "standard"))
    x = torch.randn(1, 3, 32, 32)
    assert small.maxpool(small.conv1(x)).shape[-1] == 32
    assert standard.maxpool(standard.conv1(x)).shape[-1] == 8
    assert (choose_stem("auto", 64), choose_stem("auto", 65), choose_stem("standard", 32)) == (
        "small",
        "standard",
        "standard",
    )


@pytest.mark.parametrize("name", ["encoder.safetensors", "weights.pth"])
def test_a_file_that_there_is_no_room_for_is_one_line_and_the_old_one_stays(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"kept")
    encoder = build("resnet10", 16, "small").eval()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system refuses to write more, as on a full disk
    try:
        with pytest.raises(SlmlpError, match=f"cannot write .*{name}: File too large; free space"):
            encoder.save(path) if name.endswith(".safetensors") else weights_file.write(path, encoder.weights())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, b"kept")]


def test_a_saved_encoder_is_the_same_and_its_hash_says_so(tmp_path):
    with seeds.seeded(0, "encoder"):
        encoder = build("resnet10", 16, "small").eval()
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = Encoder.load(tmp_path / "encoder.safetensors")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    np.testing.assert_array_equal(loaded.transform([image]), encoder.transform([image]))
    assert loaded.hash() == encoder.hash()
    next(loaded.parameters()).data[0] += 1e-3
    assert loaded.hash() != encoder.hash()


def test_transform_takes_paths_images_and_arrays_alike(tmp_path):
    encoder = build("resnet10", 16, "small").eval()
    array = np.random.default_rng(0).integers(0, 255, (18, 24, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    x = encoder.transform([tmp_path / "a.png", image, array])
    np.testing.assert_allclose(x[1], x[0], atol=1e-6)
    np.testing.assert_allclose(x[2], x[0], atol=1e-6)
    assert encoder.transform([]).shape == (0, 256)
    encoder.train()
    encoder.transform([array])
    assert encoder.training
    with pytest.raises(SlmlpError, match="cannot read"):
        encoder.transform([tmp_path / "b.png"])


def test_keys_that_do_not_fit_load_nothing():
    encoder = build("resnet10", 16, "small").eval()
    before = encoder.hash()
    state = encoder.weights()
    state["extra.weight"] = state.pop("conv1.weight")
    with pytest.raises(SlmlpError, match=r"missing 1 \(conv1.weight\); unexpected 1 \(extra.weight\)"):
        encoder.load_weights(state, "a file")
    assert encoder.hash() == before


def test_timm_weights_from_a_file_lose_their_classifier_only(tmp_path):
    import timm

    model = timm.create_model("resnet18", num_classes=10)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        encoder = build("resnet18", 64, "standard")
        encoder.load_weights(timm_weights(f"timm:resnet18@{tmp_path / file}"), file)
        torch.testing.assert_close(encoder.weights()["conv1.weight"], model.state_dict()["conv1.weight"])
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    for source, words in [
        (f"timm:resnet18@{tmp_path}/none.pt", "no file"),
        (f"timm:resnet18@{tmp_path}/bad.pt", "cannot be read as weights"),
        ("timm:resnet81", "unknown timm model"),
    ]:
        with pytest.raises(SlmlpError, match=words):
            timm_weights(source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "efficientnet_b0", "resnet10"]
)
def test_local_crops_pass_the_same_weights(name):
    with seeds.seeded(0, "encoder"):
        plain = build(name, 64, "small")
    with seeds.seeded(0, "encoder"):
        flexible = build(name, 64, "small", crop_size=32)
    assert flexible.weights().keys() == plain.weights().keys()
    plain.load_weights(flexible.weights(), "flexible")
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(flexible.eval()(x), plain.eval()(x), atol=1e-5, rtol=1e-4)
    assert flexible(x[:, :, :32, :32]).shape == (2, plain.dim)


def test_a_crop_no_encoder_takes_is_one_clear_line():
    with pytest.raises(SlmlpError, match="--local-size"):
        build("vit_tiny_patch16_224", 32, "small", crop_size=2)


def test_a_folder_of_another_program_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["ViTModel"], "hidden_size": 192}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SlmlpError, match=r"another program's; .*timm:NAME@.*model\.safetensors"):
        _ = Run(tmp_path).config
