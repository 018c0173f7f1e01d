"""Training that starts from weights: their preprocessing, size and stem are kept, in training, saving and exports."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch

from slmlp import api
from slmlp.config import PreprocessFlags, Training
from slmlp.data.augment import views
from slmlp.data.augment.draws import Draws
from slmlp.encoders import Encoder
from slmlp.encoders.initial import initial_encoder
from slmlp.encoders.sources import open_encoder
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

NAMES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"]


def weights_of(name, folder):
    """Write drawn weights of one of timm's tiny networks; return what --init takes."""
    with seeds.seeded(1, "theirs"):
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pt")
    return f"timm:{name}@{folder / name}.pt"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [None, 48, 64])
def test_the_start_is_the_encoder_that_evaluate_opens(tmp_path, name, size):
    init = weights_of(name, tmp_path)
    start = initial_encoder(name, init, size, "auto", 0).eval()
    other = open_encoder(init, overrides=PreprocessFlags(size=size))
    assert start.hash() == other.hash()
    assert start.preprocess == other.preprocess
    assert start.spec.stem == "standard"  # also at 64 pixels and less, where random weights get the small one
    start.save(tmp_path / "encoder.safetensors")
    loaded = Encoder.load(tmp_path / "encoder.safetensors")
    assert (loaded.hash(), loaded.preprocess) == (start.hash(), start.preprocess)


def test_what_does_not_go_together_is_one_line(tmp_path):
    init = weights_of("test_resnet", tmp_path)
    for name, given, stem, words in (
        ("test_resnet", init, "small", "--stem small"),
        ("resnet18", init, "auto", "--encoder is resnet18"),
        ("test_resnet", f"torchvision:resnet18@{tmp_path}/test_resnet.pt", "auto", "timm:NAME@FILE"),
    ):
        with pytest.raises(SlmlpError, match=words) as caught:
            initial_encoder(name, given, 32, stem, 0)
        assert "\n" not in str(caught.value)


def test_views_are_normalised_by_the_weights_own_numbers():
    pixels = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    channels = ((0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    (view,) = views("none", 8, channels=channels)
    by_hand = (pixels.numpy() / 255 - np.array(channels[0])) / np.array(channels[1])
    np.testing.assert_allclose(
        view(pixels, Draws(torch.Generator(), 1)).numpy(), by_hand.transpose(0, 3, 1, 2), atol=1e-5
    )


@pytest.mark.slow
def test_a_run_keeps_the_preprocessing_and_exports(shapes, tmp_path):
    init = weights_of("test_resnet", tmp_path)
    training = Training(
        encoder="test_resnet", init=init, image_size=32, epochs=1, batch_size=48, augment="none", precision="float32",
        base_lr=1e-6,
    )  # fmt: skip
    run = api.pretrain(str(shapes), tmp_path / "run", training=training, progress=False)
    start = initial_encoder("test_resnet", init, 32, "auto", 0)
    resolved = run.config["resolved"]
    assert (resolved["preprocess"], resolved["stem"]) == (start.preprocess.id, "standard")
    assert "mean 0.5 0.5 0.5" in resolved["start"]
    assert resolved["initial_encoder_hash"] == start.hash()
    assert run.encoder().preprocess == start.preprocess
    assert start.preprocess.mean == (0.5, 0.5, 0.5)
    # continued again, as a file of timm's and as a run
    api.export(str(run.path), "timm", tmp_path / "out.safetensors")
    again = open_encoder(f"timm:test_resnet@{tmp_path / 'out.safetensors'}")
    assert again.hash() == run.encoder().hash()
    assert again.preprocess == start.preprocess
    nearer = dataclasses.replace(training, init=str(run.path), image_size=None, base_lr=1e-6)
    second = api.pretrain(str(shapes), tmp_path / "second", training=nearer, progress=False)
    assert second.encoder().preprocess == start.preprocess
    with pytest.raises(SlmlpError, match="--stem small"):
        initial_encoder("test_resnet", str(run.path), None, "small", 0)
