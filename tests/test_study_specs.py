"""Contenders of a study as they are written: names, overrides, and which differ in the projector only."""

from __future__ import annotations

import dataclasses
import json

import pytest

from slmlp import config
from slmlp.experiments.study.specs import mlp_pairs, parse, parse_all
from slmlp.runtime.errors import SlmlpError


def assert_refused(refused: dict[str, str]) -> None:
    for text, words in refused.items():
        with pytest.raises(SlmlpError, match=words):
            parse_all((text,))


def test_specs_of_methods():
    spec = parse("sl-mlp:projector.out=64:label_smoothing=0.1")
    assert (spec.settings.projector.out, spec.settings.label_smoothing) == (64, 0.1)
    assert len(parse_all(("sl,sl-mlp", "sl-mlp:projector.depth=2"))) == 3
    assert_refused({
        "sl-mpl": "did you mean",
        "sl:depth": "name:setting=value",
        "sl:projector.dept=1": "did you mean 'depth'",
        "sl:queue_size=1": "setting of sl",
        "sl,sl": "more than once",
    })  # fmt: skip


def test_specs_carry_their_own_compute_views_and_seeds():
    spec = parse("byol:predictor.depth=2:ema_momentum=0.9:training.epochs=7:training.local_crops=0:seeds=2")
    assert spec.settings == dataclasses.replace(
        config.BYOL(), predictor=config.BYOL().predictor.override(depth=2), ema_momentum=0.9
    )
    assert spec.training == {"epochs": 7, "local_crops": 0}
    assert (list(spec.seeds(5)), list(parse("byol").seeds(3))) == ([0, 1], [0, 1, 2])
    assert_refused({
        "sl:training.base_lr=1": "training setting of one method",
        "sl:predictor.depth=1": "group of settings",
        "sl:seeds=0": "seeds must be",
        "sl:training.epochs=0": "epochs must be at least 1",
        "moco-v2:ema_momentum=2": "ema_momentum must be 0 to below 1",
        "swav:prototypes=1": "prototypes must be at least 2",
    })  # fmt: skip


def test_pairs_with_and_without_the_mlp_differ_in_nothing_else():
    names = ("sl", "sl-mlp", "sl-mlp:projector.depth=2", "supcon", "supcon:projector.depth=0", "moco-v1", "moco-v2",
             "supcon:projector.depth=0:temperature=0.2")  # fmt: skip
    assert mlp_pairs(parse_all(names)) == [
        ("sl", "sl-mlp"), ("sl", "sl-mlp:projector.depth=2"), ("supcon:projector.depth=0", "supcon"),
    ]  # fmt: skip


def test_every_study_setting_survives_json():
    cfg = config.Study(
        rates=(0.3,), training=config.StudyTraining(epochs=7), split=config.Split(unseen_superclasses=("a", "b"))
    )
    assert config.from_dict(config.Study, json.loads(json.dumps(dataclasses.asdict(cfg)))) == dataclasses.replace(
        cfg, training=config.Training(**dataclasses.asdict(cfg.training))
    )
    with pytest.raises(SlmlpError, match="did you mean 'epochs'"):
        config.from_dict(config.Training, {"epoch": 3})
