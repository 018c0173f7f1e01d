"""Rows that every table has: the untouched starting encoder, random initialisation, and the pixels themselves."""

from __future__ import annotations

import numpy as np

from slmlp.data.dataset import ImageSet
from slmlp.encoders import choose_stem
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.evaluation.evaluation import MEASURES, SOURCE, UNSEEN, encoder_hashes
from slmlp.experiments.study.context import Context
from slmlp.probes.features import Features
from slmlp.results.store import Subject
from slmlp.runtime import files
from slmlp.train.pretrain import initial_encoder

PIXEL_SIDE = 16  # pixels: 768 numbers an image, what a linear probe of raw pixels can be fitted to in seconds
SEED = 0


def evaluate(context: Context) -> None:
    """Evaluate the baselines, seed 0; an encoder given by ``--init`` is a row beside random initialisation."""
    _encoder(context, "random-init", "random")
    if context.cfg.training.init != "random":
        _encoder(context, "starting-encoder", context.cfg.training.init)
    _pixels(context)


def _encoder(context: Context, name: str, init: str) -> None:
    cfg = context.cfg.training
    assert cfg.image_size is not None
    encoder = initial_encoder(cfg.encoder, init, cfg.image_size, choose_stem(cfg.stem, cfg.image_size), SEED)
    if init == "random":
        train, cache = context.evaluation.source.of_part("train"), context.evaluation.features_cache
        calibrate_norms(encoder, context.image_cache, train, cache)
    encoder.eval()
    hashes, transform = encoder_hashes(encoder)
    subject = Subject(name, name, cfg.encoder, SEED, "baseline", labels=context.cfg.labels)
    extract = context.evaluation.extractor(encoder)
    context.evaluation.run(subject, extract, hashes, (UNSEEN, SOURCE, MEASURES), transform)


def _pixels(context: Context) -> None:
    def extract(images: ImageSet) -> Features:
        squares = context.image_cache.squares(context.image_cache.rows(images), PIXEL_SIDE).numpy()
        x = squares.reshape(len(squares), -1).astype(np.float32) / np.float32(255)
        return Features(
            x, images.labels, images.classes, np.array(images.ids, dtype=np.str_), images.groups.astype(np.str_)
        )

    subject = Subject("raw-pixels", "raw-pixels", "none", SEED, "baseline", labels=context.cfg.labels)
    hashes = {"encoder": files.hash_json(["raw-pixels", PIXEL_SIDE])}
    context.evaluation.run(subject, extract, hashes, (UNSEEN, SOURCE, MEASURES), f"square{PIXEL_SIDE}")
