"""AdamW, rates by layer, a frozen start, clipping, and the average of weights: each against a second form."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from slmlp import api, cli, config, methods
from slmlp.encoders import Encoder, build
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.train import optim, record
from slmlp.train.average import Average
from slmlp.train.loop import State, train

SMALL = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=3, base_lr=0.2, augment="crop", threads=1,
    precision="float32", checkpoint_minutes=0,
)  # fmt: skip
ALL = {
    "optimizer": "adamw", "base_lr": 0.01, "weight_decay": 0.1, "layer_decay": 0.7, "head_rate": 3.0,
    "frozen_epochs": 1, "clip_norm": 0.5, "ema": 0.8,
}  # fmt: skip


def model(encoder, method="sl", size=32):
    with seeds.seeded(0, "encoder"):
        return methods.build(method, build(encoder, size, "standard"), 4, config.METHOD_CONFIGS[method])


def rates(module, cfg):
    """Return {name: (lr_scale, weight decay)} of every trained weight."""
    names = {id(p): name for name, p in module.named_parameters()}
    groups = optim.build(module, cfg).param_groups
    return {names[id(p)]: (g.get("lr_scale", 1.0), g["weight_decay"]) for g in groups for p in g["params"]}


def test_a_vits_layers_have_falling_rates_and_what_it_exempts_is_not_decayed():
    vit = model("vit_tiny_patch16_224", "sl-mlp")
    cfg = config.Training(optimizer="adamw", layer_decay=0.5, head_rate=10.0)
    found = rates(vit, cfg)
    assert found.keys() == {name for name, p in vit.named_parameters() if p.requires_grad}
    for name, (scale, decay) in found.items():
        weight = vit.get_parameter(name)
        block = re.match(r"encoder\.backbone\.blocks\.(\d+)\.", name)
        if not name.startswith("encoder."):
            expected = 10.0
        elif block:  # twelve of them, each at half the rate of the next; the last norm goes with the last block
            expected = 0.5 ** (11 - int(block[1]))
        else:
            expected = 1.0 if ".norm." in name else 0.5**12
        assert scale == pytest.approx(expected), name
        assert decay == (0.0 if weight.ndim <= 1 or name.endswith(("pos_embed", "cls_token")) else 0.05), name


def test_a_convnets_stages_have_falling_rates():
    found = rates(model("resnet10"), dataclasses.replace(SMALL, layer_decay=0.5))
    stages = [found[f"encoder.backbone.layer{i}.0.conv1.weight"][0] for i in (1, 2, 3, 4)]
    assert stages == [0.5**3, 0.5**2, 0.5, 1.0]
    assert found["encoder.backbone.conv1.weight"][0] == 0.5**4
    assert found["classifier.weight"][0] == 1.0


def test_defaults_are_of_the_optimizer():
    assert (config.Training().rate, config.Training().decay) == (0.1, 1e-4)
    adamw = config.Training(optimizer="adamw", batch_size=256)
    assert (adamw.rate, adamw.decay, adamw.peak_lr) == (0.001, 0.05, 0.001)
    assert config.Study(training=config.StudyTraining(optimizer="adamw")).grid == (0.0003, 0.001, 0.003)
    assert config.Study().grid == (0.05, 0.1, 0.2, 0.4)
    given = optim.build(model("resnet10"), dataclasses.replace(adamw, betas=(0.8, 0.95)))
    assert type(given) is torch.optim.AdamW
    assert all(group["betas"] == (0.8, 0.95) for group in given.param_groups)


def test_what_was_begun_before_these_settings_keeps_its_identity():
    """Defaults that are now chosen by the optimizer stand in the identity as the numbers that they were."""
    values = config.identity(config.Training())
    assert (values["base_lr"], values["weight_decay"]) == (0.1, 1e-4)
    assert not values.keys() & {"betas", "layer_decay", "head_rate", "frozen_epochs", "clip_norm", "ema"}


@pytest.fixture(scope="module")
def steps(shapes, tmp_path_factory):
    """Return a function from settings to the state, its weights after every step, and the run."""

    def followed(out=None, **changes):
        seen: list[State] = []
        copies: list[dict[str, torch.Tensor]] = []

        def watched(state, *rest):
            seen[:] = [state]
            copies.append({k: v.detach().clone() for k, v in state.model.state_dict().items()})
            for row in train(state, *rest):
                copies.append({k: v.detach().clone() for k, v in state.model.state_dict().items()})
                yield row

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(record, "train", watched)
            run = api.pretrain(
                str(shapes), out or tmp_path_factory.mktemp("run") / "run", method="sl-mlp",
                training=dataclasses.replace(SMALL, **changes), progress=False,
            )  # fmt: skip
        return seen[0], copies, run

    return followed


def test_a_frozen_encoder_stays_bit_for_bit_and_then_moves(steps):
    _, copies, _ = steps(frozen_epochs=1)
    inside = [key for key in copies[0] if key.startswith("encoder.")]
    for step in range(1, 7):  # the 6 steps of the first epoch
        assert all(torch.equal(copies[0][key], copies[step][key]) for key in inside)
        assert not torch.equal(copies[step - 1]["classifier.weight"], copies[step]["classifier.weight"])
    assert not any(
        torch.equal(copies[6][key], copies[7][key]) for key in inside if not key.endswith("num_batches_tracked")
    )


def test_the_average_is_its_definition_and_what_is_kept(steps):
    _, copies, run = steps(ema=0.8)
    key = "encoder.backbone.layer4.0.conv2.weight"
    average = copies[0][key].double()
    for t, copy in enumerate(copies[1:]):
        decay = min(0.8, 1 - (1 + t) ** (-2 / 3)) if t else 0.0
        average = decay * average + (1 - decay) * copy[key].double()
    kept = Encoder.load(run.path / "encoder.safetensors").weights()[key.removeprefix("encoder.backbone.")]
    torch.testing.assert_close(kept.double(), average, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(kept, copies[-1][key], rtol=1e-3)


def test_a_gradient_is_clipped_to_its_norm():
    """One step of SGD without momentum and decay at rate 1 moves all weights together by the norm."""
    with seeds.seeded(0, "x"):
        x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    moved = {}
    for clip in (None, 1e-3):
        cfg = dataclasses.replace(SMALL, momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=clip)
        method = model("resnet10")
        before = torch.cat([p.detach().flatten() for p in method.parameters()])
        batches = Once(([x], y))
        schedule = dataclasses.replace(optim.schedule(cfg, batches.plan, 0), rate=lambda step: 1.0)
        list(train(State(method, optim.build(method, cfg)), batches, schedule, batches.compute, 0))
        moved[clip] = torch.cat([p.detach().flatten() for p in method.parameters()]) - before
    assert moved[None].norm() > 0.1
    assert moved[1e-3].norm() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(moved[1e-3], moved[None] * (1e-3 / moved[None].norm()), rtol=1e-2, atol=1e-7)


class Once:
    """A single batch that is ready."""

    def __init__(self, batch):
        from slmlp.runtime.device import Compute
        from slmlp.train.batches import Plan

        self.batch, self.plan = batch, Plan(8, 8, 1, 0)
        self.compute = Compute(torch.device("cpu"), "float32", False)

    def iterate(self, start, workers):
        yield self.batch

    def inputs(self, batch, compute):
        return batch


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 6, 11])  # in the frozen epoch, at its end, in the last
def test_stopped_and_resumed_with_all_of_them_equals_straight(at, steps, shapes, tmp_path):
    class Stopped(Exception):
        pass

    def breaking(state, *rest):
        for row in train(state, *rest):
            yield row
            if state.step == at:
                raise Stopped

    _, _, straight = steps(**ALL)
    out, words = (
        tmp_path / "run",
        {"method": "sl-mlp", "training": dataclasses.replace(SMALL, **ALL), "progress": False},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "train", breaking)
        with pytest.raises(Stopped):
            api.pretrain(str(shapes), out, **words)
    resumed = api.pretrain(str(shapes), out, **words)
    assert resumed.encoder().hash() == straight.encoder().hash()
    names = sorted(path.name for path in straight.path.glob("*.safetensors"))
    assert len(names) == 2  # the projector too
    for name in names:
        assert (out / name).read_bytes() == (straight.path / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--optimizer adamw --base-lr 0.1", "--base-lr 0.1 is a rate for sgd"),
        ("--layer-decay 0", "--layer-decay must be above 0 and at most 1"),
        ("--layer-decay 1.5", "--layer-decay must be above 0 and at most 1"),
        ("--head-rate 0", "--head-rate must be above 0"),
        ("--clip-norm -1", "--clip-norm must be above 0"),
        ("--ema 1", "--ema must lie between 0 and 1"),
        ("--betas 0.9 1", "--betas must be two numbers"),
        ("--epochs 3 --frozen-epochs 3", "--frozen-epochs 3 leaves no epoch"),
        ("--frozen-epochs -1", "--frozen-epochs must be 0 or more"),
        ("--method simclr --projector.depth 0 --head-rate 5", "--head-rate: nothing behind the encoder"),
        ("--method supcon --projector.depth 0 --epochs 2 --frozen-epochs 1", "--frozen-epochs: nothing behind"),
    ],
)
def test_rates_that_cannot_be_are_one_line_before_anything_is_written(words, said, shapes, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["pretrain", str(shapes), "--encoder", "resnet10", *words.split(), "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("slmlp: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not out.exists()


def test_layers_that_timm_does_not_know_are_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Module()
            self.encoder.backbone = nn.Linear(3, 3)

    with pytest.raises(SlmlpError, match="timm knows no layers of a Linear"):
        optim.build(Own(), dataclasses.replace(SMALL, layer_decay=0.5))


def test_a_model_without_projector_has_an_average_of_its_encoder_alone():
    method = model("resnet10", "sl")
    del method.projector
    average = Average(method, 0.9)
    assert average.projector is None
    assert isinstance(average.encoder, Encoder)


@pytest.mark.slow
def test_adamw_learns_as_timms_parts_do():
    """The benchmark's own comparison, on a small ViT: the same losses by another optimizer and another schedule."""
    command = [sys.executable, "benchmarks/adamw.py", "--encoder", "test_vit", "--stem", "small", "--side", "16"]
    done = subprocess.run(
        [*command, "--steps", "20", "--batch-size", "16", "--threads", "1"], cwd=Path(__file__).parents[1],
        env={k: v for k, v in os.environ.items() if k != "SLMLP_DATA"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("steps"))
    ours, theirs = (float(found) for found in re.findall(r"(?:slmlp|timm) ([\d.]+)", row))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours < 3.68  # ln 40 is 3.689
    assert float(re.search(r"a step ([\d.e+-]+);", done.stdout)[1]) < 1e-4
