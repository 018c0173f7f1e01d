"""Scaled losses, parts of a batch, activations computed again, compiled steps, dropped paths: beside the plain step."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import slmlp
import tiny
from slmlp import cli, config, methods
from slmlp.encoders import Encoder, build
from slmlp.encoders.backbones import NOTHING, Dropped
from slmlp.methods.base import Facts
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import optim
from slmlp.train.batches import Plan, split
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings
from slmlp.train.recompute import recompute
from test_train import SMALL

CPU = torch.device("cpu")
N, CLASSES, SIDE, STEPS = 8, 4, 32, 6
PLAIN = Compute(CPU, "float32", channels_last=False)


class Drawn:
    """Steps of drawn views in float64 or float32, each its own."""

    def __init__(self, views=1, dtype=torch.float32):
        self.plan, self.views, self.dtype = Plan(N, N, STEPS, 0, labels=None), views, dtype

    def iterate(self, start, workers):
        yield from range(start, STEPS)

    def inputs(self, step, compute):
        draws = torch.Generator().manual_seed(step)
        views = [torch.randn(N, 3, SIDE, SIDE, generator=draws).to(self.dtype) for _ in range(self.views)]
        return views, torch.arange(N) % CLASSES


def made(name="sl", encoder="test_vit", dtype=torch.float32, dropped=NOTHING, **settings):
    with seeds.seeded(0, "encoder"):
        network = build(encoder, SIDE, "standard", None, dropped)
    chosen = dataclasses.replace(config.method_config(name), **settings)
    chosen, _ = methods.fit(name, chosen, Facts(100, N, network.dim))
    with seeds.seeded(0, "head"):
        return methods.build(name, network, CLASSES, chosen).to(dtype)


RATES = {"sgd": 0.5, "lars": 5.0, "adamw": 0.02}


def curve(method, scaler=None, dtype=torch.float32, compute=PLAIN, steps=STEPS, optimizer="sgd", **schedule):
    """Return the losses of some steps, and the state that they end in."""
    cfg = config.Training(batch_size=N, epochs=STEPS, optimizer=optimizer, base_lr=RATES[optimizer], warmup_epochs=0)
    batches = Drawn(method.num_views, dtype)
    state = State(method, optim.build(method, cfg), scaler=scaler)
    plan = dataclasses.replace(optim.schedule(cfg, batches.plan, 0), **schedule)
    readings = Readings(state, plan, 100)
    for step in train(state, batches, plan, compute, 0):
        readings.add(step)
        if step.number == steps:
            break
    return [row["loss"] for row in readings.rest()], state


def equal(one, other):
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- float16 ---


def scaler(**settings):
    return torch.amp.GradScaler("cpu", **{"init_scale": 2.0**10, **settings})


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("optimizer", RATES)
def test_a_loss_scaled_by_a_power_of_two_moves_weights_as_before(optimizer, clip_norm):
    """Float32 carries the factor exactly; an optimizer that saw scaled gradients would not agree."""
    losses, plain = curve(made(), optimizer=optimizer, clip_norm=clip_norm)
    again, scaled = curve(made(), scaler(growth_interval=2), optimizer=optimizer, clip_norm=clip_norm)
    assert again == losses
    assert equal(scaled, plain)
    assert scaled.scaler.get_scale() == 2.0 ** (10 + STEPS // 2)


@pytest.mark.parametrize("optimizer", RATES)
def test_a_step_whose_gradient_overflows_moves_nothing_and_halves_the_scale(optimizer):
    method = made()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    _, state = curve(method, scaler(init_scale=2.0**127), steps=1, optimizer=optimizer)
    assert not any(torch.is_tensor(value) for held in state.optimizer.state.values() for value in held.values())
    assert all(torch.equal(p, before[name]) for name, p in method.named_parameters())
    assert state.scaler.get_scale() == 2.0**126


def test_the_scale_is_part_of_a_checkpoint():
    _, straight = curve(made(), scaler(growth_interval=2))
    _, state = curve(made(), scaler(growth_interval=2), steps=3)
    saved = {"step": state.step, **state.state_dict()}
    again = State(made(), None, scaler=scaler(growth_interval=2))
    cfg = config.Training(batch_size=N, epochs=STEPS, base_lr=0.5, warmup_epochs=0)
    again.optimizer = optim.build(again.model, cfg)
    again.load_state_dict(saved)
    assert again.scaler.state_dict() == state.scaler.state_dict()
    for _ in train(again, Drawn(), optim.schedule(cfg, Drawn().plan, 0), PLAIN, 0):
        pass
    assert equal(again, straight)
    assert again.scaler.get_scale() == straight.scaler.get_scale()


def test_half_precision_is_a_scaled_loss_under_autocast():
    compute = Compute(CPU, "float16", channels_last=False)
    assert compute.scaler().is_enabled()
    assert Compute(CPU, "bfloat16", channels_last=False).scaler() is None
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16
    losses, _ = curve(made(), scaler(), compute=compute)
    plain, _ = curve(made())
    assert losses == pytest.approx(plain, rel=0.02)
    assert losses != plain


# --- parts of a batch ---

MEAN = {"sl": {}, "sl-mlp": {"cosine": True}, "byol": {}, "t-rex-star": {}}


def without_batchnorm(name):
    cfg = config.method_config(name)
    parts = {"projector": dataclasses.replace(cfg.projector, norm="none")}
    if name == "byol":
        parts["predictor"] = dataclasses.replace(cfg.predictor, norm="none")
    return parts


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("name", MEAN)
def test_parts_add_up_to_the_batch(name, parts):
    """In float64, where only the order of sums differs; networks without BatchNorm, which sees a part at a time."""
    settings = without_batchnorm(name) | MEAN[name]
    whole, whole_state = curve(made(name, dtype=torch.float64, **settings), dtype=torch.float64)
    added, state = curve(made(name, dtype=torch.float64, **settings), dtype=torch.float64, accumulate=parts)
    assert added == pytest.approx(whole, rel=1e-9)
    for one, other in zip(state.model.parameters(), whole_state.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_what_is_read_of_parts_is_of_the_batch():
    method = made(dtype=torch.float64)
    cfg = config.Training(batch_size=N, epochs=STEPS, base_lr=0.5)
    schedule = dataclasses.replace(optim.schedule(cfg, Drawn().plan, 0), accumulate=4)
    views, labels = Drawn(1, torch.float64).inputs(0, None)
    expected = method(views, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slmlp.train.collapse.EVERY", 1)
        step = next(train(State(method, optim.build(method, cfg)), Drawn(1, torch.float64), schedule,
                          PLAIN, 0))  # fmt: skip
    assert float(step.values["accuracy"]) == pytest.approx(float(expected["accuracy"]))
    torch.testing.assert_close(step.embeddings, expected["embeddings"])


def test_inputs_are_split_in_order():
    views, labels = [torch.arange(6), torch.arange(6, 12)], torch.arange(6)
    parts = split((views, labels), 3)
    assert [[v.tolist() for v in part[0]] for part in parts] == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert [part[1].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


def test_only_losses_that_are_means_take_parts():
    for name in ("supcon", "simclr", "moco-v1", "moco-v2", "swav", "t-rex"):
        assert config.method_config(name).whole_batch
    for name in ("sl", "sl-mlp", "byol", "t-rex-star"):
        assert not config.method_config(name).whole_batch
    with pytest.raises(SlmlpError, match="--accumulate 2 with sl: VCReg"):
        config.check_parts("sl", config.SL(variance=0.1), 2)
    config.check_parts("simclr", config.SimCLR(), 1)


# --- activations computed again ---


@pytest.mark.parametrize("encoder", ["test_vit", "resnet18", "test_convnext"])
def test_activations_computed_again_change_nothing(encoder):
    """Dropped paths draw the same numbers again, and a BatchNorm follows a batch once."""
    kept, state = curve(made("sl-mlp", encoder, dropped=Dropped(0.2, 0.1)))
    method = made("sl-mlp", encoder, dropped=Dropped(0.2, 0.1))
    recompute(method.encoder)
    passes = []
    block = [m for m in method.encoder.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))][-2]
    block.register_forward_hook(lambda *_: passes.append(1))
    again, other = curve(method, recomputes=True)
    assert again == kept
    assert equal(state, other)
    assert len(passes) > STEPS  # it was computed again


# --- compiled steps ---


@pytest.mark.parametrize("name", ["sl", "sl-mlp"])
@pytest.mark.parametrize("encoder", ["resnet10", "test_vit"])
def test_a_compiled_step_is_one_graph(name, encoder):
    torch._dynamo.reset()
    method = made(name, encoder)
    views, labels = Drawn().inputs(0, None)
    found = torch._dynamo.explain(method)(views, labels)
    assert (found.graph_count, found.graph_break_count) == (1, 0)


@pytest.mark.slow
def test_compiled_steps_learn_what_plain_ones_do():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    def small():
        method = tiny.method("sl-mlp")
        pooled = method.encoder.backbone
        method.encoder.backbone = nn.Sequential(pooled.conv, pooled.norm, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return method

    plain, state = curve(small())
    losses, other = curve(small(), compile=True)
    assert losses == pytest.approx(plain, rel=1e-3)
    assert other.model.state_dict().keys() == state.model.state_dict().keys()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


# --- dropped paths and features ---


def test_paths_are_dropped_by_depth_and_only_in_training():
    network = build("test_vit", SIDE, "standard", None, Dropped(0.3, 0.2)).backbone
    rates = [block.drop_path1.drop_prob for block in network.blocks if hasattr(block.drop_path1, "drop_prob")]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)
    assert network.head_drop.p == 0.2
    with seeds.seeded(0, "encoder"):
        one = build("test_vit", SIDE, "standard", None, Dropped(0.3, 0.2))
    with seeds.seeded(0, "encoder"):
        other = build("test_vit", SIDE, "standard")
    x = torch.randn(4, 3, SIDE, SIDE)
    assert torch.equal(one.eval()(x), other.eval()(x))
    assert not torch.equal(one.train()(x), other.train()(x))


def test_an_encoder_trained_with_dropped_paths_opens_as_any(shapes, tmp_path):
    training = dataclasses.replace(
        SMALL, encoder="test_vit", epochs=1, drop_path=0.2, dropout=0.1, optimizer="adamw", base_lr=0.001
    )
    run = slmlp.pretrain(str(shapes), tmp_path / "run", training=training, progress=False)
    assert isinstance(run.encoder(), Encoder)
    assert run.config["job"]["training"]["drop_path"] == 0.2
    again = slmlp.pretrain(
        str(shapes), tmp_path / "again", progress=False,
        training=dataclasses.replace(training, init=str(tmp_path / "run")),
    )  # fmt: skip
    assert again.finished


# --- what cannot be ---

REFUSED = {
    "--accumulate 3": "--batch-size 16",
    "--accumulate 16": "at least 2 images",
    "--accumulate 0": "at least 1",
    "--accumulate 2 --method supcon": "compares the images",
    "--accumulate 2 --method t-rex": "memory",
    "--accumulate 2 --variance 0.1": "VCReg",
    "--precision float16 --device cpu": "this is a CPU",
    "--drop-path 1": "below 1",
    "--dropout -0.1": "0 to below 1",
    "--drop-path 0.1": "resnet10 does not take it",
    "--dropout 0.1 --encoder vgg11 --image-size 32 --drop-path 0.1": "vgg11 does not take it",
    "--activation-checkpointing": "resnet10",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_is_one_line_before_anything_is_written(flags, shapes, tmp_path, capsys):
    given = {"--encoder": "resnet10", "--method": "sl", "--image-size": "16"}
    given = [word for pair in given.items() if pair[0] not in flags for word in pair]
    words = ["pretrain", str(shapes), "--batch-size", "16", "--epochs", "1", *given, *flags.split()]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("slmlp: ")]
    assert len(lines) == 1
    assert REFUSED[flags] in lines[0]
    assert not (tmp_path / "run" / "config.json").exists()


def test_without_a_compiler_it_is_said(tmp_path):
    """In a process of its own, whose compiler and whose kept kernels are gone."""
    code = "import torch; from slmlp.runtime import device; device.check(torch.device('cpu'), 'float32', True)"
    gone = {"PATH": "/nowhere", "CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | gone, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 1
    assert "SlmlpError: --compile needs a C++ compiler" in ended.stderr.splitlines()[-1]
