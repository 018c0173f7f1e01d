"""The detector stands on the encoder's own stages; norms are as asked; the schedule is Detectron2's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection_data import data_set, encoder, settings
from slmlp import config
from slmlp.detection import model
from slmlp.detection.backbone import ResNetStages, TimmStages, stages
from slmlp.detection.layout import find_parts
from slmlp.detection.reading import load
from slmlp.detection.samples import Samples, order_plan
from slmlp.detection.schedule import lr_at
from slmlp.runtime.errors import SlmlpError


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    part = load(find_parts(str(data_set(tmp_path_factory.mktemp("coco"))), {})["train"])
    return Samples(part, order_plan(len(part.usable()), settings(batch_size=2), 3), settings(), True, slice(None))[0]


@pytest.mark.parametrize(
    ("name", "kind"), [("test_resnet", ResNetStages), ("test_convnext", TimmStages), ("test_efficientnet", TimmStages)]
)
def test_stages_are_those_of_the_encoder(name, kind):
    one = encoder(name=name)
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = one.backbone.forward_intermediates(x, intermediates_only=True, norm=False)
        found = stages(one).eval()(x)
    assert [tuple(f.shape[2:]) for f in found] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    by_shape = {e.shape: e for e in expected}
    for f in found:
        torch.testing.assert_close(f, by_shape[f.shape], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "stem", "said"),
    [
        ("test_resnet", "small", "small-image stem.*pretrain with --stem standard"),
        ("resnet10", "standard", "have strides 8, 8, 16, 32, and not 4, 8, 16 and 32"),
        ("test_vit", "standard", r"no stages that an FPN can stand on \(strides 16\)"),
    ],
)
def test_encoders_without_such_stages_are_refused_with_the_reason(name, stem, said):
    with pytest.raises(SlmlpError, match=said):
        stages(encoder(name=name, stem=stem))


def test_the_heads_are_detectron2s():
    made = model.build(encoder(), 80, True, config.Detection(), False)
    heads, rpn = made.network.roi_heads, made.network.rpn
    assert heads.box_predictor.cls_score.weight.shape == (81, 1024)
    assert heads.box_predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert heads.box_predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert heads.mask_predictor.mask_fcn_logits.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert rpn._post_nms_top_n == {"training": 1000, "testing": 1000}
    assert rpn._pre_nms_top_n == {"training": 2000, "testing": 1000}
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.05, 0.5, 100)
    assert heads.fg_bg_sampler.batch_size_per_image == 512
    assert rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    same = model.build(encoder(), 80, True, config.Detection(), False)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), same.parameters(), strict=True))
    assert not model.build(encoder(), 80, False, config.Detection(), False).network.roi_heads.has_mask()


def test_images_are_seen_by_the_encoders_own_statistics(batch):
    one = encoder()
    one.preprocess = type(one.preprocess)(64, 64, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    made = model.build(one, 2, True, settings(), False)
    images, targets = batch
    seen, _ = made.network.transform(images, targets)
    height, width = images[0].shape[1:]
    expected = (images[0] - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(seen.tensors[0, :, :height, :width], expected)
    assert seen.tensors.shape[2] % 32 == seen.tensors.shape[3] % 32 == 0


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["sync", "batch", "frozen", "group"])
def test_norms_are_as_asked(norm, batch):
    made = model.build(encoder(), 2, True, settings(norm=norm), False)
    made.train()
    body = [m for m in made.body.modules() if isinstance(m, _BatchNorm)]
    heads = [made.network.backbone.fpn, made.network.roi_heads.mask_head]
    new = [type(m) for head in heads for m in head.modules() if isinstance(m, _BatchNorm | nn.GroupNorm)]
    moving = norm in ("sync", "batch")
    assert set(new) == {"frozen": set(), "group": {nn.GroupNorm}}.get(norm, {nn.BatchNorm2d})
    assert all(m.training == m.weight.requires_grad == moving for m in body)
    before = [m.running_mean.clone() for m in body]
    losses = made(*batch)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.equal(a, m.running_mean) != moving for a, m in zip(before, body, strict=True))
    groups = model.parameter_groups(made, settings(norm=norm))
    free = sum(len(g["params"]) for g in groups if g["weight_decay"] == 0)
    assert free == (2 * (len(body) * moving + len(new)))
    held = {id(p) for g in groups for p in g["params"]}
    assert held == {id(p) for p in made.parameters() if p.requires_grad}


def test_a_frozen_backbone_does_not_move_and_a_random_one_gets_statistics(batch):
    made = model.build(encoder(), 2, True, settings(norm="sync"), True)
    body = {k: v.clone() for k, v in made.body.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameter_groups(made, settings()), lr=0.01)
    sum(made(*batch).values()).backward()
    optimizer.step()
    assert all(torch.equal(v, body[k]) for k, v in made.body.state_dict().items())
    images, _ = batch
    model.calibrate(made, [images])
    x, _ = made.network.transform(images)
    stem = made.body.get_submodule("conv1")  # three convolutions, each with its norm
    first = stem[1]
    with torch.no_grad():
        y = stem[0](x.tensors)
    torch.testing.assert_close(first.running_mean, y.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not first.training
    assert first.momentum == 0.1


def test_predictions_come_in_pixels_of_the_original(batch):
    made = model.build(encoder(), 2, True, settings(), False).eval()
    made.network.roi_heads.score_thresh, made.network.roi_heads.detections_per_img = 0.0, 5
    made.network.rpn._post_nms_top_n = {"training": 20, "testing": 20}
    images, _ = batch
    originals = [(2 * im.shape[1], 2 * im.shape[2]) for im in images]
    with torch.no_grad():
        small = made.predict(list(images), [tuple(im.shape[1:]) for im in images])
        large = made.predict(list(images), originals)
    for a, b, size in zip(small, large, originals, strict=True):
        assert len(a["boxes"]) > 0
        torch.testing.assert_close(2 * a["boxes"], b["boxes"])
        assert b["masks"].shape[2:] == size


def test_the_schedule_is_detectron2s_scaled_by_the_batch():
    full = config.Detection()
    assert full.sides == (640, 672, 704, 736, 768, 800)
    assert full.long_side == 1333
    assert [round(lr_at(s, 90_000, full), 8) for s in (0, 1000, 60_000, 80_000)] == [2e-5, 0.02, 0.002, 0.0002]
    small = config.Detection(batch_size=4, schedule="2x")
    total = small.total(10)
    assert (total, small.warmup_steps(total)) == (720_000, 4000)
    assert lr_at(4000, total, small) == pytest.approx(0.005)
    assert config.Detection(steps=7).total(10) == 7
    assert config.Detection(short_side=192).sides[0] == 154


@pytest.mark.parametrize(
    ("other", "said"),
    [({"batch_size": 0}, "batch_size"), ({"short_side": 8}, "short_side"), ({"steps": 0}, "--steps"),
     ({"base_lr": 0}, "base_lr"), ({"warmup": -1}, "--warmup"), ({"controls": ("random", "random")}, "--controls")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(other, said):
    with pytest.raises(SlmlpError, match=said):
        settings(**other)


@pytest.mark.slow
@pytest.mark.parametrize("places_of_boxes", ["thin", "usual"])
def test_boxes_keep_float32_where_the_network_computes_in_bfloat16(batch, places_of_boxes):
    """In bfloat16 a coordinate of 190.1 is 190, and a thin box has no width, of which a logarithm is taken."""
    images, targets = batch
    detector = model.build(encoder(), 3, True, settings(), False)
    if places_of_boxes == "thin":
        images = [torch.nn.functional.pad(x, (0, 256 - x.shape[2])) for x in images]
        thin = torch.tensor([[190.1, 10.0, 190.6, 50.0]])
        targets = [
            {"boxes": thin, "labels": torch.ones(1, dtype=torch.int64),
             "masks": torch.ones(1, *x.shape[1:], dtype=torch.uint8)}
            for x in images
        ]  # fmt: skip
    seen = {}
    rpn, heads = detector.network.rpn, detector.network.roi_heads
    rpn.anchor_generator.register_forward_hook(lambda _, __, out: seen.update(anchors=out[0]))
    rpn.register_forward_hook(lambda _, __, out: seen.update(proposals=out[0][0]))
    heads.box_predictor.register_forward_hook(lambda _, __, out: seen.update(offsets=out[1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector(images, targets)
        assert seen["offsets"].dtype == seen["proposals"].dtype == seen["anchors"].dtype == torch.float32
        detector.eval()
        with torch.no_grad():
            found = detector.predict(images, [tuple(x.shape[1:]) for x in images])
    assert all(torch.isfinite(value) for value in losses.values())
    plain = model.build(encoder(), 3, True, settings(), False)
    plain.network.rpn.anchor_generator.register_forward_hook(lambda _, __, out: seen.update(expected=out[0]))
    plain(images, targets)
    torch.testing.assert_close(seen["anchors"], seen["expected"], atol=0, rtol=0)
    boxes = torch.cat([one["boxes"] for one in found])
    assert len(boxes)
    assert not torch.equal(boxes, boxes.bfloat16().float())


def test_numbers_of_an_earlier_kind_of_detector_are_not_taken_for_these(monkeypatch):
    before = settings().deciding()
    monkeypatch.setattr("slmlp.config.detection.VERSION", 1)
    assert settings().deciding() != before
