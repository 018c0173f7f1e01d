"""The contract of every method, and the projector's one meaning."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.augment.draws import Draws
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.encoders.projector import projector
from slmlp.methods.base import Facts, Method, Progress
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

N, C = 12, 4
FACTS = Facts(training_images=4 * N, batch_size=N, encoder_dim=256)
FALLS_FAR = ("sl", "sl-mlp", "byol", "swav", "t-rex-star", "t-rex")
UNLIKE = ("moco-v1", "moco-v2")  # BatchNorm in shuffled parts: the order of a batch matters, as it should


def made(name, encoder="resnet10", seed=0, **settings):
    with seeds.seeded(seed, "encoder"):
        built = build(encoder, 16, "small")
    cfg, _ = methods.fit(name, dataclasses.replace(config.method_config(name), **settings), FACTS)
    with seeds.seeded(seed, "head"):
        return methods.build(name, built, C, cfg)


def loss_of(method, batch):
    with seeds.seeded(0, "step"):
        return method(*batch)["loss"]


def step(method, batch, optimizer, moves=True):
    rows = method(*batch)
    optimizer.zero_grad()
    rows["loss"].backward()
    optimizer.step()
    if moves:
        method.after_step(Progress(100, 100, 10))
    return float(rows["loss"].detach())


def sgd(method, lr=0.05):
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)


ON = [((name, "resnet10"), []) for name in sorted(config.METHODS)]
ON += [((name, "vit_tiny_patch16_224"), [pytest.mark.slow]) for name in sorted(config.METHODS)]


@pytest.fixture(params=[pytest.param(pair, marks=marks, id=str(pair)) for pair, marks in ON])
def method(request):
    name, encoder = request.param
    built = made(name, encoder)
    built.name = name
    return built


@pytest.fixture
def batch(method, real):
    return real(method)


@pytest.fixture(scope="module")
def real():
    """Views of real images (four classes of the embedded emoji), as training makes them."""
    images = data.load("emoji", config.DataOptions(images_per_class=N)).of_part("train")
    images = images.of_classes(images.classes[:C])
    image_cache = ImageCache(images, config.DataOptions(), None, 20, progress=False)
    y = torch.from_numpy(images.labels)
    rows = np.concatenate([np.flatnonzero(images.labels == c)[: N // C] for c in range(C)])
    squares, labels = image_cache.squares(rows, 20), y[rows]

    def views_for(method, local_crops=0, name="crop"):
        made_by = augment.views(name, 16, method.num_views, local_crops)
        return [v(squares, Draws(seeds.torch_generator(2, i), N)) for i, v in enumerate(made_by)], labels

    return views_for


def test_loss_is_a_finite_scalar_near_chance_at_the_start(method, batch):
    rows = method(*batch)
    assert rows["loss"].shape == ()
    assert torch.isfinite(rows["loss"])
    assert rows["embeddings"].shape[0] == N
    assert not rows["embeddings"].requires_grad
    if method.chance_loss is not None:
        assert abs(rows["loss"].item() - method.chance_loss) < 1.0


def test_gradient_reaches_every_trainable_parameter_and_no_target(method, batch):
    step(method, batch, sgd(method))  # past what is frozen at the start
    method.zero_grad()
    method(*batch)["loss"].backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum())]
    # a bias in front of BatchNorm has no effect and a gradient of rounding size, which may be zero
    before_norm = [
        f"{room}.{i}.bias"
        for room in ("projector", "predictor")
        for i, layer in enumerate(getattr(method, room, ()))
        if isinstance(layer, nn.Linear)
        and isinstance(getattr(method, room)[min(i + 1, len(getattr(method, room)) - 1)], nn.BatchNorm1d)
    ]
    assert [n for n in silent if n not in before_norm] == []
    targets = [p for n, p in method.named_parameters() if n.startswith("target")]
    assert bool(targets) == (method.name in ("moco-v1", "moco-v2", "byol", "t-rex"))
    assert all(p.grad is None and not p.requires_grad for p in targets)


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(method, batch):
    moves = True
    if method.name in UNLIKE:  # while the queue fills, the task becomes harder: it is filled first, and held
        for _ in range(len(method.queue.rows) // N):
            step(method, batch, sgd(method, lr=0.0))
        moves = False
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    losses = [step(method, batch, optimizer, moves=moves) for _ in range(20)]
    # for those named the least loss is near zero; of other methods it may be far above
    share = 0.7 if method.name in FALLS_FAR else 0.9
    assert np.mean(losses[-3:]) < share * np.mean(losses[:3])


@pytest.mark.slow
def test_labels_matter_only_where_supervised(method, batch):
    views, labels = batch
    step(method, batch, sgd(method))  # a memory of random labels would not know the difference
    swapped = labels.roll(1)  # another partition of the images, not the same with other names
    before, after = (loss_of(method, (views, y)).item() for y in (labels, swapped))
    assert (before != after) == method.cfg.supervised


def test_the_order_of_a_batch_does_not_matter(method, batch):
    views, labels = batch
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    shuffled = loss_of(method, ([v[order] for v in views], labels[order]))
    same = torch.allclose(loss_of(method, batch), shuffled, atol=1e-4, rtol=1e-4)
    assert same or method.name in UNLIKE


@pytest.mark.slow
def test_the_mlp_is_one_switch_on_every_method(method, real):
    for depth in (0, 1, 2):
        spec = config.method_config(method.name).projector.override(depth=depth)
        switched = made(method.name, projector=spec)
        linears = [m for m in switched.projector.modules() if isinstance(m, nn.Linear)]
        assert len(linears) == depth + (spec.widths(256)[1] is not None)
        assert torch.isfinite(loss_of(switched, real(switched)))


def test_every_method_names_a_class_that_takes_its_settings():
    for name, entry in config.METHODS.items():
        kind = methods.implementation(name)
        assert issubclass(kind, Method)
        assert typing.get_type_hints(kind)["cfg"] is type(entry.settings)


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
        "out_bias": False, "reweight": 1.01,
        "residual": True,
    }  # fmt: skip
    assert changes.keys() == {f.name for f in dataclasses.fields(config.Projector)}
    with seeds.seeded(0, "head"):
        before = projector(8, base)[0](x)
    for name, value in changes.items():
        with seeds.seeded(0, "head"):
            after = projector(8, base.override(**{name: value}))[0](x)
        assert after.shape != before.shape or not torch.equal(after, before), name


def test_input_norm_makes_group_vectors():
    layers, _ = projector(8, config.Projector(l2_input=True))
    torch.testing.assert_close(layers(torch.randn(5, 8)).norm(dim=1), torch.ones(5))


def test_depth_zero_drops_the_last_linear_unless_it_is_given():
    head = config.Projector(depth=1, hidden=2048, out=128)
    assert head.override(depth=0).widths(64)[1] is None
    assert head.override(depth=0, out=32).widths(64)[1] == 32
    assert config.Projector(depth=0).override(depth=1).widths(64) == (64, 64)


@pytest.mark.parametrize(
    "given", [{"hidden": 64}, {"norm": "layer"}, {"act": "gelu"}, {"bias": False}, {"depth": 0, "hidden": 64}]
)
def test_settings_of_blocks_are_refused_where_there_are_none(given):
    for base in (config.Projector(depth=1), config.Projector()):
        if given.get("depth", base.depth) == 0:
            with pytest.raises(SlmlpError, match=r"projector\.\w+ is of the projector's blocks, and depth 0 has none"):
                base.override(**given)
        assert base.override(**{**given, "depth": 2}).depth == 2


def test_bad_settings_are_refused():
    with pytest.raises(SlmlpError, match="did you mean 'sl-mlp'"):
        config.method_config("slmlp")
    with pytest.raises(SlmlpError, match="depth"):
        config.Projector(depth=-1)
    with pytest.raises(SlmlpError, match="epochs"):
        config.Training(epochs=0)


def test_label_smoothing_is_obeyed(real):
    plain, smooth = made("sl").eval(), made("sl", label_smoothing=0.2).eval()
    views, labels = real(plain)
    logits = plain.classifier(plain.encoder(views[0]))
    expected = 0.8 * F.cross_entropy(logits, labels) - 0.2 * F.log_softmax(logits, 1).mean()
    torch.testing.assert_close(smooth(views, labels)["loss"], expected, atol=1e-5, rtol=0)
