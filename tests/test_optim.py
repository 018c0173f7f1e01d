"""LARS against its definition and timm's, which tensors it spares, and the schedules at their corners."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from timm.optim.lars import Lars
from torch import nn

from slmlp import config
from slmlp.runtime.errors import SlmlpError
from slmlp.train import optim
from slmlp.train.job import Job
from slmlp.train.optim import LARS, lr_at

ONE = config.Training(base_lr=1.0, batch_size=256)


def quadratic(weights, target):
    return sum(((w - t) ** 2).sum() for w, t in zip(weights, target, strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_its_definition_in_float64(nesterov):
    rng = np.random.default_rng(0)
    start, target = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    rates, momentum, decay = [0.5, 2.0, 1.0, 0.1, 0.1], 0.9, 0.01
    w, v = start.copy(), np.zeros_like(start)
    for rate in rates:
        g = 2 * (w - target) + decay * w
        update = rate * 0.001 * np.linalg.norm(w) / np.linalg.norm(g) * g
        v = momentum * v + update
        w = w - (update + momentum * v if nesterov else v)
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    lars = LARS([weight], momentum=momentum, weight_decay=decay, nesterov=nesterov)
    for rate in rates:
        lars.param_groups[0]["lr"] = rate
        lars.zero_grad()
        quadratic([weight], [torch.from_numpy(target)]).backward()
        lars.step()
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-13)


def test_lars_is_timms_where_the_two_forms_agree():
    """At one rate and without weight decay; with them, timm keeps the rate outside the momentum and adds the norms."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(3, 2, 3, 3))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    target = [torch.randn_like(p) for p in ours]
    pair = (LARS(ours, lr=0.7), Lars(theirs, lr=0.7, momentum=0.9, always_adapt=True))
    for _ in range(5):
        for optimizer, weights in zip(pair, (ours, theirs), strict=True):
            optimizer.zero_grad()
            quadratic(weights, target).backward()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_where_a_norm_is_zero_lars_is_plain_sgd():
    still, moved, flat = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2))
    untouched = nn.Parameter(torch.ones(2))
    lars = LARS([still, moved, flat, untouched], lr=0.5, momentum=0.0)
    (moved.sum() + 0 * flat.sum() + 0 * still.sum()).backward()
    lars.step()
    assert torch.equal(moved, torch.full((2, 2), -0.5))  # weights of norm 0: no trust ratio
    assert torch.equal(still, torch.zeros(3))
    assert torch.equal(flat, torch.ones(2))  # a gradient of norm 0: no division by it
    assert torch.equal(untouched, torch.ones(2))  # no gradient at all
    assert untouched not in lars.state


def test_lars_spares_norms_and_biases_from_adaptation_and_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    cfg = dataclasses.replace(ONE, optimizer="lars", weight_decay=0.1, nesterov=False, momentum=0.0)
    optimizer = optim.build(module, cfg)
    assert isinstance(optimizer, LARS)
    assert [(len(g["params"]), g["weight_decay"], g["adapt"]) for g in optimizer.param_groups] == [
        (2, 0.1, True), (4, 0.0, False),
    ]  # fmt: skip
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    torch.manual_seed(0)
    module(torch.randn(8, 3, 3, 3)).square().sum().backward()
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    optimizer.step()
    for name, p in module.named_parameters():
        change = before[name] - p.detach()
        if p.ndim > 1:  # the length of a scaled step is that of the weights times 0.001
            assert change.norm().item() == pytest.approx(0.001 * before[name].norm().item(), rel=1e-3)
        else:
            torch.testing.assert_close(change, p.grad, rtol=1e-4, atol=1e-6)
    (everything,) = optim.parameter_groups(module, dataclasses.replace(cfg, decay_norms_and_biases=True))
    assert (len(everything["params"]), everything["weight_decay"], everything["adapt"]) == (6, 0.1, True)


@pytest.mark.parametrize(
    ("optimizer", "nesterov", "kind"),
    [("sgd", True, torch.optim.SGD), ("sgd", False, torch.optim.SGD), ("lars", True, LARS), ("lars", False, LARS)],
)
def test_settings_reach_the_optimizer(optimizer, nesterov, kind):
    cfg = dataclasses.replace(ONE, optimizer=optimizer, nesterov=nesterov, momentum=0.7)
    built = optim.build(nn.Linear(2, 2), cfg)
    assert type(built) is kind
    assert all((g["nesterov"], g["momentum"]) == (nesterov, 0.7) for g in built.param_groups)
    assert not optim.build(nn.Linear(2, 2), dataclasses.replace(cfg, momentum=0.0)).param_groups[0]["nesterov"]


