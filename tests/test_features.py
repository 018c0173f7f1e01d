"""Features are extracted once per weights and images, and never taken from another encoder's cache."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.encoders import Encoder, build
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.encoders.extract import extract
from slmlp.encoders.preprocess import Preprocess
from slmlp.probes.features import Features
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError


@pytest.fixture(scope="module")
def image_cache(shapes):
    return ImageCache(data.load(str(shapes)), config.DataOptions(), None, 20, progress=False)


def encoder_of(seed):
    with seeds.seeded(seed, "encoder"):
        return build("resnet10", 16, "small").eval()


def test_features_are_the_encoders_in_the_order_of_the_images(image_cache):
    encoder = encoder_of(0)
    part = image_cache.images.of_part("test")
    found = extract(encoder, image_cache, part)
    with torch.no_grad():
        alone = encoder(Preprocess.ours(16)(image_cache.squares(image_cache.rows(part)[7:8], 16)))
    np.testing.assert_allclose(found.x[7], alone[0].numpy(), atol=1e-5)
    assert found.ids.tolist() == list(part.ids)
    assert found.x.dtype == np.float32


def test_a_cache_is_used_only_by_the_weights_that_wrote_it(image_cache, tmp_path):
    first = extract(encoder_of(0), image_cache, image_cache.images, tmp_path)
    (file,) = tmp_path.iterdir()
    other = extract(encoder_of(1), image_cache, image_cache.images, tmp_path)
    assert not np.allclose(first.x, other.x)
    assert len(list(tmp_path.iterdir())) == 2
    # another's content under this name: the key inside does not fit, so it is made anew
    content = file.read_bytes()
    (second,) = [p for p in tmp_path.iterdir() if p != file]
    file.write_bytes(second.read_bytes())
    np.testing.assert_array_equal(extract(encoder_of(0), image_cache, image_cache.images, tmp_path).x, first.x)
    file.write_bytes(content[:100])  # damaged
    np.testing.assert_array_equal(extract(encoder_of(0), image_cache, image_cache.images, tmp_path).x, first.x)
    # a hit is read, not computed: a marked cache comes back marked
    with np.load(file) as held:
        np.savez(file, x=held["x"] + 1, key=held["key"])
    np.testing.assert_array_equal(extract(encoder_of(0), image_cache, image_cache.images, tmp_path).x, first.x + 1)


def test_calibrated_norms_have_the_statistics_of_the_images(image_cache):
    encoder = encoder_of(0)
    calibrate_norms(encoder, image_cache, image_cache.images)
    x = Preprocess.ours(16)(image_cache.squares(image_cache.rows(image_cache.images), 16))
    with torch.no_grad():
        maps = encoder.backbone.conv1(x)
    torch.testing.assert_close(encoder.backbone.bn1.running_mean, maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert not encoder.training
    assert encoder.backbone.bn1.momentum == 0.1


def test_calibrated_norms_are_of_the_squares_that_the_encoder_sees(shapes, tmp_path):
    images = data.load(str(shapes))
    made = []
    for how in ("bicubic", "bilinear"):
        encoder = encoder_of(0)
        encoder.preprocess = dataclasses.replace(Preprocess.ours(16), interpolation=how)
        own = ImageCache(images, config.DataOptions(), None, encoder.preprocess.resize, progress=False)
        calibrate_norms(encoder, own, images, tmp_path)
        x = encoder.preprocess(own.squares(own.rows(images), encoder.preprocess.resize))
        with torch.no_grad():
            maps = encoder.backbone.conv1(x)
        mean = maps.mean((0, 2, 3))
        torch.testing.assert_close(encoder.backbone.bn1.running_mean, mean, atol=3e-5, rtol=0)
        made.append(encoder.hash())
    assert made[0] != made[1]


def test_calibrated_norms_are_kept_for_the_same_weights_and_images_alone(image_cache, tmp_path, monkeypatch):
    def statistics(seed=0, images=image_cache.images):
        encoder = encoder_of(seed)
        calibrate_norms(encoder, image_cache, images, tmp_path)
        assert not encoder.training
        return encoder.hash()

    first = statistics()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "forward", None)  # a hit is read, not computed
        assert statistics() == first
    plain = encoder_of(0)
    calibrate_norms(plain, image_cache, image_cache.images)
    assert plain.hash() == first
    assert statistics(seed=1) != first
    assert statistics(images=image_cache.images.select(np.arange(20))) != first
    others = [other for other in tmp_path.iterdir() if other != file]
    assert len(others) == 2
    for damaged in (whole[:100], b"", others[0].read_bytes()):  # torn, empty, another's
        file.write_bytes(damaged)
        assert statistics() == first
        assert file.read_bytes() == whole


def test_features_files_round_trip_and_others_are_refused(image_cache, tmp_path):
    made = extract(encoder_of(0), image_cache, image_cache.images)
    made.save(tmp_path / "f.npz")
    again = Features.load(tmp_path / "f.npz")
    np.testing.assert_array_equal(again.x, made.x)
    assert again.classes == made.classes
    np.savez(tmp_path / "bare.npz", x=made.x, y=np.array(["b", "a"] * (len(made) // 2)))
    assert Features.load(tmp_path / "bare.npz").classes == ("a", "b")
    np.savez(tmp_path / "wrong.npz", x=made.x, y=made.y[:-1])
    with pytest.raises(SlmlpError, match="x must be"):
        Features.load(tmp_path / "wrong.npz")


def test_features_that_are_not_finite_are_an_error(image_cache):
    encoder = encoder_of(0)
    next(encoder.parameters()).data.fill_(float("nan"))
    with pytest.raises(SlmlpError, match="not finite"):
        extract(encoder, image_cache, image_cache.images)


def test_labels_of_features_files_are_whole_numbers_or_names(tmp_path):
    x = np.zeros((4, 2), dtype=np.float32)
    for arrays, words in (
        ({"y": np.array([0.0, 1.0, 0.5, 1.0])}, r"whole numbers or names of classes, found 0.5 \(row 2\)"),
        ({"y": np.array([0.0, np.nan, 0.5, 1.0])}, r"found nan \(row 1\)"),
        ({"y": np.array([0, 1, 2, 1]), "classes": np.array(["a", "b"])}, r"must be 0 to 1, .* found 0 to 2"),
        ({"y": np.array(["a", "b", "a", "b"]), "classes": np.array(["a", "b"])}, r"indices into them; found <U1"),
        ({"y": np.zeros(4, dtype=np.complex64)}, r"names of classes, found complex64"),
        ({"y": np.zeros((4, 2), dtype=np.int64)}, r"y \(N,\), found \(4, 2\) and \(4, 2\)"),
        ({"y": np.zeros(4, dtype=np.int64), "ids": np.array(["a"])}, r"ids and groups must be \(4,\)"),
        ({"y": np.zeros(4, dtype=np.int64), "x": np.full((4, 2), "a")}, r"x must be numbers"),
    ):
        np.savez(tmp_path / "f.npz", **{"x": x, **arrays})
        with pytest.raises(SlmlpError, match=words):
            Features.load(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", x=x, y=np.array([0.0, 3.0, 0.0, 3.0]))
    made = Features.load(tmp_path / "f.npz")
    assert (made.classes, made.y.tolist()) == (("0", "3"), [0, 1, 0, 1])
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(SlmlpError, match=r"cannot be read as a features file"):
        Features.load(tmp_path / "x.npy")
