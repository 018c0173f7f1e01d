"""Batched augmentation against torchvision, image by image, and against the rules it states."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from slmlp.data.augment import Augment, colour, evaluation_side, geometry, normalise, views
from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import VIEWS
from slmlp.encoders.preprocess import Preprocess
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError


def draws(n: int, *words: str | int) -> Draws:
    return Draws(seeds.torch_generator(0, *words), n)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))


FACTORS = np.array([0.6, 0.8, 1.0, 1.1, 1.3, 1.4], np.float32)


BLENDS = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)


def test_blends_equal_torchvision_with_a_change_and_a_factor_of_each_image(images):
    for first in range(3):
        which = (np.arange(6) + first) % 3
        expected = torch.stack(
            [BLENDS[k](x, float(f)) for x, k, f in zip(images, which.tolist(), FACTORS, strict=True)]
        )
        torch.testing.assert_close(colour.blended(images, which, FACTORS), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(colour.blended(images, which, np.ones(6, np.float32)), images, atol=0, rtol=0)


def test_jitter_equals_torchvision_with_an_order_of_each_image():
    """The same factors, one change after the other, image by image."""
    images, strength = torch.rand(200, 3, 12, 12, generator=torch.Generator().manual_seed(2)), (0.4, 0.4, 0.3, 0.1)
    again = draws(200, "jitter")
    chosen, changes, orders = again.rand() < 0.8, (again.rand(4) * 2 - 1) * torch.tensor(strength), again.orders(4)
    expected = images.clone()
    for i in chosen.nonzero()[:, 0].tolist():
        for k in orders[i].tolist():
            factor = float(changes[i, k])
            expected[i] = TF.adjust_hue(expected[i], factor) if k == 3 else BLENDS[k](expected[i], 1 + factor)
    found = colour.jitter(images.clone(), **colour.draw_jitter(strength, 0.8, draws(200, "jitter")))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert len({tuple(order) for order in orders.tolist()}) == 24


def test_hue_equals_torchvision(images):
    turns = torch.tensor([-0.1, -0.05, 0.0, 0.02, 0.07, 0.1])
    expected = torch.stack([TF.adjust_hue(x, float(t)) for x, t in zip(images, turns, strict=True)])
    torch.testing.assert_close(colour.hue(images, turns.view(-1, 1, 1)), expected, atol=1e-5, rtol=0)


def test_hue_leaves_grey_alone():
    grey = torch.full((1, 3, 4, 4), 0.3)
    torch.testing.assert_close(colour.hue(grey, torch.full((1, 1, 1), 0.1)), grey)


def test_blur_equals_torchvision(images):
    """The window of all is that of the largest sigma; images that are not chosen stay as they are."""
    chosen, sigmas = np.array([1, 1, 0, 1, 0, 1], bool), np.array([0.9, 0.1, 0.5, 0.7, 0.9, 0.3], np.float32)
    blurred = colour.blur(images.clone(), chosen, sigmas, 0.9)
    for x, image, blurs, sigma in zip(blurred, images, chosen, sigmas.tolist(), strict=True):
        expected = TF.gaussian_blur(image, [7, 7], [sigma, sigma]) if blurs else image
        torch.testing.assert_close(x, expected, atol=1e-6, rtol=0)


def test_whole_box_at_the_same_size_is_the_image(images):
    pixels = (images.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (6, 1))
    same = geometry.crop(pixels, whole, np.zeros(6, bool), 20)
    torch.testing.assert_close(same, pixels.permute(0, 3, 1, 2).float() / 255, atol=1e-5, rtol=0)
    flipped = geometry.crop(pixels, whole, np.ones(6, bool), 20)
    torch.testing.assert_close(flipped, same.flip(3), atol=1e-5, rtol=0)


def test_a_box_is_the_slice_it_names(images):
    pixels = (images.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    box = np.tile(np.array([0.25, 0.5, 0.5, 0.5], np.float32), (6, 1))
    view = geometry.crop(pixels, box, np.zeros(6, bool), 10)
    torch.testing.assert_close(view, pixels.permute(0, 3, 1, 2)[:, :, 5:15, 10:20].float() / 255, atol=1e-5, rtol=0)


def _one_by_one(rng: random.Random) -> float:
    """The area of one random resized crop of a square, drawn in a loop."""
    for _ in range(10):
        area, ratio = rng.uniform(0.2, 1.0), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        if math.sqrt(area * ratio) <= 1 and math.sqrt(area / ratio) <= 1:
            return area
    return 1.0


@pytest.mark.parametrize("aspect", [1.0, 2.0, 0.4])
def test_resized_crops_follow_their_law(aspect):
    boxes = geometry.resized_crops((0.2, 1.0), draws(4000), aspect)
    top, left, height, width = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    area, ratio = height * width, width * aspect / height
    whole = (height == 1) & (width == 1)
    assert ((area >= 0.2 - 1e-5) | whole).all()
    assert (((ratio >= 0.75 - 1e-4) & (ratio <= 4 / 3 + 1e-4)) | whole).all()
    if aspect == 1.0:  # large areas are refused when their ratio makes a side longer than the image's
        loop = [_one_by_one(random.Random(i)) for i in range(4000)]
        assert abs(float(area.mean()) - sum(loop) / len(loop)) < 0.015


def test_originals_and_squares_give_the_same_crop_of_a_smooth_image():
    ramp = np.linspace(0, 255, 40)
    image = np.stack([np.add.outer(ramp, ramp) / 2] * 3, axis=2).astype(np.uint8)
    augment = Augment("crop", 16)
    squares = augment(torch.from_numpy(image)[None].expand(8, -1, -1, -1), draws(8, "a"))
    originals = augment.apply(*augment.cut([image] * 8, draws(8, "a")))
    assert float((squares - originals).abs().max()) < 0.12  # of a range of about 4; flips and boxes agree


def test_the_same_generator_gives_the_same_views_and_another_gives_others(images):
    pixels = (images.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    augment = Augment("moco-v2", 16)
    first = augment(pixels, draws(6, 1))
    assert torch.equal(first, augment(pixels, draws(6, 1)))
    assert not torch.equal(first, augment(pixels, draws(6, 2)))


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_part_of_a_batch_gets_the_views_it_has_in_the_whole(images, name):
    pixels = (images.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    for view in views(name, 16, num_views=2, local_crops=1):
        whole = view(pixels, draws(6, "part"))
        parts = [view(pixels[p], Draws(seeds.torch_generator(0, "part"), 6, p)) for p in (slice(0, 2), slice(2, 6))]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_views_come_first_then_local_crops_of_their_own_size_and_scale():
    made = views("swav", 224, num_views=2, local_crops=6)
    assert [v.size for v in made] == [224] * 2 + [96] * 6
    assert (made[0].recipe.scale, made[2].recipe.scale) == ((0.14, 1.0), (0.05, 0.14))
    assert [v.size for v in views("weak", 32, 1, 2)] == [32, 16, 16]
    assert views("weak", 32, 1, 2, local_size=24)[1].size == 24
    first, second = views("byol", 224, 2)
    assert (first.recipe.blur_p, second.recipe.blur_p, second.recipe.solarise_p) == (1.0, 0.1, 0.2)
    with pytest.raises(SlmlpError, match="local crops"):
        views("torchvision.transforms.v2:RandomResizedCrop", 32, 1, 2)


def test_solarise_equals_torchvision(images):
    chosen = np.array([True, False, True, True, False, True])
    expected = torch.where(torch.from_numpy(chosen).view(-1, 1, 1, 1), TF.solarize(images, 0.5), images)
    torch.testing.assert_close(colour.solarise(images.clone(), chosen), expected)


def test_probabilities_are_kept():
    pixels = torch.randint(0, 255, (3000, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = Augment("moco-v2", 8)(pixels, draws(3000))
    black, white = normalise(torch.zeros(1, 3, 1, 1)), normalise(torch.ones(1, 3, 1, 1))
    rgb = (views - black) / (white - black)
    grey = ((rgb - rgb.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-3).float().mean()
    assert abs(float(grey) - 0.2) < 0.03


def test_evaluation_view_is_the_centre():
    pixels = torch.arange(6 * 6 * 3, dtype=torch.uint8).view(1, 6, 6, 3)
    view = Preprocess(4, 6)(pixels)
    torch.testing.assert_close(view, normalise(pixels[:, 1:5, 1:5].permute(0, 3, 1, 2).float() / 255))
    assert (evaluation_side(32), evaluation_side(224)) == (32, 256)
