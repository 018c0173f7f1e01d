"""Training: order and rates as stated, runs that resume bit for bit, bad input told in one line."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from slmlp import api, config
from slmlp.encoders import Encoder
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import checkpoint, optim
from slmlp.train.batches import Batches, Plan
from slmlp.train.run import Run

SMALL = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=3, base_lr=0.2, augment="crop", threads=1
)


def replace(**changes):
    return dataclasses.replace(SMALL, **changes)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "encoder.safetensors")


def same(a: Run, b: Run) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def straight(shapes, tmp_path_factory):
    return api.pretrain(str(shapes), tmp_path_factory.mktemp("runs") / "straight", training=SMALL, progress=False)


def test_a_run_leaves_what_it_promises(straight):
    config_ = straight.config
    assert config_["resolved"]["peak_lr"] == 0.2 * 24 / 256
    assert config_["resolved"]["classes"] == 6
    assert config_["resolved"]["training_images"] == 144
    assert config_["resolved"]["stem"] == "small"
    assert straight.finished
    rows = straight.metrics()
    assert rows[-1]["step"] == 18
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert max(row["lr"] for row in rows) == pytest.approx(config_["resolved"]["peak_lr"])
    assert not any("projector" in key or "classifier" in key for key in weights(straight))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(straight, shapes, tmp_path):
    assert same(straight, api.pretrain(str(shapes), tmp_path / "again", training=SMALL, progress=False))
    other = api.pretrain(str(shapes), tmp_path / "other", training=SMALL, seed=1, progress=False)
    assert not same(straight, other)


def test_methods_of_one_seed_start_from_one_encoder(straight, shapes, tmp_path):
    sl = api.pretrain(str(shapes), tmp_path / "sl", method="sl", training=replace(epochs=1), progress=False)
    assert sl.config["resolved"]["initial_encoder_hash"] == straight.config["resolved"]["initial_encoder_hash"]


SLOWED = """
import sys, time
from slmlp import api, config, train
import slmlp.train.optim
original = train.optim.lr_at
def slow(step, *rest):
    if step >= int(sys.argv[3]):
        print("at", step, flush=True)
        time.sleep(float(sys.argv[4]))
    return original(step, *rest)
train.optim.lr_at = slow
cfg = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=3, base_lr=0.2, augment="crop", threads=1,
    checkpoint_minutes=float(sys.argv[5]),
)
try:
    api.pretrain(sys.argv[1], sys.argv[2], training=cfg, progress=False)
except KeyboardInterrupt:
    sys.exit(130)
