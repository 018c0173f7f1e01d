"""A step of training asks the device nothing: its numbers are read late and together, and judged as if at once."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily as no_fakes

import tiny
from slmlp import config, data
from slmlp.data import augment
from slmlp.data.cache import ImageCache
from slmlp.methods.base import Objective
from slmlp.runtime import device
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.transfer import HostCopy
from slmlp.train import optim
from slmlp.train.average import Average
from slmlp.train.batches import Batches, Plan
from slmlp.train.collapse import EVERY, spread
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings, explained
from waiting import Waiting

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
N = 24


@pytest.fixture(scope="module")
def image_cache(shapes):
    images = data.load(str(shapes)).of_part("train")
    return ImageCache(images, config.DataOptions(), None, 20, progress=False)


def without_values(module):
    """Give the module tensors of a GPU, which the mode that is on makes without values."""
    for part in module.modules():
        for name, x in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(torch.empty_like(x, device=CUDA), x.requires_grad)
        for name, x in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty_like(x, device=CUDA)


class Prepared(Batches):
    """Batches whose host has values, also where its device has none."""

    def __getitem__(self, step):
        with no_fakes():
            return super().__getitem__(step)


def run(image_cache, name, place, training=None, **settings):
    """Return state, batches, schedule and compute of a run of 6 steps per epoch."""
    cfg = dataclasses.replace(config.Training(batch_size=N, epochs=9, base_lr=0.05, augment="weak"), **(training or {}))
    with no_fakes():
        method = tiny.method(name, images=144, batch=N, **settings)
        average = Average(method, cfg.ema) if cfg.ema else None
    views = augment.views("moco-v2", 16, method.num_views, 2 if method.cfg.multi_crop else 0)
    plan = Plan.of_epochs(image_cache.images.labels % tiny.C, N, cfg.epochs, 0)
    batches = Prepared(image_cache, image_cache.rows(image_cache.images), plan, views, device=place)
    compute = Compute(
        place, "bfloat16" if place == CPU else "float32", channels_last=True
    )  # autocast asks for a driver
    if place == CPU:
        device.place(method, compute)
    else:
        without_values(nn.ModuleList([method, *([average] if average else [])]))
    return State(method, optim.build(method, cfg), average=average), batches, optim.schedule(cfg, plan, 0), compute


SETTINGS = {
    "sl": {"label_smoothing": 0.1, "variance": 1.0, "covariance": 0.1}, "sl-mlp": {"cosine": True, "margin": 0.2},
    "swav": {"prototypes": 8, "queue_size": N, "queue_start": 0.05, "freeze_epochs": 0.2}, "moco-v2": {"queue_size": N},
    "supcon": {"form": "in"},
}  # fmt: skip
TRAINING = {
    "sgd": {"clip_norm": 1.0, "ema": 0.99}, "lars": {"optimizer": "lars"},
    "adamw": {"optimizer": "adamw", "base_lr": 0.01, "frozen_epochs": 0.3, "ema": 0.9},
}  # fmt: skip


def waits(state, batches, schedule, compute, steps):
    """Return what the host waits for in each of some steps, between two readings."""
    readings, found = Readings(state, schedule, 10**6), []
    loop = train(state, batches, schedule, compute, 0)
    for _ in range(steps):
        with Waiting() as waiting:
            readings.add(next(loop))
        found.append(waiting.found)
    return found


@pytest.mark.parametrize("name", config.METHODS)
def test_a_step_asks_nothing(name, image_cache):
    assert waits(*run(image_cache, name, CPU, TRAINING["sgd"], **SETTINGS.get(name, {})), 8) == [[]] * 8


@pytest.mark.parametrize("optimizer", TRAINING)
@pytest.mark.parametrize("name", config.METHODS)
def test_a_step_on_a_gpu_waits_for_nothing(name, optimizer, image_cache, monkeypatch):
    """Shapes and devices as a GPU has them, by tensors without values. The first step copies the images.

    Gradients are made by hand: PyTorch asks for a driver before it goes backward. The test above goes backward.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        state, *others = run(image_cache, name, CUDA, TRAINING[optimizer], **SETTINGS.get(name, {}))
        for group in state.optimizer.param_groups if optimizer == "sgd" else ():  # fused: not without values
            assert group["fused"]
            group.update(fused=False, foreach=True)

        def backward(loss):
            assert (loss.device.type, loss.shape, loss.requires_grad) == ("cuda", (), True)
            for p in state.model.parameters():
                p.grad = torch.empty_like(p) if p.requires_grad else None

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        found = waits(state, *others, 4)
    assert found[1:] == [[]] * 3


# --- what is read late ---


