"""The leak check.

- one picture re-encoded, resized or mirrored is found; other pictures are not
- blank pages, and pictures on equal backgrounds, do not match each other
- the search finds exactly what comparing every pair finds
- each held-out image is reported once, with its nearest source image, the closest first
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from slmlp.data.splits import leak
from slmlp.data.splits.leak import near_duplicates
from slmlp.runtime.errors import SlmlpError


def pictures(n: int, seed: int, side: int = 64) -> list[Image.Image]:
    """Pictures with detail at all scales and less of it in colour, as photographs have."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        noise = random.normal(size=(side, side, 1)) + 0.4 * random.normal(size=(side, side, 3))
        x = sum(gaussian_filter(noise, (scale, scale, 0)) * scale for scale in (1, 3, 8, 20))
        x = random.uniform(60, 190) + random.uniform(15, 60) * (x - x.mean()) / x.std()
        out.append(Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)))
    return out


def thumbs(images, side=16):
    return np.stack([np.asarray(i.resize((side, side), Image.Resampling.BICUBIC)) for i in images])


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CHANGES = {
    "jpeg 50": lambda i: jpeg(i, 50),
    "half size": lambda i: i.resize((32, 32)),
    "larger, jpeg 75": lambda i: jpeg(i.resize((100, 100)), 75),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "jpeg 50, mirrored": lambda i: jpeg(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 50),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", [16, 32])
def test_copies_are_found_and_others_are_not(change, side):
    source, others = pictures(60, 0), pictures(40, 1)
    unseen = [*others, *(CHANGES[change](i) for i in source[:20])]
    found = near_duplicates(thumbs(source, side), thumbs(unseen, side))
    assert sorted((i, j) for i, j, _ in found) == [(i, 40 + i) for i in range(20)]
    distances = [d for _, _, d in found]
    assert distances == sorted(distances)
    assert distances[-1] < leak.THRESHOLD


def test_blank_pages_prove_nothing():
    random = np.random.default_rng(0)
    pages = 255 - random.integers(0, 3, (50, 16, 16, 3)).astype(np.uint8)
    black = np.zeros((5, 16, 16, 3), np.uint8)
    assert near_duplicates(np.concatenate([pages, black]), np.concatenate([pages, black])) == []


def test_small_drawings_on_white_are_told_apart():
    random = np.random.default_rng(0)
    pages = np.full((30, 16, 16, 3), 255, np.uint8)
    for page in pages:
        x, y = random.integers(0, 13, 2)
        page[x : x + 3, y : y + 3] = random.integers(0, 200, 3)
    found = near_duplicates(pages, pages)
    assert {(i, j) for i, j, _ in found} == {(i, i) for i in range(30)}


def test_search_equals_comparing_every_pair(monkeypatch):
    monkeypatch.setattr(leak, "ROWS", 16)
    monkeypatch.setattr(leak, "COLUMNS", 24)
    base = thumbs(pictures(30, 2))
    random = np.random.default_rng(3)
    # neighbours at every distance, from copies to strangers
    noise = random.normal(size=(90, 16, 16, 3)) * np.linspace(0, 40, 90)[:, None, None, None]
    unseen = np.clip(base[np.arange(90) % 30] + noise, 0, 255).astype(np.uint8)

    def describe(x):
        """Brightness and blurred colour of every pixel, in orthonormal axes."""
        r, g, b = np.moveaxis(x.astype(np.float64), -1, 0)
        red, green = (r - b) / 2**0.5, (r - 2 * g + b) / 6**0.5
        blurred = [c.reshape(-1, 4, 4, 4, 4).mean((2, 4)).repeat(4, axis=1).repeat(4, axis=2) for c in (red, green)]
        return np.stack([(r + g + b) / 3**0.5, *blurred], axis=-1)

    def spread(x):
        return ((x - x.mean((1, 2), keepdims=True)) ** 2).sum((1, 2, 3))

    a, b = describe(base), describe(unseen)
    both = [((s[:, None] - b[None]) ** 2).sum((2, 3, 4)) for s in (a, a[:, :, ::-1])]
    distance = np.minimum(*both) / (spread(a)[:, None] + spread(b)[None])
    for threshold in (0.005, 0.05, 0.3):
        found = near_duplicates(base, unseen, threshold)
        expected = {(int(distance[:, j].argmin()), j) for j in np.flatnonzero(distance.min(0) < threshold)}
        assert {(i, j) for i, j, _ in found} == expected
        np.testing.assert_allclose([d for _, _, d in found], [distance[i, j] for i, j, _ in found], atol=1e-6)


def test_nothing_to_compare():
    some = thumbs(pictures(3, 0))
    assert near_duplicates(some[:0], some) == near_duplicates(some, some[:0]) == []


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 16, 16), np.uint8), np.zeros((2, 16, 16, 3)), np.zeros((2, 8, 16, 3), np.uint8)]
)
def test_other_arrays_are_refused(bad):
    with pytest.raises(SlmlpError, match="thumbnails must be uint8"):
        near_duplicates(bad, bad)
