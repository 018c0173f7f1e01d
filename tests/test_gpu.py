"""What only a GPU can show, by ``make gpu``: synchronisations, numbers beside the CPU's, each setting in a run."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

import tiny
from slmlp import api, config, data
from slmlp.data import augment
from slmlp.data.cache import ImageCache
from slmlp.runtime import device
from slmlp.runtime.device import Compute
from slmlp.train import optim
from slmlp.train.average import Average
from slmlp.train.batches import Batches, Plan
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings
from test_train import SMALL

GPU = "cuda"
N = 24
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def image_cache(shapes):
    images = data.load(str(shapes)).of_part("train")
    return ImageCache(images, config.DataOptions(), None, 20, progress=False)


def begun(image_cache, name, place, precision="float32", **settings):
    """Return the steps of a run from images that the device holds, its readings, and its state."""
    cfg = config.Training(**{"batch_size": N, "epochs": 9, "base_lr": 0.01, **settings})
    method, compute = tiny.method(name, images=144, batch=N), Compute(torch.device(place), precision, True)
    device.place(method, compute)
    views = augment.views("moco-v2", 16, method.num_views)
    plan = Plan.of_epochs(image_cache.images.labels % tiny.C, N, cfg.epochs, 0)
    batches = Batches(image_cache, image_cache.rows(image_cache.images), plan, views, device=compute.device)
    average = Average(method, cfg.ema) if cfg.ema else None
    state = State(method, optim.build(method, cfg), average=average, scaler=compute.scaler())
    schedule = optim.schedule(cfg, plan, 0)
    return train(state, batches, schedule, compute, 0), Readings(state, schedule, 10**6), state


TRAINING = [
    ("float32", {"optimizer": "lars", "clip_norm": 1.0}),
    ("bfloat16", {"optimizer": "adamw", "ema": 0.9, "clip_norm": 1.0}),
    ("float16", {"optimizer": "sgd", "ema": 0.9}),
    ("float16", {"optimizer": "adamw", "clip_norm": 1.0}),
]


@pytest.mark.parametrize(("precision", "settings"), TRAINING)
@pytest.mark.parametrize("name", config.METHODS)
def test_cuda_itself_sees_no_synchronisation_between_two_readings(name, precision, settings, image_cache):
    steps, readings, _ = begun(image_cache, name, GPU, precision, **settings)
    for _ in range(3):  # the images are copied, and workspaces are made
        readings.add(next(steps))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            readings.add(next(steps))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(row["loss"]) for row in readings.rest())


@pytest.mark.parametrize("name", config.METHODS)
def test_losses_are_those_of_the_cpu(name, image_cache, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = []
    for place in (GPU, "cpu"):
        steps, readings, _ = begun(image_cache, name, place)
        for _ in range(4):
            readings.add(next(steps))
        found.append([row["loss"] for row in readings.rest()])
    assert found[0] == pytest.approx(found[1], rel=2e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers_are_fused(optimizer, image_cache):
    _, _, state = begun(image_cache, "sl", GPU, optimizer=optimizer)
    assert all(group["fused"] for group in state.optimizer.param_groups)


RUNS = {
    "float16": {"precision": "float16"},
    "float16 with lars": {"precision": "float16", "optimizer": "lars", "base_lr": 2.0},
    "bfloat16": {"precision": "bfloat16", "channels_last": True},
    "compiled": {"compile": True, "frozen_epochs": 1},
    "parts": {"accumulate": 2, "clip_norm": 1.0},
    "a vit": {
        "encoder": "test_vit", "optimizer": "adamw", "base_lr": 0.01, "layer_decay": 0.8, "ema": 0.9,
        "activation_checkpointing": True, "drop_path": 0.1, "precision": "bfloat16",
    },
    "randaugment": {"augment": "randaugment"}, "trivialaugment": {"augment": "trivialaugment"},
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_learns_there_and_goes_on(kind, shapes, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def breaking(state, *rest):
        for row in train(state, *rest):
            yield row
            if state.step == 9:
                raise Stopped

    settings = {"epochs": 3, "checkpoint_minutes": 0, "device": GPU, "batch_size": N, **RUNS[kind]}
    words = {"training": dataclasses.replace(SMALL, **settings), "method": "sl-mlp", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr("slmlp.train.record.train", breaking)
        with pytest.raises(Stopped):
            api.pretrain(str(shapes), tmp_path / "run", **words)
    run = api.pretrain(str(shapes), tmp_path / "run", **words)
    assert run.config["resolved"]["device"].startswith(GPU)
    losses = [json.loads(line)["loss"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert run.encoder().dim