def floats(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("every", [1, 4, 7])
def test_rows_do_not_depend_on_when_they_are_read(every, image_cache):
    """Against reading every step at once, by the definition of each field."""
    state, batches, schedule, compute = run(image_cache, "sl-mlp", CPU)
    readings, rows, expected = Readings(state, schedule, every), [], []
    for step in train(state, batches, schedule, compute, 0):
        wide = {} if step.embeddings is None else spread(step.embeddings)
        now = {name: float(value) for name, value in step.values.items()}
        expected.append({"step": len(expected) + 1, "epoch": len(expected) // 6 + 1, "lr": step.lr, **now, **wide})
        rows += readings.add(step)
        assert len(rows) == max(0, (step.number // every - 1) * every)  # the interval before the last
    rows += readings.rest()
    assert floats(rows) == expected
    assert len(rows) == 54
    assert [row["step"] for row in rows if "embedding_std" in row] == [EVERY]
    assert readings.rest() == []


class Falls(Objective):
    """Losses as given, whose last is of a step that cannot be made."""

    def __init__(self, losses):
        super().__init__()
        self.encoder, self.losses = nn.Linear(1, 1), iter(losses)

    def forward(self, views, labels):
        loss = next(self.losses, None)
        if loss is None:
            raise ValueError("boxes must be finite")
        return {"loss": self.encoder.weight.sum() * 0 + loss, "other": torch.tensor(1.0)}

    @property
    def chance_loss(self):
        return 2.0


def read(image_cache, losses, every=4, check_from=1e9, beyond=1):
    _, batches, schedule, _ = run(image_cache, "sl", CPU)
    schedule = dataclasses.replace(schedule, check_from=check_from)
    model = Falls(losses)
    state = State(model, torch.optim.SGD(model.parameters(), lr=0.1))
    readings, made, rows = Readings(state, schedule, every), 0, []
    try:
        steps = explained(train(state, batches, schedule, Compute(CPU, "float32", False), 0), readings)
        for step in itertools.islice(steps, len(losses) + beyond):
            made = step.number
            rows += readings.add(step)
        rows += readings.rest()
    except (SlmlpError, ValueError) as error:
        return str(error), made
    return rows, state


@pytest.mark.parametrize(("at", "seen"), [(1, 8), (4, 8), (5, 12), (12, 16)])
def test_a_loss_that_is_not_finite_is_named_by_its_step(at, seen, image_cache):
    losses = [1.0] * 20
    losses[at - 1] = float("nan")
    words, made = read(image_cache, losses)
    assert f"nan at step {at} " in words
    assert made == seen  # when the interval after its own is full


def test_an_error_of_a_step_is_explained_by_the_loss_before(image_cache):
    assert "inf at step 6 " in read(image_cache, [1.0] * 5 + [float("inf")])[0]
    assert read(image_cache, [1.0] * 6) == ("boxes must be finite", 6)


@pytest.mark.parametrize("every", [1, 4, 100])
def test_a_run_that_learns_nothing_ends_after_the_epoch(every, image_cache):
    """Six steps per epoch, judged from step 7: the mean of the second epoch is that of guessing, or is below."""
    _, state = read(image_cache, [2.0] * 6 + [1.8] * 5 + [2.0] * 2 + [1.5], every, check_from=7, beyond=0)
    assert state.losses == [2.0, 1.5]
    words, _ = read(image_cache, [0.0] * 6 + [2.0] * 7, every, check_from=7, beyond=0)
    assert "2.000 after step 12," in words


def test_a_loss_that_falls_slowly_is_learning(image_cache):
    """A rate of 0.001 with pretrained weights and 124 classes: 4.815, 4.792, 4.777 by epoch, of 4.820."""
    for second, stops in ((1.99, False), (1.9995, True), (2.0, True)):
        found, _ = read(image_cache, [2.0] * 6 + [second] * 6 + [0.5], 4, check_from=7, beyond=0)
        assert isinstance(found, str) is stops
    for last, stops in ((1.99, False), (2.0, True)):  # in the first epoch, by its halves
        found, _ = read(image_cache, [2.0] * 3 + [last] * 3 + [0.5], 4, check_from=1, beyond=0)
        assert isinstance(found, str) is stops


def test_numbers_are_copied_exactly():
    scalars = [torch.tensor(1 / 3), torch.tensor(0.1, dtype=torch.bfloat16), torch.tensor(7)]
    (single,) = HostCopy.of_scalars(scalars).read()
    assert (single.dtype, single.tolist()) == (torch.float32, [float(x) for x in scalars])
    (double,) = HostCopy.of_scalars([*scalars, torch.tensor(0.1, dtype=torch.float64)]).read()
    assert (double.dtype, double.tolist()) == (torch.float64, [*(float(x) for x in scalars), 0.1])
    assert HostCopy([]).read() == []
