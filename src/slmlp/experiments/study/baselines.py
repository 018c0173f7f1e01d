"""Baselines of every study: the starting encoder, random initialisation, and raw pixels."""

from __future__ import annotations

import numpy as np

from slmlp import config
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.encoders.initial import RANDOM, initial_encoder
from slmlp.encoders.sources import describe, untrained
from slmlp.evaluation.sources import ImageData, ImageSource
from slmlp.experiments.study.context import Context
from slmlp.probes.features import Features
from slmlp.results.store import Subject
from slmlp.runtime import files
from slmlp.runtime.progress import say

PIXEL_SIDE = 16  # pixels: 768 numbers per image, what a linear probe of raw pixels can be fitted to in seconds
SEED = 0
STARTING = "starting-encoder"


class Pixels(ImageSource):
    """Pixels of images resized to ``PIXEL_SIDE``, from 0 to 1, as features."""

    def __init__(self, data: ImageData) -> None:
        super().__init__(data, files.hash_json(["raw-pixels", PIXEL_SIDE]))

    def extract(self, task: config.Task, images: ImageSet) -> dict[str, Features]:
        squares = self.data.image_cache.squares(self.data.image_cache.rows(images), PIXEL_SIDE).numpy()
        x = squares.reshape(len(squares), -1).astype(np.float32) / np.float32(255)
        ids, groups = np.array(images.ids, dtype=np.str_), images.groups.astype(np.str_)
        return {"output": Features(x, images.labels, images.classes, ids, groups)}

    def transform(self, task: config.Task) -> str:
        return f"square{PIXEL_SIDE}"


def evaluate(context: Context) -> None:
    """Evaluate an untrained encoder, with seed 0, and raw pixels."""
    cfg = context.cfg.training
    start = starting_encoder(context)
    encoder = start if cfg.init == RANDOM else untrained(start, SEED)
    calibrate_norms(encoder, context.image_cache, context.data.of("source train"), context.data.features_cache)
    context.engine.run(_subject(context, "random-init", cfg.network), context.features(encoder.eval()), context.tasks)
    context.engine.run(_subject(context, "raw-pixels", "none"), Pixels(context.data), context.tasks)


def evaluate_start(context: Context) -> None:
    """Evaluate the encoder that ``--init`` names as it is, before any training: what continuing it must beat."""
    cfg = context.cfg.training
    if cfg.init != RANDOM:
        encoder = starting_encoder(context)
        say(f"starting {describe(encoder)}")
        subject, source = _subject(context, STARTING, cfg.network), context.features(encoder.eval())
        context.engine.run(subject, source, context.tasks_of(subject, encoder))


def starting_encoder(context: Context) -> Encoder:
    """Return the encoder that training starts from, with seed 0."""
    cfg = context.cfg.training
    return initial_encoder(cfg.network, cfg.init, cfg.image_size, cfg.stem, SEED)


def _subject(context: Context, name: str, encoder: str) -> Subject:
    return Subject(name, name, encoder, SEED, "baseline", labels=context.cfg.labels)