def test_lars_goes_on_from_its_state():
    def made():
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        return module, optim.build(module, dataclasses.replace(ONE, optimizer="lars", nesterov=False))

    def steps(module, optimizer, rates):
        for rate in rates:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            module(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
            optimizer.step()

    straight, optimizer = made()
    steps(straight, optimizer, [1.0, 0.5, 0.2, 0.1])
    first, optimizer = made()
    steps(first, optimizer, [1.0, 0.5])
    second, resumed = made()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, [0.2, 0.1])
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), second.parameters(), strict=True))


def test_the_cosine_ends_at_its_floor():
    cfg = dataclasses.replace(ONE, base_lr=0.3, final_lr=0.0003, batch_size=4096)
    assert (cfg.peak_lr, cfg.last_lr) == (pytest.approx(4.8), pytest.approx(0.0048))
    rates = [lr_at(s, 1000, 10, cfg) for s in range(1000)]
    assert rates[0] == pytest.approx(0.48)
    assert rates[9] == rates[10] == pytest.approx(4.8)
    assert rates[505] == pytest.approx((4.8 + 0.0048) / 2)
    assert rates[999] == pytest.approx(0.0048, rel=0.01)
    assert all(a >= b > cfg.last_lr for a, b in itertools.pairwise(rates[9:]))
    assert lr_at(1000, 1000, 10, cfg) == pytest.approx(0.0048, rel=1e-12)


def test_steps_fall_at_moco_v1s_epochs():
    cfg = dataclasses.replace(ONE, schedule="step", final_lr=0.5)
    per_epoch = 5004
    rates = {e: lr_at(e * per_epoch, 200 * per_epoch, 0, cfg) for e in (0, 119, 120, 159, 160, 199)}
    assert rates == {0: 1.0, 119: 1.0, 120: 0.1, 159: 0.1, 160: pytest.approx(0.01), 199: pytest.approx(0.01)}
    assert lr_at(120 * per_epoch - 1, 200 * per_epoch, 0, cfg) == 1.0
    three = dataclasses.replace(cfg, milestones=(0.3, 0.6, 0.9))
    assert [round(lr_at(s, 10, 1, three), 4) for s in range(10)] == [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"final_lr": 0.2, "base_lr": 0.1}, r"--final-lr must be 0 to --base-lr \(0.1\), found 0.2"),
        ({"milestones": (0.8, 0.6)}, "--milestones must be rising shares .* found 0.8 0.6"),
        ({"milestones": (0.5, 1.0)}, "--milestones"),
        ({"milestones": ()}, "found none"),
        ({"momentum": 1.0}, "momentum must be 0 to below 1"),
        ({"weight_decay": -1e-4}, "--weight-decay must be at least 0"),
    ],
)
def test_rates_that_cannot_be_are_refused(changes, words):
    with pytest.raises(SlmlpError, match=words):
        config.Training(**changes)


def test_what_was_begun_before_these_settings_goes_on():
    training = config.Training(augment="weak")  # colour has its own version since the changes got an order per image
    old = dataclasses.asdict(training) | {"base_lr": 0.1, "weight_decay": 1e-4}  # the defaults of before
    for name in config.training.LATER:
        old.pop(name)
    assert config.identity(training) == old
    assert config.identity(config.Training(augment="moco-v2")).keys() - old.keys() == {"colour_version"}
    job = Job(data="emoji")
    for name, value in {"optimizer": "lars", "nesterov": False, "schedule": "step", "final_lr": 0.01}.items():
        changed = dataclasses.replace(job, training=dataclasses.replace(job.training, **{name: value}))
        assert changed.hash() != job.hash(), name


def test_runs_with_colour_are_known_by_how_colours_are_drawn(monkeypatch):
    kinds = {name: config.Training(augment=name) for name in ("moco-v2", "weak", "crop", "none")}
    before = {name: config.identity(cfg) for name, cfg in kinds.items()}
    monkeypatch.setattr("slmlp.config.training.COLOUR_VERSION", 1)
    changed = {name for name, cfg in kinds.items() if config.identity(cfg) != before[name]}
    assert changed == {"moco-v2"}
