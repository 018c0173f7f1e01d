"""Every method as a run: stopped and resumed bit for bit, exported as trained, flat in memory, collapse told."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from slmlp import api, config, data
from slmlp.data import augment
from slmlp.data.cache import ImageCache
from slmlp.runtime import device
from slmlp.train import collapse, optim, record
from slmlp.train.batches import Batches, Plan
from slmlp.train.collapse import CollapseMonitor, spread
from slmlp.train.loop import State, train

pytestmark = pytest.mark.slow

RUN = config.Training(
    encoder="resnet10", image_size=16, batch_size=12, epochs=3, base_lr=0.4, augment="crop", local_size=8,
    checkpoint_minutes=0, threads=1,
)  # fmt: skip
FEW = config.DataOptions(images_per_class=6)  # 36 images, 3 steps per epoch
# what moves is made small enough to come round, and to begin, within nine steps
CASES = {
    "sl": {"label_smoothing": 0.1, "mixup": 0.4, "cutmix": 1.0},
    "sl-mlp": {"cosine": True, "variance": 0.16, "covariance": 0.01},
    "supcon": {"form": "in"},
    "simclr": {},
    "moco-v1": {"queue_size": 36, "ema_momentum": 0.9},
    "moco-v2": {"queue_size": 24, "ema_momentum": 0.9, "bn_groups": 3},
    "byol": {"ema_momentum": 0.9},
    "swav": {"prototypes": 16, "queue_size": 24, "queue_start": 0.4, "freeze_epochs": 1.0},
    "t-rex-star": {},
    "t-rex": {"memory_size": 31, "ema_momentum": 0.9},
}
CROPS = ("sl", "supcon", "swav", "t-rex-star", "t-rex")


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", config.METHODS)
def test_stopped_and_resumed_equals_straight_and_the_encoder_is_the_trained_one(name, shapes, tmp_path, monkeypatch):
    trained: list[State] = []

    def watched(state, *rest):
        trained.append(state)
        yield from train(state, *rest)

    monkeypatch.setattr(record, "train", watched)
    training = dataclasses.replace(RUN, local_crops=2 if name in CROPS else 0)
    words = {"method": name, "settings": CASES.get(name, {}), "training": training, "options": FEW, "progress": False}
    straight = api.pretrain(str(shapes), tmp_path / "straight", **words)

    rate = optim.lr_at

    def stop(step, *rest):
        if step == 5:
            raise Stopped
        return rate(step, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(optim, "lr_at", stop)
        with pytest.raises(Stopped):
            api.pretrain(str(shapes), tmp_path / "stopped", **words)
    assert sorted(p.name for p in (tmp_path / "stopped" / "checkpoints").iterdir()) == [
        "step-000000004.ckpt",
        "step-000000005.ckpt",
    ]
    resumed = api.resume(tmp_path / "stopped", progress=False)
    assert [row["loss"] for row in resumed.metrics()] == [row["loss"] for row in straight.metrics()]
    first, last = trained[0].model.state_dict(), trained[-1].model.state_dict()
    assert len(trained) == 3
    assert [k for k in first if not torch.equal(first[k], last[k])] == []  # targets, queues and clocks too

    files = [load_file(run.path / "encoder.safetensors") for run in (straight, resumed)]
    own = trained[0].model.encoder.weights()
    for held in files:
        assert held.keys() == own.keys()
        assert all(torch.equal(held[k], own[k]) for k in own)
    pixels = torch.randint(256, (5, 16, 16, 3), dtype=torch.uint8)
    ours, loaded = trained[0].model.encoder.features(pixels), straight.encoder().features(pixels)
    torch.testing.assert_close(torch.from_numpy(loaded), torch.from_numpy(ours))
    if hasattr(trained[0].model, "target"):  # what is exported is what was trained, not its average
        average = trained[0].model.target[0].weights()
        assert not torch.equal(average["conv1.weight"], own["conv1.weight"])


# --- memory ---

MOST = 4.0  # MB; one leaked graph a step makes above 12, whatever the method (tested on the smallest)


def resident():
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # else a leak may hide in what earlier tests freed
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture(scope="module")
def image_cache(shapes):
    images = data.load(str(shapes)).of_part("train")
    return ImageCache(images, config.DataOptions(), None, 20, progress=False)


def growth(image_cache, name, leak=None):
    """Return by how many MB memory grows over 200 steps of the loop, after 60."""
    cfg = config.Training(batch_size=24, epochs=44, base_lr=0.05, augment="weak", precision="float32")
    method = tiny.method(name, images=144, batch=24)
    if leak is not None:
        leak(method)
    views = augment.views("weak", 16, method.num_views, 2 if method.cfg.multi_crop else 0)
    plan = Plan.of_epochs(image_cache.images.labels % tiny.C, 24, cfg.epochs, 0)
    batches = Batches(image_cache, image_cache.rows(image_cache.images), plan, views)
    compute = device.Compute(torch.device("cpu"), precision="float32", channels_last=True)
    device.place(method, compute)
    rows = train(State(method, optim.build(method, cfg)), batches, optim.schedule(cfg, plan, 0), compute, workers=0)
    for _ in range(60):
        next(rows)
    before = resident()
    for _ in range(200):
        next(rows)
    return resident() - before


needs_statm = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc/self/statm")


@needs_statm
@pytest.mark.parametrize("name", config.METHODS)
def test_memory_is_flat_over_200_steps(name, image_cache):
    assert growth(image_cache, name) < MOST


@needs_statm
def test_a_leak_of_one_graph_a_step_would_be_seen(image_cache):
    kept = []

    def leak(method):
        encoder = method.encoder.backbone
        encoder.conv.register_forward_hook(lambda module, given, made: kept.append(made.relu()))

    assert growth(image_cache, "sl", leak) > 3 * MOST


# --- collapse ---


def test_spread_is_one_for_uniform_directions_and_zero_for_a_point():
    wide = spread(torch.randn(4000, 32, generator=torch.Generator().manual_seed(0)))
    assert wide["embedding_std"] == pytest.approx(1, abs=0.02)
    assert wide["effective_rank"] == pytest.approx(32, rel=0.02)
    point = spread(torch.ones(50, 32) * torch.arange(1, 51).unsqueeze(1))  # one direction, many lengths
    assert point["embedding_std"] == pytest.approx(0, abs=1e-6)
    line = torch.zeros(50, 32)
    line[:, 3] = torch.tensor([1.0, -1.0]).repeat(25)
    assert spread(line)["effective_rank"] == pytest.approx(1)
    assert spread(torch.zeros(50, 32)) == {"embedding_std": 0.0, "effective_rank": 0.0}
    assert math.isfinite(spread(torch.randn(6, 4).bfloat16())["embedding_std"])


BAD, LINE = {"embedding_std": 0.01, "effective_rank": 9.0}, {"embedding_std": 0.9, "effective_rank": 1.1}
GOOD, BETWEEN = {"embedding_std": 0.9, "effective_rank": 9.0}, {}


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([BAD] * 5, 3),
        ([LINE] * 5, 3),
        ([BAD, LINE, BAD], 3),
        ([BAD, BAD, GOOD, BAD, BAD], None),
        ([BAD, BAD, GOOD, BAD, BAD, BAD, BAD], 6),
        ([BAD, BETWEEN, BAD, BETWEEN, BETWEEN, BAD], 6),
        ([GOOD] * 6, None),
        ([BAD] * 3 + [GOOD] + [BAD] * 6, 3),  # once a run
    ],
)
def test_collapse_is_told_once_after_three_looks_in_a_row(looks, told):
    monitor = CollapseMonitor()
    said = [monitor.update({"step": 50 * (i + 1), **row}) for i, row in enumerate(looks)]
    assert (collapse.EVERY, collapse.PATIENCE) == (50, 3)
    assert [i + 1 for i, words in enumerate(said) if words] == ([told] if told else [])
    if told:
        assert f"collapsed by step {50 * told}" in said[told - 1]


def test_a_run_that_collapses_says_so_and_one_that_does_not_is_silent(shapes, tmp_path, capsys, monkeypatch):
    """BYOL that predicts itself (no predictor, no average) ends in one point."""
    monkeypatch.setattr(collapse, "EVERY", 20)
    small = dataclasses.replace(
        RUN, image_size=8, epochs=7, base_lr=5.0, augment="byol", checkpoint_minutes=9, warmup_epochs=0
    )  # 84 steps
    alone = {
        "projector": config.Projector(depth=1, out=16, norm="none"),
        "predictor": config.Projector(),
        "ema_momentum": 0.0,
    }
    run = api.pretrain(str(shapes), tmp_path / "run", method="byol", settings=alone, training=small, progress=False)
    said = capsys.readouterr().err
    assert said.count("warning: run: the embeddings have collapsed by step") == 1
    assert "BYOL without predictor" in said
    looks = [row for row in run.metrics() if "embedding_std" in row]
    assert [row["step"] for row in looks] == [20, 40, 60, 80]
    assert max(row["embedding_std"] for row in looks[1:]) < 0.03
    small = dataclasses.replace(small, base_lr=0.5)
    run = api.pretrain(str(shapes), tmp_path / "sound", method="byol", training=small, progress=False)
    assert "collapsed" not in capsys.readouterr().err
    assert min(row["embedding_std"] for row in run.metrics() if "embedding_std" in row) > 0.3
