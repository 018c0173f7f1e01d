"""Extraction: several layers and precisions from one cache, quicker networks that stay the same, errors before work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.encoders import build, fold, layers
from slmlp.encoders import extract as features
from slmlp.encoders.extract import extract, extract_layers, precision_of, transform_id
from slmlp.encoders.sources import open_encoder
from slmlp.encoders.sources.check import checked
from slmlp.encoders.sources.preparing import plain
from slmlp.runtime import device, files, seeds
from slmlp.runtime.errors import SlmlpError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STREAMED = config.DataOptions(stream_above_gb=0.0)
LAYERS = ("stage1", "stage4", "output")


@pytest.fixture(scope="module")
def image_cache(shapes):
    return ImageCache(data.load(str(shapes)), config.DataOptions(), None, 20, progress=False)


@pytest.fixture
def encoder():
    with seeds.seeded(0, "encoder"):
        made = build("resnet10", 16, "small").eval()
    _trained(made)
    return made


def _trained(module):
    """Give every BatchNorm statistics and weights that a network might have learnt."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.3, generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(std=0.3, generator=generator)


def plainly(encoder, image_cache, names):
    """Return features by the simplest loop there is."""
    x = encoder.preprocess(image_cache.squares(image_cache.rows(image_cache.images), encoder.preprocess.resize))
    with torch.inference_mode():
        return {k: h.numpy() for k, h in layers.outputs(encoder, x, names).items()}


def test_layers_come_from_one_pass_and_are_those_of_the_plain_loop(encoder, image_cache, tmp_path, monkeypatch):
    wanted = plainly(encoder, image_cache, LAYERS)
    passes = []
    run = features.forward
    monkeypatch.setattr(features, "forward", lambda *a, **k: (passes.append(a[4]), run(*a, **k))[1])
    found = extract_layers(encoder, image_cache, image_cache.images, tmp_path, "cpu", LAYERS, batch_size=50)
    assert passes == [list(LAYERS)]
    for name in LAYERS:
        assert found[name].x.dtype == np.float32
        np.testing.assert_allclose(found[name].x, wanted[name], atol=1e-5, rtol=1e-4)
        assert found[name].ids.tolist() == list(image_cache.images.ids)
    # each layer has a file of its own; what is there is not computed again
    assert len(list(tmp_path.iterdir())) == 3
    more = extract_layers(encoder, image_cache, image_cache.images, tmp_path, "cpu", ("output", "stage2"))
    assert passes[1:] == [["stage2"]]
    np.testing.assert_array_equal(more["output"].x, found["output"].x)
    np.testing.assert_array_equal(extract(encoder, image_cache, image_cache.images, tmp_path).x, found["output"].x)
    assert len(passes) == 2


def test_the_key_of_the_output_in_float32_is_the_one_it_always_was(encoder, image_cache, tmp_path):
    extract_layers(encoder, image_cache, image_cache.images, tmp_path, "cpu", ("output", "stage1"))
    images = image_cache.images
    key = files.hash_json([encoder.hash(), images.hash(), images.fingerprint, "square16-centre16-imagenet-float32"])
    assert f"{key[:32]}.npz" in {path.name for path in tmp_path.iterdir()}
    assert transform_id(encoder) == "square16-centre16-imagenet-float32"


def test_bfloat16_is_near_float32_has_caches_of_its_own_and_auto_is_what_the_hardware_has(
    encoder, image_cache, tmp_path, monkeypatch
):
    full = extract(encoder, image_cache, image_cache.images, tmp_path)
    half = extract(encoder, image_cache, image_cache.images, tmp_path, precision="bfloat16")
    assert len(list(tmp_path.iterdir())) == 2
    assert half.x.dtype == np.float32
    assert not np.array_equal(half.x, full.x)
    cosine = (half.x * full.x).sum(1) / np.linalg.norm(half.x, axis=1) / np.linalg.norm(full.x, axis=1)
    assert cosine.min() > 0.999
    for has, name in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(device, "computes_bfloat16", lambda _, has=has: has)
        assert precision_of(encoder, "cpu", "auto") == name
        auto = extract(encoder, image_cache, image_cache.images, tmp_path, "auto", precision="auto")
        np.testing.assert_array_equal(auto.x, (half if has else full).x)
    assert transform_id(encoder, "bfloat16").endswith("-bfloat16")


def test_streamed_images_give_the_same_features(encoder, image_cache, shapes):
    streamed = ImageCache(data.load(str(shapes)), STREAMED, None, 20, progress=False)
    assert streamed.streamed
    found, wanted = (extract(encoder, c, c.images, batch_size=32) for c in (streamed, image_cache))
    np.testing.assert_array_equal(found.x, wanted.x)


def test_any_square_of_an_encoder_is_made(image_cache, shapes):
    flags = config.PreprocessFlags(size=32, side=40, interpolation="bilinear", squash=True)
    encoder = open_encoder("timm:test_resnet@random", overrides=flags)
    own = ImageCache(data.load(str(shapes)), config.DataOptions(), None, encoder.preprocess.resize, progress=False)
    np.testing.assert_array_equal(
        extract(encoder, own, own.images).x, extract(encoder, image_cache, image_cache.images).x
    )


