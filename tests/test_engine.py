"""The engine and the store: what is missing is computed once; the same weights under another role are copied."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from slmlp import config
from slmlp.data.dataset import ImageSet
from slmlp.data.targets import Labelling
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.feature_file import FileSource
from slmlp.experiments.study.grid import _relabelled
from slmlp.probes.features import Features
from slmlp.results import records
from slmlp.results.store import Key, Subject
from slmlp.runtime.errors import SlmlpError
from slmlp.train.prepare import Prepared

CFG = config.TaskSettings(knn=config.Knn(neighbours=3))
SUBJECT = Subject("run-seed0", "run", "net", 0, "final")


def source(**changes):
    rng = np.random.default_rng(0)
    ids = np.array([f"{i:02d}" for i in range(20)])
    parts = [
        Features(rng.normal(size=(20, 4)).astype(np.float32), np.arange(20) % 2, ("a", "b"), ids, ids) for _ in range(2)
    ]
    return dataclasses.replace(FileSource("data", parts, "encoder", "images", {"test_part_drawn": 3}), **changes)


def test_what_is_missing_is_computed_once(tmp_path):
    engine = Engine(tmp_path, CFG)
    keys = engine.keys(SUBJECT, source(), ("knn", "centroid"))
    assert engine.store.missing(keys) == keys
    engine.run(SUBJECT, source(), ("knn",))
    assert [key.task for key in engine.store.missing(keys)] == ["centroid"]
    engine.run(SUBJECT, source(), ("knn", "centroid", "knn"))
    assert engine.store.missing(keys) == []
    before = engine.store.file.read_bytes()
    engine.run(SUBJECT, source(), ("centroid", "knn"))
    assert engine.store.file.read_bytes() == before
    lines = engine.lines(keys)
    assert [(row.task, row.metric) for row in lines] == [
        (task, metric) for task in ("knn", "centroid") for metric in ("accuracy", "mean_class_accuracy")
    ]
    engine.store.file.unlink()
    with pytest.raises(SlmlpError, match=r"lost numbers .*knn of"):
        engine.lines(keys)


def test_other_weights_data_settings_and_lost_predictions_are_missing(tmp_path):
    engine = Engine(tmp_path, CFG)
    engine.run(SUBJECT, source(), ("knn",))
    for other in (source(file_hash="x"), source(data_hash="x"), source(name="other")):
        assert engine.store.missing(engine.keys(SUBJECT, other, ("knn",)))
    elsewhere = Engine(tmp_path, dataclasses.replace(CFG, knn=config.Knn(neighbours=5)))
    assert elsewhere.store.missing(elsewhere.keys(SUBJECT, source(), ("knn",)))
    (key,) = engine.keys(SUBJECT, source(), ("knn",))
    assert engine.store.missing([dataclasses.replace(key, hashes={"data": "images"})]) == []  # of whatever weights
    (tmp_path / engine.lines([key])[0].predictions).unlink()
    assert engine.store.missing([key]) == [key]


def test_numbers_of_the_same_weights_under_another_epoch_are_copied(tmp_path):
    engine = Engine(tmp_path, CFG)
    engine.run(SUBJECT, source(), ("knn",))
    kept = dataclasses.replace(SUBJECT, role="curve", epoch=3)
    keys = engine.keys(kept, source(), ("knn",))
    assert isinstance(keys[0], Key)
    assert engine.store.missing(keys) == keys
    engine.run(kept, source(parts=()), ("knn",))  # features would fail
    rows = records.read(engine.store.file)
    assert [(row.role, row.epoch) for row in rows] == [("final", None)] * 2 + [("curve", 3)] * 2
    assert [row.value for row in rows[:2]] == [row.value for row in rows[2:]]
    assert engine.store.missing(keys) == []


def test_a_rate_is_chosen_by_the_labels_of_pretraining():
    n = np.arange(6)
    ids = tuple(f"{i}" for i in n)
    images = ImageSet(
        "d", "d", ids, n % 3, ("a", "b", "c"), np.array(["train"] * 6), np.array(ids), n, n, lambda i: None,
        superclasses=("second", "first", "second"),
    )  # fmt: skip
    labels = Labelling(n % 2, ("first", "second"))
    relabelled = _relabelled(images, Prepared(images, images, labels, 16))
    assert [relabelled.classes[y] for y in relabelled.labels] == ["second", "first", "second"] * 2
    assert _relabelled(images, Prepared(images, images, Labelling(n % 3, images.classes), 16)) is images
