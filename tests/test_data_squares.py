"""Squares other than the usual one: their pixels, and that no cache mistakes one for another."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from PIL import Image

from data_images import encoded, photo, two_classes, write
from slmlp.config import DataOptions
from slmlp.data import decode_all, load, read_resized
from slmlp.data.cache import ImageCache
from slmlp.data.decode import VERSION, Resize, decode_resized, resize_image
from slmlp.encoders.preprocess import Preprocess
from slmlp.runtime import files

STREAMED = DataOptions(stream_above_gb=0.0)


@pytest.fixture
def images(tmp_path):
    return load(str(write(tmp_path / "pets", two_classes(each=6))))


def test_squash_stretches_the_whole_image_and_bilinear_is_pillows():
    image = photo(3, 90, 40)
    for name, how in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        whole = np.asarray(Image.fromarray(image).resize((20, 20), how))
        np.testing.assert_array_equal(resize_image(image, Resize(20, name, squash=True)), whole)
        centre = np.asarray(Image.fromarray(image).resize((45, 20), how))
        small = resize_image(image, Resize(20, name)).astype(int)
        # 12.5 pixels lie left of the centre square: it is cut without rounding, which lies between these two cuts
        low, high = (centre[:, start : start + 20].astype(int) for start in (12, 13))
        assert np.abs(small - (low + high) / 2).mean() < 2.0
    np.testing.assert_array_equal(resize_image(image, Resize(20)), resize_image(image, 20))
    png = encoded(image, "PNG")
    for square in (Resize(20, "bilinear"), Resize(20, squash=True)):
        np.testing.assert_array_equal(decode_resized(png, square), resize_image(image, square))
    assert not np.array_equal(resize_image(image, Resize(20, "bilinear")), resize_image(image, 20))


def test_caches_are_keyed_by_the_square_and_the_usual_ones_key_is_what_it_was(images, tmp_path):
    usual, squash, bilinear = Resize(12), Resize(12, squash=True), Resize(12, "bilinear")
    for square in (usual, squash, bilinear):
        found, _ = decode_all(images, square, cache=tmp_path / "cache", progress=False)
        np.testing.assert_array_equal(found.data[5], read_resized(images, 5, square))
    names = {path.name for path in (tmp_path / "cache").glob("*.npy")}
    assert len(names) == 3
    key = files.hash_json([images.hash(), images.fingerprint, 12, VERSION, PIL.__version__])
    assert f"pixels-12-{key[:16]}.npy" in names
    again, _ = decode_all(images, 12, cache=tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(again.data[5], read_resized(images, 5, usual))


@pytest.mark.parametrize("options", [DataOptions(), DataOptions(memory_limit_gb=0.0), STREAMED])
def test_a_corpus_gives_any_square_and_batches_are_its_rows_in_order(images, tmp_path, options):
    image_cache = ImageCache(images, options, tmp_path / "cache", Resize(12, "bilinear"), progress=False)
    rows = np.array([7, 2, 2, 11, 0, 5, 9])
    for square in (Resize(12, "bilinear"), Resize(10, squash=True), 8):
        alone = np.stack([read_resized(images, int(row), square) for row in rows])
        np.testing.assert_array_equal(image_cache.squares(rows, square).numpy(), alone)
        parts = list(image_cache.batches(rows, square, 2))
        assert [len(part) for part in parts] == [2, 2, 2, 1]
        np.testing.assert_array_equal(np.concatenate(parts), alone)
    assert list(image_cache.batches(rows[:0], 8, 2)) == []


def kept_sides(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("pixels-*.npy"))


def test_squares_that_only_enlarge_are_made_when_read_and_never_kept(tmp_path):
    files = {f"{name}/{i}.png": encoded(photo(i, 12, 9), "PNG") for i in range(7) for name in ("cat", "dog")}
    files["cat/3.png"] = files["cat/3.png"][:-60]
    images, cache = load(str(write(tmp_path / "small", files))), tmp_path / "cache"
    options = DataOptions(allow_unreadable=True)
    image_cache = ImageCache.of_small(images, options, cache, Resize(30, "bilinear"), progress=False)
    assert [name for name, _ in image_cache.images.unreadable] == ["cat/3.png"]
    rows = np.array([12, 3, 3, 0, 8])
    for square in (Resize(30, "bilinear"), Resize(19), Resize(18), Resize(6)):
        alone = np.stack([read_resized(image_cache.images, int(row), square) for row in rows])
        np.testing.assert_array_equal(image_cache.squares(rows, square).numpy(), alone)
        np.testing.assert_array_equal(np.concatenate(list(image_cache.batches(rows, square, 2))), alone)
    assert kept_sides(cache) == [6, 9, 18]  # images of 9 pixels: up to twice that is kept
    assert not image_cache.streamed
    # an encoder that trains reads its square in every epoch
    ImageCache(images, options, tmp_path / "training", 30, progress=False)
    assert kept_sides(tmp_path / "training") == [30]


def test_batches_may_be_left_before_the_end(images):
    image_cache = ImageCache(images, STREAMED, None, 12, progress=False)
    batches = image_cache.batches(np.arange(12), 12, 2)
    assert next(batches).shape == (2, 12, 12, 3)
    batches.close()


def test_preprocessing_names_its_square_and_normalises_in_place_of_nothing(images):
    made = Preprocess(8, 10, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bilinear", squash=True)
    assert made.resize == Resize(10, "bilinear", squash=True)
    pixels = ImageCache(images, DataOptions(), None, made.resize, progress=False).squares(np.arange(3), made.resize)
    before = pixels.clone()
    x = made(pixels)
    assert (pixels == before).all()
    wanted = (pixels.numpy()[:, 1:9, 1:9] / 255.0 - np.array(made.mean)) / np.array(made.std)
    np.testing.assert_allclose(x.numpy().transpose(0, 2, 3, 1), wanted, atol=1e-6)
