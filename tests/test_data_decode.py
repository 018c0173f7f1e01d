"""Decoding: every rule of the table in ``decode``, by files that Pillow has written."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_images import encoded, photo
from slmlp.data import decode as room
from slmlp.data.decode import decode, decode_resized, resize_image, signature_problem, size_of, to_rgb

WHITE, RED = (255, 255, 255), (255, 0, 0)


def test_lossless_formats_come_back_exactly():
    image = photo(0)
    for form, options in [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True})]:
        found = decode(encoded(image, form, **options))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, image, err_msg=form)
        found[0, 0] = 7  # torch warns about arrays that cannot be written


def test_lossy_formats_come_back_nearly():
    image = photo(1)
    for form in ("JPEG", "WEBP"):
        found = decode(encoded(image, form, quality=95))
        assert found.shape == image.shape
        assert np.abs(found.astype(int) - image).mean() < 6, form


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_grey_is_replicated(form):
    grey = photo(2)[:, :, 0]
    found = decode(encoded(grey, form))
    assert (found == found[:, :, :1]).all()
    assert np.abs(found[:, :, 0].astype(int) - grey).mean() <= (6 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_divided_by_257_and_never_stretched(form):
    values = np.array([[0, 257, 1000, 32768], [385, 386, 65000, 65535]], dtype=np.uint16)
    found = decode(encoded(values, form))
    assert found[:, :, 0].tolist() == [[0, 1, 4, 128], [1, 2, 253, 255]]
    assert (found == found[:, :, :1]).all()
    dark = decode(encoded(values[:1, :2], form))
    assert dark[:, :, 1].tolist() == [[0, 1]], "a dark image must stay dark"


def test_32_bit_integers_and_floats_follow_their_rule():
    integers = np.array([[-5, 0, 257, 70000]], dtype=np.int32)
    assert decode(encoded(integers, "TIFF"))[0, :, 0].tolist() == [0, 0, 1, 255]
    floats = np.array([[-1.0, 0.0, 0.5, 1.0, 9.0, np.nan, np.inf, -np.inf, *[0.25] * 8]], dtype=np.float32)
    assert decode(encoded(floats, "TIFF"))[0, :8, 0].tolist() == [0, 0, 128, 255, 255, 0, 255, 0]


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1), (0, 65535), (-2.1, 2.6)])
def test_floats_of_another_range_are_unreadable_and_not_white(low, high):
    values = np.linspace(low, high, 480, dtype=np.float32).reshape(20, 24)
    values[:, ::2] = 0  # a background
    content = encoded(values, "TIFF")
    for read in (decode, size_of):
        with pytest.raises(ValueError, match=f"to {high}, expected 0 to 1"):
            read(content)
    assert size_of(encoded((values - low) / (high - low), "TIFF")) == (24, 20)


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x24ftypmif1", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
    ],
)
def test_forms_of_phones_are_named_with_what_to_do(head, form):
    assert signature_problem(head.ljust(16, b"\0")) == f"an image in {form}, which is not read: save it as JPEG or PNG"


def test_one_bit_is_black_and_white():
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert decode(encoded(bits, "PNG"))[:, :, 2].tolist() == [[0, 255], [255, 0]]


def test_palette_gives_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for form in ("PNG", "GIF", "BMP"):
        assert decode(encoded(image, form)).tolist() == [[[255, 0, 0], [0, 0, 255]]], form


def test_transparency_is_composited_on_white():
    pixels = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    for form, options in [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]:
        found = decode(encoded(pixels, form, **options))
        assert tuple(found[0, 0]) == WHITE, form
        assert tuple(found[0, 1]) == RED, form
        assert np.abs(found[0, 2].astype(int) - 127).max() <= 1, form
    grey = Image.fromarray(np.array([[[0, 0], [0, 255]]], dtype=np.uint8), "LA")
    assert decode(encoded(grey, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(form):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, form, transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_a_transparent_colour_of_rgb_is_white():
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]]], dtype=np.uint8))
    assert decode(encoded(image, "PNG", transparency=(255, 0, 0))).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for form in ("JPEG", "TIFF"):
        found = decode(encoded(image, form))
        assert np.abs(found.astype(int) - RED).max() < 12, form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_obeyed(form):
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    found = decode(encoded(image, form, exif=exif))
    assert found.shape == (32, 16, 3)
    assert found[2].max() < 30
    assert found[-3].min() > 225


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_leaves_the_image_readable():
    content = encoded(photo(3), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert decode(content).shape == (20, 24, 3)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        found = decode(encoded(frames[0], form, save_all=True, append_images=frames[1:]))
        assert found[0, 0, 2] > 200, form
        assert found[0, 0, 0] < 60, form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_truncated_files_are_unreadable(form):
    content = encoded(photo(4, 64, 64), form)
    with pytest.raises(ValueError, match=r"\w"):
        decode(content[: len(content) // 2])
    assert signature_problem(content[:16]) is None


def test_other_content_is_unreadable_and_says_so():
    for content, words in [
        (b"", "empty file"),
        (b"<html>not found</html>", "no image"),
        (b"\xff\xd8\xff" + bytes(40), "damaged"),
    ]:
        with pytest.raises(ValueError, match=words):
            decode(content)
    assert signature_problem(b"%PDF-1.7 and more") is not None


def test_a_decompression_bomb_is_refused_before_it_is_unpacked():
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="exceeds limit"):
        decode(bomb)


def test_any_bytes_give_pixels_or_a_value_error():
    random = np.random.default_rng(0)
    contents = [encoded(photo(5, 40, 40), form) for form in room.FORMATS]
    broken = 0
    for content in contents * 6:
        damaged = bytearray(content)
        for place in random.integers(0, len(damaged), 12):
            damaged[place] = random.integers(0, 256)
        try:
            assert decode(bytes(damaged)).shape[2] == 3
        except ValueError:
            broken += 1
    assert 0 < broken < len(contents) * 6


def test_a_hint_of_the_size_makes_a_large_jpeg_smaller_but_not_too_small():
    image = photo(6, 900, 600)
    content = encoded(image, "JPEG", quality=95)
    assert decode(content).shape == (600, 900, 3)
    assert decode(content, 40).shape == (150, 225, 3)
    for side in (20, 37, 100, 299, 301):
        height, width, _ = decode(content, side).shape
        assert min(height, width) >= min(600, 2 * side)
    exact, quick = (resize_image(decode(content, hint), 40).astype(int) for hint in (None, 40))
    assert np.abs(exact - quick).mean() < 1.5
    np.testing.assert_array_equal(decode_resized(content, 40), resize_image(decode(content, 40), 40))
    png = encoded(image, "PNG")
    np.testing.assert_array_equal(decode_resized(png, 37), resize_image(image, 37))
    assert decode(png, 40).shape == (600, 900, 3)


def test_resize_image_takes_the_centre_and_filters():
    image = photo(7, 100, 40)
    whole = np.asarray(Image.fromarray(image).resize((50, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_image(image, 20), whole[:, 15:35])
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 254
    small = resize_image(stripes, 8)
    assert np.abs(small.astype(int) - 127).max() < 12, "without antialiasing stripes alias to black or white"
    same = photo(7, 32, 32)
    np.testing.assert_array_equal(resize_image(same, 32), same)
    assert resize_image(photo(8, 3, 5), 16).shape == (16, 16, 3)
    assert resize_image(photo(8, 1, 900), 16).shape == (16, 16, 3)
    tall = resize_image(photo(9, 20, 50), 10)
    np.testing.assert_array_equal(tall.transpose(1, 0, 2), resize_image(photo(9, 20, 50).transpose(1, 0, 2).copy(), 10))


def test_to_rgb_takes_arrays_and_pil_images():
    image = photo(10)
    for given in (Image.fromarray(image), image):
        np.testing.assert_array_equal(to_rgb(given), image)
    np.testing.assert_array_equal(to_rgb(image[:, :, 0])[:, :, 2], image[:, :, 0])
    np.testing.assert_array_equal(to_rgb(image[:, :, :1])[:, :, 1], image[:, :, 0])
    clear = np.dstack([image, np.zeros((20, 24), dtype=np.uint8)])
    assert (to_rgb(clear) == 255).all()
    assert (to_rgb(Image.fromarray(clear)) == 255).all()
    assert to_rgb(Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)))[0, 0].tolist() == [128] * 3
    for wrong in (image.astype(np.float32), image[None], image[:, :, :2]):
        with pytest.raises(ValueError, match="expected a uint8 array"):
            to_rgb(wrong)
    turned = Image.fromarray(image)
    turned.getexif()[0x0112] = 6
    assert to_rgb(turned).shape == (24, 20, 3)
    assert turned.size == (24, 20), "the user's own image must stay as it is"
