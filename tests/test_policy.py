"""RandAugment, TrivialAugment and random erasing against torchvision, change by change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from slmlp.data.augment import Augment, policy
from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import RAND, TRIVIAL
from slmlp.runtime import seeds

BILINEAR = v2.InterpolationMode.BILINEAR
PAIRS = [(RAND, v2.RandAugment(interpolation=BILINEAR)), (TRIVIAL, v2.TrivialAugmentWide(interpolation=BILINEAR))]
SIDE = 33


def draws(n: int, *words: str | int) -> Draws:
    return Draws(seeds.torch_generator(0, *words), n)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_the_changes_and_their_magnitudes_are_torchvisions(ours, theirs):
    space = theirs._AUGMENTATION_SPACE
    assert tuple(space) == policy.CHANGES
    assert {name for name, (_, signed) in space.items() if signed} == set(policy.CHANGES[policy.SIGNED])
    for row, (magnitudes, _) in zip(ours.magnitudes(SIDE), space.values(), strict=True):
        expected = magnitudes(policy.LEVELS, SIDE, SIDE)
        np.testing.assert_allclose(row, np.zeros(policy.LEVELS) if expected is None else expected, rtol=1e-5, atol=1e-6)
    if isinstance(theirs, v2.RandAugment):
        assert (ours.rounds, ours.level) == (theirs.num_ops, theirs.magnitude)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("change", range(len(policy.CHANGES)))
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_change_is_torchvisions_at_every_magnitude(ours, theirs, change, sign):
    """Each image of a batch at its own magnitude, beside one that is left alone."""
    images = torch.rand(policy.LEVELS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(change))
    images[3, 0] = 0.25  # a channel of one value
    magnitudes = ours.magnitudes(SIDE)[change] * (sign if change in range(14)[policy.SIGNED] else 1)
    changes = np.where(np.arange(policy.LEVELS) == 5, 0, change)
    made = policy.apply(images.clone(), changes[:, None], magnitudes[:, None])
    for i, (x, image) in enumerate(zip(made, images, strict=True)):
        name, size = policy.CHANGES[changes[i]], float(magnitudes[i])
        expected = theirs._apply_image_or_video_transform(image, name, size, BILINEAR, theirs._fill)
        torch.testing.assert_close(x, expected, atol=2e-5, rtol=0)


def test_changes_follow_one_another():
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    names = np.array([[5, 11], [11, 5]])
    sizes = np.array([[20, 0.4], [0.4, 20]], np.float32)
    made = policy.apply(images.clone(), names, sizes)
    for x, image, row, magnitudes in zip(made, images, names, sizes, strict=True):
        for k, size in zip(row, magnitudes, strict=True):
            image = policy.apply(image[None].clone(), np.array([[k]]), np.array([[size]], np.float32))[0]
        torch.testing.assert_close(x, image, atol=1e-6, rtol=0)


def test_draws_are_uniform_over_changes_levels_and_signs():
    drawn = policy.draw(TRIVIAL, SIDE, draws(20000))
    change, magnitude = drawn["policy"][:, 0], drawn["magnitudes"][:, 0]
    share = np.bincount(change, minlength=14) / len(change)
    np.testing.assert_allclose(share, 1 / 14, atol=0.01)
    rotated = magnitude[change == policy.CHANGES.index("Rotate")]
    assert abs((rotated < 0).mean() - 0.5 * 30 / 31) < 0.04
    assert len(np.unique(np.abs(rotated))) == policy.LEVELS
    assert (magnitude[change == policy.CHANGES.index("Solarize")] >= 0).all()
    again = policy.draw(RAND, SIDE, draws(20000))
    assert again["policy"].shape == (20000, 2)
    assert set(np.abs(again["magnitudes"][again["policy"] == 5]).round(4)) == {9.0}


def test_erased_rectangles_follow_torchvisions_law():
    theirs = v2.RandomErasing(p=1.0)
    torch.manual_seed(0)
    params = [theirs.make_params([torch.zeros(3, 40, 40)]) for _ in range(3000)]
    top, left, bottom, right = policy.draw_erased(0.5, 40, draws(6000))["erased"].T
    height, width = bottom - top, right - left
    some = height > 0
    assert abs(some.mean() - 0.5) < 0.02
    assert ((top >= 0) & (left >= 0) & (bottom <= 40) & (right <= 40)).all()
    for found, key in ((height, "h"), (width, "w"), (top, "i"), (left, "j")):
        expected = np.array([p[key] for p in params if p["v"] is not None])
        np.testing.assert_allclose(found[some].mean(), expected.mean(), atol=0.6)
        np.testing.assert_allclose(found[some].std(), expected.std(), atol=0.6)
    area = (height * width)[some] / 1600
    assert area.min() >= 0.014
    assert area.max() <= 0.345


def test_erased_pixels_have_the_mean_colour():
    x = torch.randn(3, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    boxes = np.array([[2, 3, 7, 12], [0, 0, 0, 0], [4, 0, 10, 1]])
    expected = x.clone()
    for image, (top, left, bottom, right) in zip(expected, boxes, strict=True):
        image[:, top:bottom, left:right] = 0
    assert torch.equal(policy.erase(x.clone(), boxes), expected)
    pixels = torch.full((400, 20, 20, 3), 255, dtype=torch.uint8)
    choices = Augment("trivialaugment", 16).draw(draws(400, "erase"))
    made = Augment("trivialaugment", 16).apply(pixels, choices)
    erased = choices.erased[:, 2] > choices.erased[:, 0]
    assert 20 <= erased.sum() <= 65
    found = (made == 0).all(1).flatten(1).sum(1).numpy()
    areas = (choices.erased[:, 2] - choices.erased[:, 0]) * (choices.erased[:, 3] - choices.erased[:, 1])
    np.testing.assert_array_equal(found, areas)
