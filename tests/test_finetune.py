"""Full fine-tuning: it learns, it chooses on validation, it goes on where it was stopped, it minds normalisation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from slmlp import config, data
from slmlp.data import augment
from slmlp.data.augment.draws import Draws
from slmlp.data.cache import ImageCache
from slmlp.encoders import Encoder, build
from slmlp.encoders.preprocess import Preprocess
from slmlp.evaluation.tasks import finetune as room
from slmlp.evaluation.tasks.finetune import finetune
from slmlp.results.metrics import calibration_error
from slmlp.runtime import files, json_files, seeds
from slmlp.runtime.errors import SlmlpError

pytestmark = pytest.mark.slow

SMALL = config.Finetune(steps=60, batch_size=24, rates=(0.03,), weight_decays=(0.0,))


@pytest.fixture(scope="module")
def images(shapes):
    return data.load(str(shapes))


@pytest.fixture(scope="module")
def image_cache(images):
    return ImageCache(images, config.DataOptions(), None, 16, progress=False)


def encoder(seed: int = 0, **preprocess) -> Encoder:
    with seeds.seeded(seed, "encoder"):
        made = build("resnet10", 16, "small").eval()
    made.preprocess = dataclasses.replace(Preprocess.ours(16), **preprocess)
    return made


def tuned(images, image_cache, cfg=SMALL, **more):
    parts = images.of_part("train"), images.of_part("test")
    return finetune(more.pop("encoder", None) or encoder(), image_cache, *parts, cfg, precision="float32", **more)


def test_all_layers_learn_and_the_starting_encoder_stays(images, image_cache):
    start = encoder()
    before = start.hash()
    accuracy, by_class, ece = tuned(images, image_cache, encoder=start)
    assert accuracy.value > 0.5  # guessing is 1 in 6
    assert (accuracy.n, accuracy.metric, by_class.metric) == (60, "accuracy", "mean_class_accuracy")
    assert (ece.metric, ece.value) == (
        "ece",
        calibration_error(accuracy.predictions.confidence, accuracy.predictions.correct),
    )
    assert by_class.value == pytest.approx(accuracy.value)  # as many test images in every class
    assert accuracy.predictions.correct.mean() == accuracy.value
    assert start.hash() == before
    frozen = tuned(images, image_cache, dataclasses.replace(SMALL, rates=(1e-9,)))[0]
    assert frozen.value < accuracy.value - 0.2


def test_the_grid_is_chosen_on_validation_and_a_rate_that_diverges_loses(images, image_cache):
    cfg = dataclasses.replace(SMALL, rates=(1e-7, 0.03, 1e12), steps=100)
    accuracy = tuned(images, image_cache, cfg)[0]
    assert accuracy.extra["rate"] == 0.03
    grid = {point["rate"]: point for point in accuracy.extra["grid"]}
    assert grid[1e12]["accuracy"] is None
    assert "diverged" in grid[1e12]["reason"]
    assert grid[0.03]["accuracy"] > grid[1e-7]["accuracy"]
    with pytest.raises(SlmlpError, match="diverged at every rate of the grid"):
        tuned(images, image_cache, dataclasses.replace(cfg, rates=(1e12, 1e13)))


def test_a_stopped_grid_goes_on_and_ends_the_same(images, image_cache, tmp_path, monkeypatch):
    cfg, notes = dataclasses.replace(SMALL, rates=(0.01, 0.03, 0.1), steps=20), tmp_path / "grid.jsonl"
    straight = tuned(images, image_cache, cfg)[0]
    trained, calls = room._Session.trained, []

    def counted(self, these, point, steps, words):
        calls.append(point.rate)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return trained(self, these, point, steps, words)

    monkeypatch.setattr(room._Session, "trained", counted)
    with pytest.raises(KeyboardInterrupt):
        tuned(images, image_cache, cfg, notes=notes)
    resumed = tuned(images, image_cache, cfg, notes=notes)[0]
    assert calls[:4] == [0.01, 0.03, 0.1, 0.1]  # the first two were kept
    assert len(calls) == 5
    assert resumed.value == straight.value
    np.testing.assert_array_equal(resumed.predictions.confidence, straight.predictions.confidence)
    other = tuned(images, image_cache, cfg, notes=notes, encoder=encoder(1))[
        0
    ]  # another encoder: nothing of it is used
    assert len(calls) == 9
    assert json_files.read_lines(notes, dict)[1:] == files.as_json(other.extra["grid"])


def test_an_encoder_of_another_normalisation_sees_its_own_pixels(images, image_cache, monkeypatch):
    odd, made, real = encoder(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2)), [], augment.views
    monkeypatch.setattr(room.augment, "views", lambda *a, **k: made.extend(real(*a, **k)) or made[-1:])
    tuned(images, image_cache, encoder=odd)
    assert {view.channels for view in made} == {(odd.preprocess.mean, odd.preprocess.std)}
    pixels = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (view,) = real("none", 16, channels=made[0].channels)
    torch.testing.assert_close(view(pixels, Draws(torch.Generator(), 5)), odd.preprocess(pixels), atol=1e-4, rtol=1e-4)


def test_an_encoder_without_weights_is_refused(images, image_cache):
    fixed = encoder()
    fixed.requires_grad_(False)
    with pytest.raises(SlmlpError, match="has no weights that can be trained"):
        tuned(images, image_cache, encoder=fixed)
