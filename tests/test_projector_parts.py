"""Parts of the projector alone: a normalisation without its Linear, and a projector that is added to its input."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import slmlp
import tiny
from slmlp import config
from slmlp.encoders.projector import projector
from slmlp.encoders.projector_file import load_projector
from slmlp.experiments.study.specs import parse_all
from slmlp.runtime.errors import SlmlpError
from slmlp.train.job import Job
from test_train import SMALL

NORM = config.Projector(depth=1, hidden="none", act="none", out="none")
RESIDUAL = dataclasses.replace(config.METHOD_CONFIGS["sl-mlp"].projector, residual=True)


def test_a_normalisation_alone_is_batchnorm():
    made, width = projector(8, NORM)
    h = torch.randn(6, 8)
    assert width == 8
    assert [type(layer).__name__ for layer in made] == ["BatchNorm1d"]
    torch.testing.assert_close(made(h), F.batch_norm(h, None, None, torch.ones(8), torch.zeros(8), training=True))


def test_layers_without_a_linear_keep_the_width():
    made, width = projector(8, config.Projector(depth=2, hidden="none", out=3))
    names = ["BatchNorm1d", "ReLU", "BatchNorm1d", "ReLU", "Linear"]
    assert ([type(layer).__name__ for layer in made], width) == (names, 3)


def test_a_residual_projector_starts_as_none_and_learns():
    made, width = projector(8, RESIDUAL)
    h = torch.randn(6, 8)
    assert width == 8
    assert torch.equal(made(h), h)
    made(h).square().sum().backward()
    assert made[0].layers[-1].weight.grad.abs().sum() > 0
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p))
    torch.testing.assert_close(made(h), h + made[0].layers(h))


def test_what_stands_before_it_is_added_too():
    made, _ = projector(8, dataclasses.replace(RESIDUAL, l2_input=True))
    h = torch.randn(6, 8)
    torch.testing.assert_close(made(h), F.normalize(h, dim=1))


def test_no_method_draws_over_the_start():
    method = tiny.method("t-rex-star", projector=dataclasses.replace(RESIDUAL, out="encoder"))
    h = torch.randn(6, tiny.DIM)
    assert torch.equal(method.projector(h), h)


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"out": 4}, {"out": "none"}, {"out": "encoder*2"}])
def test_a_sum_needs_two_of_one_width(wrong):
    with pytest.raises(SlmlpError, match=r"projector\.out must be encoder"):
        dataclasses.replace(RESIDUAL, **wrong)


def test_runs_of_before_are_still_known():
    """Settings that did not exist are not in what a run is known by, unless they are given."""
    assert "residual" not in config.method_identity(config.METHOD_CONFIGS["sl-mlp"])["projector"]
    assert "residual" not in config.method_identity(config.METHOD_CONFIGS["byol"])["predictor"]
    given = dataclasses.replace(config.METHOD_CONFIGS["sl-mlp"], projector=RESIDUAL)
    assert config.method_identity(given)["projector"]["residual"] is True
    assert Job("x", settings=given).hash() != Job("x").hash()


ALONE = "sl:projector.depth=1:projector.hidden=none:projector.act=none:projector.out=none"


@pytest.mark.parametrize("spec", [ALONE, "sl-mlp:projector.residual=true"])
def test_a_run_trains_and_its_projector_is_read_again(spec, shapes, tmp_path):
    (contender,) = parse_all((spec,))
    run = slmlp.pretrain(
        str(shapes), tmp_path / "run", method=contender.method, training=dataclasses.replace(SMALL, epochs=1),
        settings=contender.settings, progress=False,
    )  # fmt: skip
    again = load_projector(run.path, run.encoder().dim)
    kind = "BatchNorm1d" if "none" in spec else "Residual"
    assert [type(layer).__name__ for layer in again] == [kind]
