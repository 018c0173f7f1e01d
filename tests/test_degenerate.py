"""Weights and features of which no sensible number can come: an error, or a warning beside the number."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from data_images import two_classes, write
from slmlp import api, config
from slmlp.results import records
from slmlp.runtime.errors import SlmlpError

CONSTANT = 15  # weights of two axes and more in test_resnet


@pytest.fixture
def pets(tmp_path):
    return str(write(tmp_path / "pets", {**two_classes("train/", each=6), **two_classes("test/", each=3, start=50)}))


def weights(tmp_path, change):
    """Return the name of an encoder whose weights were changed one by one."""
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    for name, value in state.items():
        change(name, value)
    torch.save(state, tmp_path / "w.pt")
    return f"timm:test_resnet@{tmp_path / 'w.pt'}"


def fill(number, only=""):
    """Return a change of every floating-point tensor whose name has ``only`` in it."""
    return lambda name, value: value.fill_(number) if only in name and value.is_floating_point() else None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (fill(0), {"constant_weights": CONSTANT, "equal_features": 18}),
        (fill(0.01, "weight"), {"constant_weights": CONSTANT}),
        (fill(0, "layer4.0.conv1.weight"), {"constant_weights": 1}),  # one layer that was never written
        (fill(0, "layer4.0.bn2"), {}),  # a branch that does nothing is how many networks begin
        (fill(1e30, "running_var"), {"equal_features": 18}),
        (lambda name, value: None, {}),
    ],
)
def test_weights_that_tell_nothing_stand_beside_the_number(pets, tmp_path, change, expected, capsys):
    rows = api.evaluate(weights(tmp_path, change), pets, task=["centroid", "linear"], out=tmp_path / "out")
    assert [row.warnings for row in rows] == [expected] * len(rows)
    assert records.read(tmp_path / "out" / "results.jsonl") == rows
    assert ("are one number throughout" in capsys.readouterr().err) == ("constant_weights" in expected)
    api.evaluate(weights(tmp_path, change), pets, task="retrieval", out=tmp_path / "out")  # features from the cache
    assert records.read(tmp_path / "out" / "results.jsonl")[-1].warnings == expected


@pytest.mark.parametrize(
    "change", [fill(float("nan")), fill(float("inf"), "running_var"), fill(float("-inf"), "layer1.0.conv1.weight")]
)
@pytest.mark.parametrize("use", ["evaluate", "features", "pretrain", "export"])
def test_nan_and_infinity_in_weights_are_an_error(pets, tmp_path, change, use):
    encoder, out = weights(tmp_path, change), tmp_path / "out"
    training = config.Training(init=encoder, encoder="test_resnet", epochs=1, batch_size=12)
    acts = {
        "evaluate": lambda: api.evaluate(encoder, pets, task="centroid", out=out),
        "features": lambda: api.features(encoder, pets, out=tmp_path / "f.npz"),
        "pretrain": lambda: api.pretrain(pets, out, training=training, progress=False),
        "export": lambda: _saved(tmp_path, change),
    }
    with pytest.raises(SlmlpError, match=r"NaN or infinity in \d+ of \d+ tensors \(.*earlier checkpoint"):
        acts[use]()
    assert not out.exists()


def _saved(tmp_path, change):
    from slmlp.encoders import build

    encoder = build("test_resnet", 32, "standard")
    for name, value in encoder.backbone.state_dict().items():
        change(name, value)
    encoder.save(tmp_path / "encoder.safetensors")
    api.export(tmp_path / "encoder.safetensors", "safetensors", tmp_path / "e.safetensors")


@pytest.mark.parametrize("task", ["linear", "knn", "centroid", "retrieval"])
def test_files_of_features_that_tell_nothing(tmp_path, task):
    y, parts = np.arange(48) % 2, np.where(np.arange(48) % 4 < 3, "train", "test")
    np.savez(tmp_path / "equal.npz", x=np.ones((48, 3), np.float32), y=y, parts=parts)
    rows = api.evaluate(tmp_path / "equal.npz", task=task, out=tmp_path / "out")
    assert {row.warnings["equal_features"] for row in rows} == {48}
    x = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    x[7, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=x, y=y, parts=parts)
    with pytest.raises(SlmlpError, match="NaN or infinite"):
        api.evaluate(tmp_path / "nan.npz", task=task, out=tmp_path / "nan")