"""


def slowed(shapes, out, step, seconds, checkpoint_minutes):
    """A run in a process of its own that says when it is at a step, and sleeps there."""
    words = [sys.executable, "-c", SLOWED, shapes, out, step, seconds, checkpoint_minutes]
    process = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == f"at {step}"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 6, 8, 17])
def test_killed_at_any_step_it_resumes_to_the_same_weights(straight, shapes, tmp_path, step):
    out = tmp_path / "killed"
    process = slowed(shapes, out, step, 60, 0)
    process.kill()
    process.communicate()
    assert not Run(out).finished
    run = api.pretrain(str(shapes), out, training=SMALL, progress=False)  # the same request goes on
    assert same(straight, run)
    assert [row["step"] for row in run.metrics()] == [row["step"] for row in straight.metrics()]
    assert [row["loss"] for row in run.metrics()] == [row["loss"] for row in straight.metrics()]


@pytest.mark.slow
def test_ctrl_c_saves_the_step_and_resumes(straight, shapes, tmp_path):
    out = tmp_path / "stopped"
    process = slowed(shapes, out, 4, 1, 99)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "saved after step 5 of 18" in said
    assert same(straight, api.resume(out, progress=False))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"x": torch.full((2,), float(step))})
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["step-000000002.ckpt", "step-000000003.ckpt"]
    newest = tmp_path / found[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    state, warnings = checkpoint.load_last(tmp_path)
    assert state["step"] == 2
    assert "damaged" in warnings[0]
    (tmp_path / found[0]).write_bytes(b"")
    with pytest.raises(SlmlpError, match="can be read"):
        checkpoint.load_last(tmp_path)


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    code = f"""
import resource, torch
from pathlib import Path
from slmlp.train import checkpoint
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
folder = Path({str(tmp_path)!r})
checkpoint.save(folder, 1, {{"x": torch.zeros(10)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))  # every larger write fails, as on a full disk
try:
    checkpoint.save(folder, 2, {{"x": torch.zeros(100000)}})
except SlmlpError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot write" in said
    assert "step-000000002" in said
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001.ckpt"]
    assert checkpoint.load_last(tmp_path)[0]["step"] == 1


def test_pickles_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    checkpoint.save(tmp_path, 1, {"x": Evil()})
    with pytest.raises(SlmlpError):
        checkpoint.load_last(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_another_run_is_never_overwritten(straight, shapes, tmp_path):
    with pytest.raises(SlmlpError, match="holds another run"):
        api.pretrain(str(shapes), straight.path, training=replace(base_lr=0.3), progress=False)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SlmlpError, match="not empty"):
        api.pretrain(str(shapes), tmp_path, training=SMALL, progress=False)


def test_divergence_is_named_with_step_and_advice(shapes, tmp_path):
    with pytest.raises(SlmlpError, match=r"(diverged|guessing).*--base-lr"):
        api.pretrain(str(shapes), tmp_path / "run", training=replace(base_lr=1e9, precision="float32"), progress=False)


@pytest.mark.slow
def test_training_that_stays_at_chance_is_stopped(shapes, tmp_path):
    dead = replace(base_lr=1e-12, batch_size=2, epochs=6, warmup_epochs=0.1, image_size=8)
    with pytest.raises(SlmlpError, match=r"guessing \(1.792\)"):
        api.pretrain(str(shapes), tmp_path / "run", training=dead, progress=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 500}, "--batch-size 500 is more than the 144"),
        ({"encoder": "resnet_50"}, "did you mean 'resnet50'"),
        ({"augment": "strong"}, "unknown augmentation"),
        ({"device": "cuda:7"}, "--device cuda:7"),
        ({"init": "no/such/run"}, "no encoder at"),
        ({"encoder": "vit_tiny_patch16_224", "image_size": 8, "stem": "standard"}, "image-size"),
    ],
)
def test_what_cannot_work_is_one_line(shapes, tmp_path, changes, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        api.pretrain(str(shapes), tmp_path / "run", training=replace(**changes), progress=False)
    assert "\n" not in str(caught.value)


def test_init_from_a_run_is_that_run(straight, shapes, tmp_path):
    started = api.pretrain(
        str(shapes), tmp_path / "next", training=replace(init=str(straight.path), epochs=1), progress=False
    )
    assert started.config["resolved"]["initial_encoder_hash"] == straight.encoder().hash()
    with pytest.raises(SlmlpError, match="nothing was loaded"):
        api.pretrain(
            str(shapes),
            tmp_path / "wide",
            training=replace(init=str(straight.path), encoder="resnet18"),
            progress=False,
        )


def test_features_do_not_depend_on_batching_and_a_loaded_encoder_is_the_trained_one(straight, shapes):
    encoder = Encoder.load(straight.path)
    paths = sorted((shapes / "test" / "ring").glob("*.png"))
    x = encoder.transform(paths)
    assert x.shape == (10, 256)
    assert x.dtype == np.float32
    np.testing.assert_allclose(encoder.transform(paths, batch_size=3), x, atol=1e-5)
    assert encoder.hash() == straight.encoder().hash()


def test_streamed_images_give_the_same_batches_as_cached_squares_where_squares_are_used(shapes, tmp_path):
    from slmlp import data
    from slmlp.data.augment import Augment
    from slmlp.data.cache import ImageCache

    images = data.load(str(shapes))
    kept = ImageCache(images, config.DataOptions(), None, 20, progress=False)
    streamed = ImageCache(images, config.DataOptions(stream_above_gb=0.0), None, 20, progress=False)
    assert streamed.streamed
    assert not kept.streamed
    plan = Plan.of_epochs(images.labels, 16, 2, 0)
    batches = [Batches(c, c.rows(images), plan, [Augment("weak", 16)] * 2) for c in (kept, streamed)]
    cpu = Compute(torch.device("cpu"), precision="float32", channels_last=False)
    assert torch.equal(*(b.inputs(b[5], cpu)[0][1] for b in batches))
    ahead = list(batches[1].iterate(22, workers=2))  # in other processes, from the middle
    assert len(ahead) == len(batches[1]) - 22
    for offset, batch in enumerate(ahead):
        assert batch.choices is None  # worker processes make whole views where a CPU trains
        views, labels = batches[1].inputs(batch, cpu)
        expected, expected_labels = batches[1].inputs(batches[1][22 + offset], cpu)
        assert torch.equal(views[0], expected[0])
        assert torch.equal(labels, expected_labels)
    crops = Batches(streamed, streamed.rows(images), plan, [Augment("crop", 16)])
    assert crops.inputs(crops[0], cpu)[0][0].shape == (16, 3, 16, 16)


def test_an_epoch_holds_each_image_once_and_balance_holds_each_class_equally():
    labels = np.repeat([0, 1, 2], [50, 10, 4])
    plain = Plan.of_epochs(labels, 8, 2, seed=0)
    assert sorted(plain.order(0).tolist()) == list(range(64))
    assert plain.order(0).tolist() != plain.order(1).tolist()
    balanced = Plan.of_epochs(labels, 8, 2, seed=0, balanced=True)
    counts = np.bincount(labels[balanced.order(0)])
    assert counts.max() - counts.min() <= 2
    small = balanced.order(0)[labels[balanced.order(0)] == 2]
    assert np.bincount(small - 60).max() - np.bincount(small - 60).min() <= 1


def test_rates_follow_warmup_and_cosine():
    cfg = config.Training(epochs=10, batch_size=256, warmup_epochs=5, base_lr=2.0)
    assert optim.warmup_steps(100, 10, cfg) == 10  # at most a tenth
    rates = [optim.lr_at(s, 100, 10, cfg) for s in range(100)]
    assert rates[9] == 2.0
    assert rates[0] == 0.2
    assert rates[55] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.01


def test_weight_decay_spares_norms_and_biases_by_default():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    superclasses = optim.parameter_groups(module, config.Training(weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in superclasses] == [(1, 0.1), (3, 0.0)]
    (everything,) = optim.parameter_groups(module, config.Training(weight_decay=0.1, decay_norms_and_biases=True))
    assert (len(everything["params"]), everything["weight_decay"]) == (4, 0.1)


def test_generators_are_apart_and_leave_the_global_state_alone():
    state = torch.random.get_rng_state()
    a = torch.rand(3, generator=seeds.torch_generator(0, "order"))
    assert not torch.equal(a, torch.rand(3, generator=seeds.torch_generator(0, "augment")))
    with seeds.seeded(0, "head"):
        first = torch.rand(2)
    with seeds.seeded(0, "head"):
        assert torch.equal(first, torch.rand(2))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.slow
def test_the_first_progress_line_names_what_runs(shapes, tmp_path):
    words = f"pretrain {shapes} --out {tmp_path / 'run'} --encoder resnet10 --image-size 16 --batch-size 24 --epochs 1"
    command = [sys.executable, "-m", "slmlp", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "peak learning rate" in done.stderr
    assert "images/s" in done.stderr
    assert done.stdout.strip().endswith("encoder.safetensors")


CHANGES = {
    "encoder": "resnet18", "stem": "standard", "epochs": 2, "image_size": 24, "batch_size": 16, "base_lr": 0.3,
    "warmup_epochs": 0.02, "momentum": 0.5, "weight_decay": 0.1, "decay_norms_and_biases": True, "augment": "weak",
    "balanced": True, "local_crops": 2, "head_rate": 3.0, "layer_decay": 0.5, "frozen_epochs": 1, "clip_norm": 0.1,
    "ema": 0.9, "accumulate": 2, "optimizer": "lars", "nesterov": False, "schedule": "step", "final_lr": 0.1,
}  # fmt: skip
# these decide how, not what: tested where they act
ELSEWHERE = {
    "init",
    "local_size",
    "precision",
    "channels_last",
    "save_every",
    "checkpoint_minutes",
    "threads",
    "device",
    "milestones",
    "betas",
    "drop_path",
    "dropout",
    "activation_checkpointing",
    "compile",
    "track",
    "norm",
}


@pytest.mark.slow
def test_every_training_setting_changes_the_weights(shapes, tmp_path):
    assert {f.name for f in dataclasses.fields(config.Training)} == CHANGES.keys() | ELSEWHERE
    base = replace(epochs=4, precision="float32", warmup_epochs=5, weight_decay=0.01)
    before = api.pretrain(str(shapes), tmp_path / "base", training=base, progress=False)
    for name, value in CHANGES.items():
        changed = dataclasses.replace(base, **{name: value})
        run = api.pretrain(str(shapes), tmp_path / name, training=changed, progress=False)
        assert run.encoder().hash() != before.encoder().hash(), name
        assert run.config["identity"]["job"] != before.config["identity"]["job"], name


@pytest.mark.slow
def test_precision_layout_and_kept_epochs_are_obeyed(shapes, tmp_path):
    cfg = replace(epochs=2, save_every=1, precision="bfloat16", channels_last=False)
    run = api.pretrain(str(shapes), tmp_path / "run", training=cfg, progress=False)
    assert (run.config["resolved"]["precision"], run.config["resolved"]["channels_last"]) == ("bfloat16", False)
    assert run.kept_epochs == [1, 2]
    assert run.encoder(2).hash() == run.encoder().hash()
    assert run.encoder(1).hash() != run.encoder().hash()
    single = api.pretrain(
        str(shapes), tmp_path / "single", training=replace(epochs=2, precision="float32"), progress=False
    )
    assert single.config["resolved"]["precision"] == "float32"
    assert single.encoder().hash() != run.encoder().hash()
