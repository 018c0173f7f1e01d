"""Options of SL and SL-MLP against their formulas; settings decided by the run; settings that no run can take."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss

import tiny
from slmlp import api, config, methods
from slmlp.encoders.projector import Reweight, projector
from slmlp.methods.base import Facts
from slmlp.methods.mix import mixer
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.train.job import Job
from tiny import DIM, C, N


def one_hot(labels):
    return F.one_hot(labels, C).float()


def cross_entropy(logits, targets):
    """The mean of -sum t log p, image by image."""
    total = torch.zeros(())
    for row, target in zip(logits, targets, strict=True):
        p = row.exp() / row.exp().sum()
        total = total - (target * p.log()).sum()
    return total / len(logits)


@pytest.mark.parametrize("name", ["sl", "sl-mlp"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_cosine_softmax(name, temperature):
    method = tiny.method(name, cosine=True, temperature=temperature).eval()
    assert method.classifier.bias is None
    (x,), labels = tiny.batch(1)
    z, logits = method.projector(method.encoder(x)), torch.empty(N, C)
    for i in range(N):
        for c in range(C):
            w = method.classifier.weight[c]
            logits[i, c] = (z[i] * w).sum() / z[i].norm() / w.norm() / temperature
    torch.testing.assert_close(method([x], labels)["loss"], cross_entropy(logits, one_hot(labels)))
    with torch.no_grad():
        before = method([x], labels)["loss"]
        method.classifier.weight.mul_(torch.tensor([[0.1], [1.0], [5.0], [50.0]]))
        torch.testing.assert_close(method([x], labels)["loss"], before)  # lengths of class weights do not count
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = method.logits(z)
        assert torch.equal(logits, method.logits(z))  # not rounded to bfloat16


@pytest.mark.parametrize("name", ["sl", "sl-mlp"])
@pytest.mark.parametrize("local", [0, 2])
def test_arcface_with_and_without_the_projector(name, local):
    margin, temperature = 0.3, 0.2
    method = tiny.method(name, cosine=True, temperature=temperature, margin=margin).double().eval()
    views, labels = tiny.batch(1, local=local)
    views = [view.double() for view in views]
    z = torch.cat([method.projector(method.encoder(view)) for view in views])
    theirs = ArcFaceLoss(C, z.shape[1], margin=math.degrees(margin), scale=1 / temperature)
    theirs.W = torch.nn.Parameter(method.classifier.weight.detach().T.clone())
    rows, other = method(views, labels), theirs(z, labels.repeat(1 + local))
    torch.testing.assert_close(rows["loss"], other)
    weights = list(method.encoder.parameters())
    for ours, other_ in zip(*(torch.autograd.grad(x, weights) for x in (rows["loss"], other)), strict=True):
        torch.testing.assert_close(ours, other_)
        assert ours.abs().max() > 0
    assert rows["accuracy"] == (theirs.get_logits(z)[:N].argmax(1) == labels).float().mean()  # without the margin


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_guessing_under_a_margin_is_that_of_right_angles(smoothing):
    method = tiny.method("sl", cosine=True, margin=0.3, label_smoothing=smoothing)
    behind = torch.zeros(N, C) - one_hot(torch.arange(N) % C) * math.sin(0.3) / 0.1
    expected = cross_entropy(behind, (1 - smoothing) * one_hot(torch.arange(N) % C) + smoothing / C)
    assert method.chance_loss == pytest.approx(expected.item(), rel=1e-5)
    assert tiny.method("sl", cosine=True, label_smoothing=smoothing).chance_loss == math.log(C)


def test_runs_without_a_margin_are_known_as_they_were_before_there_was_one():
    training = config.Training(encoder="resnet50", epochs=100, batch_size=256)  # then the defaults

    def known(**settings):
        return Job(data="emoji", method="sl", settings=config.SL(**settings), training=training).hash()

    # written down at the commit before
    assert known() == "d175292f83b1618ff0b602632dc2e1b132abe397e29ba048bfde73a995564a3c"
    cosine = known(cosine=True, temperature=0.2)
    assert cosine == "f81c06ef0c3fb5468c8bb6193dbfa4f156f5e13e433035aa2e702579d871a216"
    assert known(cosine=True, temperature=0.2, margin=0.3) != cosine
    old = Job(data="emoji", method="sl", settings=config.SL(), training=training).to_json()
    del old["settings"]["margin"]
    assert Job.from_json(old, "config.json").hash() == known()


def test_mixup_blends_neighbours_and_their_labels():
    mix = mixer(0.8, 0.0, C)
    (x,), labels = tiny.batch(1)
    with seeds.seeded(0, "mix"):
        (mixed,), targets = mix([x], labels)
    share = (targets[1] * one_hot(labels)[1]).sum()  # labels of neighbours differ here
    assert 0 < share < 1
    torch.testing.assert_close(targets.sum(1), torch.ones(N))
    torch.testing.assert_close(targets, share * one_hot(labels) + (1 - share) * one_hot(labels).roll(1, 0))
    torch.testing.assert_close(mixed, share * x + (1 - share) * x.roll(1, 0), atol=1e-6, rtol=0)


def test_cutmix_pastes_a_box_whose_area_is_the_partners_share():
    mix = mixer(0.0, 1.0, C)
    (x,), labels = tiny.batch(1)
    with seeds.seeded(1, "mix"):
        (mixed,), targets = mix([x], labels)
    pasted = (mixed != x).any(1)  # (N, H, W)
    torch.testing.assert_close(mixed, torch.where(pasted.unsqueeze(1), x.roll(1, 0), x))
    area = pasted[0].float().mean()
    assert 0 < area < 1
    assert (pasted == pasted[0]).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(N))
    torch.testing.assert_close(targets, (1 - area) * one_hot(labels) + area * one_hot(labels).roll(1, 0))


def test_with_both_each_batch_is_mixed_by_one_and_each_crop_by_draws_of_its_own():
    mix = mixer(1.0, 1.0, C)
    views, labels = tiny.batch(1, local=2)
    pasted, draws = [], []
    with seeds.seeded(0, "mix"):
        for _ in range(12):
            mixed, targets = mix(views, labels)
            assert [m.shape for m in mixed] == [v.shape for v in views]
            assert targets.shape == (3 * N, C)
            shares = targets.view(3, N, C).amax(2)[:, 1]
            draws.append(len(set(shares.tolist())))
            sources = torch.cat([views[0], views[0].roll(1, 0)])
            pasted.append(torch.isin(mixed[0], sources).all().item())
    assert set(pasted) == {True, False}  # CutMix keeps every value, mixup hardly any
    assert max(draws) == 3
    assert mixer(0.0, 0.0, C) is None


@pytest.mark.parametrize("option", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_the_loss_of_mixed_images_by_hand(option):
    method = tiny.method("sl-mlp", label_smoothing=0.2, **option).eval()
    views, labels = tiny.batch(1, local=1)
    with seeds.seeded(3, "mix"):
        mixed, targets = mixer(option.get("mixup", 0.0), option.get("cutmix", 0.0), C)(views, labels)
    with seeds.seeded(3, "mix"):
        loss = method(views, labels)["loss"]
    logits = torch.cat([method.classifier(method.projector(method.encoder(v))) for v in mixed])
    torch.testing.assert_close(loss, cross_entropy(logits, 0.8 * targets + 0.2 / C))
    assert method.chance_loss is None


def test_vcreg_terms_are_added_with_their_weights():
    views, labels = tiny.batch(1)
    plain = tiny.method("sl-mlp").eval()
    weighted = tiny.method("sl-mlp", variance=0.16, covariance=0.5).eval()
    h = weighted.encoder(views[0]).double()
    cov = torch.cov(h.T)
    variance = torch.stack([(1 - (cov[j, j] + 1e-4).sqrt()).clamp(min=0) for j in range(DIM)]).mean()
    covariance = torch.stack([cov[i, j] ** 2 for i in range(DIM) for j in range(DIM) if i != j]).sum() / DIM
    rows, before = weighted(views, labels), plain(views, labels)
    torch.testing.assert_close(rows["variance"].double(), variance, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rows["covariance"].double(), covariance, atol=1e-6, rtol=1e-5)
    expected = before["loss"].double() + 0.16 * variance + 0.5 * covariance
    torch.testing.assert_close(rows["loss"].double(), expected, atol=1e-5, rtol=1e-5)
    assert "variance" not in before


@pytest.mark.parametrize("name", ["sl", "sl-mlp", "t-rex-star"])
def test_the_loss_of_many_crops_is_the_mean_of_each_crops_loss(name):
    method = tiny.method(name).eval()
    views, labels = tiny.batch(1, local=3)
    losses = torch.stack([method([view], labels)["loss"] for view in views])
    assert losses.std() > 1e-3
    rows = method(views, labels)
    torch.testing.assert_close(rows["loss"], losses.mean())
    assert rows["accuracy"] == method(views[:1], labels)["accuracy"]  # of the image itself, not of its crops


@pytest.mark.parametrize("dim", [2048, 256, 8])
def test_reweighting_spans_the_sources_range_at_any_width(dim):
    kappa = 1.01
    layer = Reweight(dim, kappa)
    for i in (0, 1, dim // 2, dim - 1):
        assert layer.weights[i].item() == pytest.approx((1 / kappa) ** (i * 2048 / dim), rel=1e-4)
    assert layer.weights[dim // 2].item() == pytest.approx(1.01**-1024, rel=1e-4)
    h = torch.randn(3, dim)
    torch.testing.assert_close(layer(h), h * layer.weights)
    assert not list(layer.parameters())
    layers, width = projector(dim, config.Projector(reweight=kappa))
    assert [type(x) for x in layers] == [Reweight]
    assert width == dim


def test_byols_predictor_of_depth_zero_is_none():
    def predictor(**changes):
        spec = config.method_config("byol").predictor.override(**changes)
        return [type(x).__name__ for x in tiny.method("byol", predictor=spec).predictor]

    assert predictor(depth=0) == []
    assert predictor(depth=0, out="encoder") == ["Linear"]
    assert predictor(depth=1, out="none") == ["Linear", "BatchNorm1d", "ReLU", "Linear"]  # as wide as what it predicts


# --- settings decided by the run ---

LARGE = Facts(training_images=1_281_167, batch_size=256, encoder_dim=2048)
SMALL = Facts(training_images=1000, batch_size=64, encoder_dim=256)


def fitted(name, facts, **settings):
    return methods.fit(name, dataclasses.replace(config.method_config(name), **settings), facts)


@pytest.mark.parametrize(
    ("name", "setting", "large", "small", "word"),
    [
        ("simclr", "temperature", 0.1, 0.5, "temperature 0.5"),
        ("moco-v1", "queue_size", 65536, 448, "queue of 448 keys"),
        ("moco-v2", "queue_size", 65536, 448, "queue of 448 keys"),
        ("swav", "prototypes", 3000, 100, "100 prototypes"),
        ("swav", "queue_size", 3840, 448, "queue of 448"),
        ("t-rex", "memory_size", 8192, 500, "memory of 500"),
    ],
)
def test_auto_is_the_sources_on_its_data_and_smaller_and_told_on_less(name, setting, large, small, word):
    made, notes = fitted(name, LARGE)
    assert getattr(made, setting) == large
    assert not any("in place of" in note for note in notes)
    made, notes = fitted(name, SMALL)
    assert getattr(made, setting) == small
    assert any(note.startswith(f"{name}: ") and word in note for note in notes)
    made, _ = fitted(name, SMALL, **{setting: type(large)(128)})  # what is given stays
    assert getattr(made, setting) == 128


@pytest.mark.parametrize("facts", [LARGE, SMALL])
@pytest.mark.parametrize("name", config.METHOD_CONFIGS)
def test_nothing_is_left_auto(name, facts):
    made, notes = fitted(name, facts)
    assert "auto" not in [getattr(made, f.name) for f in dataclasses.fields(made)]
    assert facts is not SMALL or not made.projector.depth or any("scaled from the source's" in n for n in notes)


def test_swav_takes_no_queue_where_the_batch_has_as_many_as_the_prototypes():
    assert fitted("swav", dataclasses.replace(SMALL, batch_size=100))[0].queue_size == 0
    assert fitted("swav", dataclasses.replace(SMALL, batch_size=99))[0].queue_size == 5 * 99
    assert fitted("swav", SMALL, queue_size=0)[0].queue_size == 0
    assert fitted("swav", Facts(12, 12, 8))[0].prototypes == 2


def test_moco_holds_a_batch_at_least():
    assert fitted("moco-v2", Facts(100, 64, 256))[0].queue_size == 64


def test_t_rex_star_keeps_no_memory():
    made, notes = fitted("t-rex-star", SMALL)
    assert made.memory_size == 0
    assert not any("memory" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("moco-v2", {"queue_size": 100}, r"queue_size 100 is not a multiple of the batch of 64; choose 64"),
        ("moco-v2", {"queue_size": 10}, r"queue_size 10 is not a multiple .* choose 64"),
        ("moco-v2", {"queue_size": 1024}, r"queue_size 1024 is more than the 1000 training images.*at most 960"),
        ("moco-v1", {"bn_groups": 33}, r"bn_groups 33 leaves fewer than 2 of 64 images in a part; choose 32"),
        ("swav", {"queue_size": 100}, r"queue_size 100 is not a multiple of the batch of 64; choose 64, or 0"),
        ("sl-mlp", {"temperature": 0.2}, r"temperature 0\.2 changes nothing without the cosine softmax: add --cosine"),
    ],
)
def test_what_does_not_fit_the_run_is_one_line(name, settings, words):
    with pytest.raises(SlmlpError, match=words) as caught:
        fitted(name, SMALL, **settings)
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_data_is_told_as_that_whatever_the_method(shapes, tmp_path):
    training = config.Training(encoder="resnet10", image_size=16, batch_size=500)
    with pytest.raises(SlmlpError, match="--batch-size 500 is more than the 144 training images"):
        api.pretrain(str(shapes), tmp_path / "run", method="moco-v2", training=training, progress=False)


def test_a_cosine_softmax_has_its_temperature():
    assert fitted("sl", SMALL, cosine=True, temperature=0.2)[0].temperature == 0.2


def test_the_most_parts_that_are_allowed_are():
    assert fitted("moco-v1", SMALL, bn_groups=32)[0].bn_groups == 32


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("swav", {"prototypes": 1}, "prototypes must be at least 2, found 1"),
        ("supcon", {"temperature": float("nan")}, "temperature must be above 0, found nan"),
        ("swav", {"sinkhorn_iterations": 0}, "sinkhorn_iterations must be at least 1"),
        ("swav", {"epsilon": 0.0}, "epsilon must be above 0"),
        ("swav", {"temperature": -1.0}, "temperature must be above 0"),
        ("swav", {"queue_start": -0.1}, "queue_start must be 0 or more"),
        ("swav", {"freeze_epochs": -1.0}, "freeze_epochs must be 0 or more"),
        ("swav", {"queue_size": -64}, "queue_size must be 0 or more"),
        ("moco-v2", {"queue_size": 0}, "queue_size must be at least 1"),
        ("moco-v2", {"bn_groups": 0}, "bn_groups must be at least 1"),
        ("moco-v2", {"ema_momentum": 1.0}, "ema_momentum must be 0 to below 1"),
        ("moco-v2", {"temperature": 0.0}, "temperature must be above 0"),
        ("byol", {"ema_momentum": -0.1}, "ema_momentum must be 0 to below 1"),
        ("simclr", {"temperature": 0.0}, "temperature must be above 0"),
        ("simclr", {"temperature": "warm"}, "temperature must be above 0, found 'warm'"),
        ("supcon", {"temperature": 0.0}, "temperature must be above 0"),
        ("t-rex", {"memory_size": -1}, "memory_size must be 0 or more"),
        ("t-rex", {"ema_momentum": 1.5}, "ema_momentum must be 0 to below 1"),
        ("t-rex", {"temperature": 0.0}, "temperature must be above 0"),
        ("sl", {"label_smoothing": 1.0}, "label_smoothing must be below 1"),
        ("sl", {"mixup": -0.2}, "mixup must be 0 or more"),
        ("sl", {"cutmix": -0.2}, "cutmix must be 0 or more"),
        ("sl", {"variance": -1.0}, "variance must be 0 or more"),
        ("sl", {"covariance": -1.0}, "covariance must be 0 or more"),
        ("sl", {"temperature": 0.0}, "temperature must be above 0"),
        ("sl", {"margin": 0.3}, r"margin 0\.3 is an angle, .* add --cosine"),
        ("sl-mlp", {"cosine": True, "margin": math.pi / 2}, r"margin must be 0 to below pi/2 .*, found 1\.57"),
        ("sl", {"cosine": True, "margin": -0.1}, r"margin must be 0 to below pi/2 .*, found -0\.1"),
        ("sl", {"cosine": True, "margin": float("nan")}, "margin must be 0 to below pi/2"),
        ("sl", {"cosine": True, "margin": 0.3, "mixup": 0.2}, "one class each, and mixup and cutmix mix two"),
        ("sl", {"cosine": True, "margin": 0.3, "temperature": -0.1}, "temperature must be above 0"),
    ],
)
def test_settings_out_of_range_are_one_line(name, settings, words):
    with pytest.raises(SlmlpError, match=words):
        dataclasses.replace(config.method_config(name), **settings)
