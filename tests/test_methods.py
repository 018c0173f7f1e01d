"""The contract of every method, and the projector's one meaning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slmlp import config, methods, seeds
from slmlp.encoders import build
from slmlp.errors import SlmlpError
from slmlp.methods.base import projector

N, C = 12, 4


@pytest.fixture(params=sorted(methods.METHODS))
def method(request):
    with seeds.seeded(0, "encoder"):
        encoder = build("resnet10", 16, "small")
    with seeds.seeded(0, "head"):
        return methods.build(request.param, encoder, C, config.method_config(request.param))


@pytest.fixture
def batch(method):
    generator = torch.Generator().manual_seed(2)
    views = [torch.randn(N, 3, 16, 16, generator=generator) for _ in range(method.num_views)]
    return views, torch.arange(N) % C


def test_loss_is_a_finite_scalar_near_chance_at_the_start(method, batch):
    rows = method(*batch)
    assert rows["loss"].shape == ()
    assert torch.isfinite(rows["loss"])
    if method.chance_loss is not None:
        assert abs(rows["loss"].item() - method.chance_loss) < 1.0


def test_gradient_reaches_every_trainable_parameter(method, batch):
    method(*batch)["loss"].backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum())]
    # a bias in front of BatchNorm has no effect and a gradient of rounding size, which may be zero
    assert [n for n in silent if not n.startswith("projector.0.bias")] == []


def test_a_few_steps_lower_the_loss(method, batch):
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = method(*batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_labels_matter_only_where_supervised(method, batch):
    views, labels = batch
    other = method(views, (labels + 1) % C)["loss"].item()
    assert (method(views, labels)["loss"].item() != other) == method.supervised


def test_the_order_of_a_batch_does_not_matter(method, batch):
    views, labels = batch
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    shuffled = method([v[order] for v in views], labels[order])["loss"]
    torch.testing.assert_close(method(views, labels)["loss"], shuffled, atol=1e-5, rtol=1e-5)


def test_config_and_registry_name_the_same_methods():
    assert methods.METHODS.keys() == config.METHOD_CONFIGS.keys()


def test_sl_loss_equals_its_definition_in_float64():
    encoder = build("resnet10", 16, "small")
    method = methods.build("sl-mlp", encoder, C, config.method_config("sl-mlp")).double()
    x, y = torch.randn(N, 3, 16, 16, dtype=torch.float64), torch.arange(N) % C
    h = encoder(x)
    linear1, norm, linear2 = method.projector[0], method.projector[1], method.projector[3]
    a = h @ linear1.weight.T + linear1.bias
    a = (a - a.mean(0)) / torch.sqrt(a.var(0, unbiased=False) + norm.eps)
    z = a.clamp(min=0) @ linear2.weight.T + linear2.bias
    logits = z @ method.classifier.weight.T + method.classifier.bias
    expected = -(logits - logits.logsumexp(1, keepdim=True))[torch.arange(N), y].mean()
    torch.testing.assert_close(method([x], y)["loss"].double(), expected, atol=1e-6, rtol=0)


def test_two_methods_of_one_seed_start_from_the_same_encoder_and_sl_mlp_is_one_setting_away():
    presets = config.METHOD_CONFIGS
    assert presets["sl"].projector.override(depth=1) == presets["sl-mlp"].projector
    assert type(presets["sl"]) is type(presets["sl-mlp"])
    assert presets["sl-mlp"].projector.override(depth=0).widths(64) == presets["sl"].projector.widths(64) == (64, None)


@pytest.mark.parametrize(
    ("spec", "kinds", "width"),
    [
        (config.Projector(), [], 8),
        (config.Projector(depth=1), [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear], 8),
        (config.Projector(depth=1, hidden=5, out=3), [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear], 3),
        (config.Projector(depth=1, out="none"), [nn.Linear, nn.BatchNorm1d, nn.ReLU], 8),
        (config.Projector(depth=0, out=3), [nn.Linear], 3),
        (config.Projector(depth=2, norm="none", act="gelu", out="none"), [nn.Linear, nn.GELU, nn.Linear, nn.GELU], 8),
        (config.Projector(depth=1, norm="layer", act="none"), [nn.Linear, nn.LayerNorm, nn.Linear], 8),
    ],
)
def test_a_projector_spec_means_its_layers(spec, kinds, width):
    layers, out = projector(8, spec)
    assert [type(layer) for layer in layers] == kinds
    assert out == width
    assert layers(torch.randn(4, 8)).shape == (4, width)


def test_every_projector_setting_changes_something():
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    base = config.Projector(depth=1)
    changes = {
        "depth": 2, "hidden": 5, "out": 3, "norm": "layer", "act": "gelu", "bias": False, "l2_input": True,
    }  # fmt: skip
    assert changes.keys() == {f.name for f in config.dataclasses.fields(config.Projector)}
    with seeds.seeded(0, "head"):
        before = projector(8, base)[0](x)
    for name, value in changes.items():
        with seeds.seeded(0, "head"):
            after = projector(8, base.override(**{name: value}))[0](x)
        assert after.shape != before.shape or not torch.equal(after, before), name


def test_input_norm_makes_unit_vectors():
    layers, _ = projector(8, config.Projector(l2_input=True))
    torch.testing.assert_close(layers(torch.randn(5, 8)).norm(dim=1), torch.ones(5))


def test_depth_zero_drops_the_last_linear_unless_it_is_given():
    head = config.Projector(depth=1, hidden=2048, out=128)
    assert head.override(depth=0).widths(64)[1] is None
    assert head.override(depth=0, out=32).widths(64)[1] == 32
    assert config.Projector(depth=0).override(depth=1).widths(64) == (64, 64)


def test_bad_settings_are_refused():
    with pytest.raises(SlmlpError, match="did you mean 'sl-mlp'"):
        config.method_config("slmlp")
    with pytest.raises(SlmlpError, match="depth"):
        config.Projector(depth=-1)
    with pytest.raises(SlmlpError, match="epochs"):
        config.Training(epochs=0)


@pytest.mark.parametrize("method", ["sl"], indirect=True)
def test_label_smoothing_is_obeyed(method, batch):
    encoder = build("resnet10", 16, "small").eval()
    plain = methods.build("sl", encoder, C, config.SL())
    smooth = methods.build("sl", encoder, C, config.SL(label_smoothing=0.2))
    smooth.classifier.load_state_dict(plain.classifier.state_dict())
    logits = plain.classifier(encoder(batch[0][0]))
    expected = 0.8 * F.cross_entropy(logits, batch[1]) - 0.2 * F.log_softmax(logits, 1).mean()
    torch.testing.assert_close(smooth(*batch)["loss"], expected, atol=1e-5, rtol=0)
