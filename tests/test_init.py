"""Training that starts from weights: their preprocessing, size and stem are kept, in training, saving and exports."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from slmlp import api, cli
from slmlp.config import PreprocessFlags, Training
from slmlp.data.augment import views
from slmlp.data.augment.draws import Draws
from slmlp.encoders import Encoder
from slmlp.encoders.initial import initial_encoder
from slmlp.encoders.sources import open_encoder
from slmlp.report import study_table
from slmlp.report.inputs import read
from slmlp.results import records
from slmlp.runtime import json_files, seeds
from slmlp.runtime.errors import SlmlpError

NAMES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"]


def weights_of(name, folder):
    """Write drawn weights of one of timm's tiny networks; return what --init takes."""
    with seeds.seeded(1, "theirs"):
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pt")
    return f"timm:{name}@{folder / name}.pt"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [None, 48, 64])
def test_the_start_is_the_encoder_that_evaluate_opens(tmp_path, name, size):
    init = weights_of(name, tmp_path)
    start = initial_encoder(name, init, size, "auto", 0).eval()
    other = open_encoder(init, overrides=PreprocessFlags(size=size))
    assert start.hash() == other.hash()
    assert start.preprocess == other.preprocess
    assert start.spec.stem == "standard"  # also at 64 pixels and less, where random weights get the small one
    start.save(tmp_path / "encoder.safetensors")
    loaded = Encoder.load(tmp_path / "encoder.safetensors")
    assert (loaded.hash(), loaded.preprocess) == (start.hash(), start.preprocess)


def test_what_does_not_go_together_is_one_line(tmp_path):
    init = weights_of("test_resnet", tmp_path)
    for name, given, stem, words in (
        ("test_resnet", init, "small", "--stem small"),
        ("resnet18", init, "auto", "--encoder is resnet18"),
        ("test_resnet", f"torchvision:resnet18@{tmp_path}/test_resnet.pt", "auto", "timm:NAME@FILE"),
    ):
        with pytest.raises(SlmlpError, match=words) as caught:
            initial_encoder(name, given, 32, stem, 0)
        assert "\n" not in str(caught.value)