def test_a_file_that_vanishes_while_images_are_streamed_is_named(encoder, shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "shapes")
    image_cache = ImageCache(data.load(str(tmp_path / "shapes")), STREAMED, None, 20, progress=False)
    (tmp_path / "shapes" / "test" / "ring" / "003.png").unlink()
    with pytest.raises(SlmlpError, match=r"cannot read test/ring/003\.png"):
        extract(encoder, image_cache, image_cache.images)


def test_a_disk_too_small_is_said_before_anything_is_computed(encoder, image_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "forward", lambda *_, **__: pytest.fail("computed"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(SlmlpError, match=r"204 images \(2 layers of 32, 256 numbers\) need 243 KB.*are free there"):
        extract_layers(encoder, image_cache, image_cache.images, tmp_path / "new" / "c", "cpu", ("stage1", "output"))
    monkeypatch.setattr(features, "forward", lambda *_, **__: {"stage1": np.zeros((204, 32), np.float32)})
    extract_layers(
        encoder, image_cache, image_cache.images, tmp_path / "new" / "c", "cpu", ("stage1",)
    )  # that much fits


def test_features_that_are_not_finite_name_encoder_layer_and_number(image_cache, tmp_path):
    encoder = open_encoder("user_networks:not_finite", overrides=config.PreprocessFlags(size=16))
    with pytest.raises(SlmlpError, match=r"user_networks:not_finite gives features that are not finite for \d+ of 204"):
        extract(encoder, image_cache, image_cache.images, tmp_path)
    assert not list(tmp_path.iterdir()), "nothing wrong is kept"


def test_networks_without_weights_of_torchs_keep_their_own_precision(image_cache):
    encoder = open_encoder("user_networks:not_finite", overrides=config.PreprocessFlags(size=16))
    assert precision_of(encoder, "auto", "auto") == "float32"
    with pytest.raises(SlmlpError, match="its own precision"):
        extract(encoder, image_cache, image_cache.images, precision="bfloat16")


def test_an_unknown_device_or_layer_is_one_line(encoder, image_cache):
    with pytest.raises(SlmlpError, match="--device"):
        extract(encoder, image_cache, image_cache.images, device="cuda:99")
    with pytest.raises(SlmlpError, match="did you mean 'stage1'"):
        extract(encoder, image_cache, image_cache.images, layer="stag1")


def test_the_encoder_is_left_as_it_was(encoder, image_cache):
    before = encoder.hash()
    encoder.train()
    extract(encoder, image_cache, image_cache.images, precision="bfloat16")
    assert encoder.training
    assert encoder.hash() == before


# ---- folding


@pytest.mark.parametrize(
    "name", ["resnet10", "test_resnet", "test_efficientnet", "test_byobnet", "mobilenetv3_small_100"]
)
def test_folded_networks_give_the_same_features(name):
    with seeds.seeded(0, "encoder"):
        encoder = build(name, 64, "standard").eval()
    _trained(encoder)
    wanted = layers.names(encoder)
    made = fold.folded(encoder, wanted)
    assert made is not encoder
    left = sum(isinstance(m, nn.BatchNorm2d) for m in made.modules())
    assert left == 0
    x = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        before, after = layers.outputs(encoder, x, wanted), layers.outputs(made, x, wanted)
    for key in wanted:
        scale = before[key].abs().max().item()
        torch.testing.assert_close(after[key], before[key], atol=2e-5 * scale, rtol=0)


class Both(nn.Module):
    """Reads a convolution's output behind its BatchNorm and before it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        h = self.conv(x)
        return (h + self.norm(h)).mean(dim=(2, 3))


class Twice(Both):
    """Uses one BatchNorm behind one convolution, twice."""

    def forward(self, x):
        return (self.norm(self.conv(x)) + self.norm(self.conv(2 * x))).mean(dim=(2, 3))


@pytest.mark.parametrize("kind", [Both, Twice])
def test_what_cannot_be_folded_is_left_alone(kind):
    net = kind()
    _trained(net)
    encoder = checked(net, "x", plain(16, "test"), "x")
    assert fold.folded(encoder, ("output",)) is encoder


def test_a_network_without_batchnorm_is_left_alone():
    encoder = checked(timm.create_model("test_convnext", num_classes=0), "x", plain(64, "test"), "x")
    assert fold.folded(encoder, ("output",)) is encoder


# ---- the benchmark


@pytest.mark.slow
def test_the_extraction_benchmark_runs():
    words = ["--encoder", "test_resnet", "--images", "8", "--batch-size", "4", "--rounds", "1", "--size", "32"]
    command = [sys.executable, str(BENCHMARKS / "extraction.py"), *words, "--pixels", "48", "--workers", "0"]
    done = subprocess.run([*command, "--no-memory"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("files, float32", "files, out of the box", "memory, float32", "memory, out of the box", "aim 1.5"):
        assert words in done.stdout