def test_views_are_normalised_by_the_weights_own_numbers():
    pixels = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    channels = ((0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    (view,) = views("none", 8, channels=channels)
    by_hand = (pixels.numpy() / 255 - np.array(channels[0])) / np.array(channels[1])
    np.testing.assert_allclose(
        view(pixels, Draws(torch.Generator(), 1)).numpy(), by_hand.transpose(0, 3, 1, 2), atol=1e-5
    )


def statistics(encoder):
    return {name: value for name, value in encoder.state_dict().items() if "running" in name or "tracked" in name}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sl-mlp", "byol", "moco-v2"])
def test_frozen_statistics_are_those_of_the_weights_and_all_else_is_trained(method, shapes, tmp_path):
    init = weights_of("test_resnet", tmp_path)
    start = initial_encoder("test_resnet", init, 32, "auto", 0)
    training = Training(
        encoder="test_resnet", init=init, image_size=32, epochs=2, batch_size=48, augment="none", precision="float32",
        base_lr=0.1, frozen_epochs=0.5, norm="frozen", threads=1,
    )  # fmt: skip
    run = api.pretrain(str(shapes), tmp_path / "run", method=method, training=training, progress=False)
    before, after = start.state_dict(), run.encoder().state_dict()
    assert len(statistics(start)) > 10
    for name in statistics(start):
        assert torch.equal(before[name], after[name]), name
    trained = [name for name in before if name not in statistics(start)]
    assert sum(not torch.equal(before[name], after[name]) for name in trained) > 0.8 * len(trained)
    free = dataclasses.replace(training, norm="batch")
    other = api.pretrain(str(shapes), tmp_path / "free", method=method, training=free, progress=False).encoder()
    assert not any(torch.equal(before[n], v) for n, v in statistics(other).items() if n.endswith("running_var"))


def test_what_has_no_statistics_to_keep_is_refused(shapes, tmp_path):
    with pytest.raises(SlmlpError, match="--init"):
        Training(norm="frozen")
    vit = Training(
        encoder="test_vit", init=weights_of("test_vit", tmp_path), image_size=32, epochs=1, batch_size=48, norm="frozen"
    )
    with pytest.raises(SlmlpError, match="no BatchNorm"):
        api.pretrain(str(shapes), tmp_path / "run", training=vit, progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_and_statistics_of_two_files_are_put_together(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "batchnorm_statistics.py"
    one, other = (timm.create_model("test_resnet").state_dict() for _ in range(2))
    for value in other.values():
        value.add_(1)
    save_file(one, tmp_path / "one.safetensors")
    save_file(other, tmp_path / "other.safetensors")
    words = [
        tmp_path / "one.safetensors",
        "--of",
        tmp_path / "other.safetensors",
        "--out",
        tmp_path / "out.safetensors",
    ]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True)
    largest = max(float(torch.dist(one[n], other[n]) / one[n].norm()) for n in one if one[n].dim() > 1)
    assert float(done.stdout.splitlines()[0].rpartition(" ")[2]) == pytest.approx(largest, rel=1e-3)
    made = load_file(tmp_path / "out.safetensors")
    assert made.keys() == one.keys()
    for name, value in made.items():
        assert torch.equal(value, (other if "running" in name or "tracked" in name else one)[name]), name


@pytest.mark.slow
def test_a_study_says_whether_continuing_helped_unseen_classes(shapes, tmp_path):
    init, out = weights_of("test_resnet", tmp_path), tmp_path / "study"
    words = f"study {shapes} --init {init} --image-size 32 --batch-size 24 --epochs 2 --augment weak"
    words += " --save-every 0 --seeds 2 --rates 0.05 --split.by random --split.unseen-fraction 0.5"
    words += " --probe.folds 3 --probe.l2 1e-2 --parallel 1"
    assert cli.main([*words.split(), "--out", str(out)]) == 0
    rows = [r for r in records.read(out / "results.jsonl") if (r.task, r.metric) == ("unseen", "accuracy")]
    assert rows[0].method == "starting-encoder"  # before any training
    mean = np.mean([r.value for r in rows if r.role == "final" and r.method == "sl"])
    written = json_files.read(out / "verdict.json", dict)
    for sentence, name in zip(written["sentences"], ("SL", "SL-MLP"), strict=False):
        assert sentence.startswith(f"continuing the weights with {name} ")
        assert "95 % CI" in sentence
    (points,) = (float(n) for n in re.findall(r": ([+-][0-9.]+) points", written["sentences"][0])[:1])
    assert abs(abs(points) - abs(100 * (mean - rows[0].value))) < 0.06
    table = study_table.grid(read(out))
    assert table.rows[0].label == "starting encoder"


@pytest.mark.slow
def test_a_run_keeps_the_preprocessing_and_exports(shapes, tmp_path):
    init = weights_of("test_resnet", tmp_path)
    training = Training(
        encoder="test_resnet", init=init, image_size=32, epochs=1, batch_size=48, augment="none", precision="float32",
        base_lr=1e-6,
    )  # fmt: skip
    run = api.pretrain(str(shapes), tmp_path / "run", training=training, progress=False)
    start = initial_encoder("test_resnet", init, 32, "auto", 0)
    resolved = run.config["resolved"]
    assert (resolved["preprocess"], resolved["stem"]) == (start.preprocess.id, "standard")
    assert "mean 0.5 0.5 0.5" in resolved["start"]
    assert resolved["initial_encoder_hash"] == start.hash()
    assert run.encoder().preprocess == start.preprocess
    assert start.preprocess.mean == (0.5, 0.5, 0.5)
    # continued again, as a file of timm's and as a run
    api.export(str(run.path), "timm", tmp_path / "out.safetensors")
    again = open_encoder(f"timm:test_resnet@{tmp_path / 'out.safetensors'}")
    assert again.hash() == run.encoder().hash()
    assert again.preprocess == start.preprocess
    nearer = dataclasses.replace(training, init=str(run.path), image_size=None, base_lr=1e-6)
    second = api.pretrain(str(shapes), tmp_path / "second", training=nearer, progress=False)
    assert second.encoder().preprocess == start.preprocess
    with pytest.raises(SlmlpError, match="--stem small"):
        initial_encoder("test_resnet", str(run.path), None, "small", 0)
