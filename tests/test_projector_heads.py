"""Models with several heads, and training loops that lose the projector."""

from __future__ import annotations

import copy
import warnings

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from projector_models import batch, tiny
from slmlp import add_projector, remove_projector
from slmlp.exports.add_projector import ProjectedClassifier
from slmlp.exports.heads import find_classifiers
from slmlp.runtime.errors import SlmlpError


class Heads(nn.Module):
    """A pooled convolution and whatever heads it is given; logits are those of every linear head, side by side."""

    def __init__(self, heads: nn.Module, name: str = "heads") -> None:
        super().__init__()
        self.body, self.name = (
            nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            name,
        )
        setattr(self, name, heads)

    def forward(self, x):
        h, heads = self.body(x), getattr(self, self.name)
        parts = (
            heads.values()
            if isinstance(heads, nn.ModuleDict)
            else heads
            if isinstance(heads, nn.ModuleList)
            else [heads]
        )
        return torch.cat([part(h) for part in parts], 1)


class TwoInside(nn.Module):
    """Two heads in a module of their own: from outside it looks like a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 3), nn.Linear(8, 4)

    def forward(self, h):
        return torch.cat([self.one(h), self.two(h)], 1)


def projected(model):
    return sorted(name for name, module in model.named_modules() if isinstance(module, ProjectedClassifier))


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (nn.ModuleDict({"a": nn.Linear(8, 3), "b": nn.Linear(8, 4)}), ["heads.a", "heads.b"]),
        (nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 4), nn.Linear(8, 2)]), ["heads.0", "heads.1", "heads.2"]),
        (nn.ModuleList([nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3)), nn.Linear(8, 4)]), ["heads.0.1", "heads.1"]),
        (nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), ["heads.2"]),  # a perceptron: its last layer
    ],
)
def test_every_head_gets_a_projector_and_loses_it(heads, expected):
    model, (x, _) = Heads(heads).eval(), batch(4)
    original = copy.deepcopy(model)
    add_projector(model)
    assert projected(model) == expected
    assert model(x).shape == original(x).shape
    bare = remove_projector(copy.deepcopy(model))
    assert not projected(bare)
    features = bare.body(x)
    if len(expected) > 1:  # what is left gives the features, once for each head
        assert torch.equal(bare(x), torch.cat([features] * len(expected), 1))
    again = remove_projector(model, num_classes=5)
    assert list(again.state_dict()) == list(original.state_dict())
    assert again(x).shape == (4, 5 * len(expected))


def test_a_distilled_model_of_timm_has_two_heads():
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7, img_size=32, depth=1).eval()
    x = batch(2)[0]
    add_projector(model)
    assert projected(model) == ["head", "head_dist"]
    assert model(x).shape == (2, 7)
    bare = remove_projector(model)
    assert bare(x).shape == (2, 192)
    assert torch.equal(bare(x), bare.forward_head(bare.forward_features(x), pre_logits=True))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: timm.create_model("crossvit_9_240", num_classes=7),
            r"different widths \(head.0 of 128, head.1 of 256\)",
        ),
        (lambda: Heads(nn.ModuleList([nn.Linear(8, 3), nn.Linear(4, 4)])), "different widths"),
        (lambda: Heads(TwoInside(), "classifier"), r"several classifiers \(classifier.one, classifier.two\)"),
        (lambda: Heads(nn.Linear(8, 3), "head_a"), None),
    ],
)
def test_heads_that_leave_no_encoder_are_refused(make, words):
    model = make()
    if words is None:
        model.head_b = nn.Linear(8, 3)
        words = r"several classifiers \(head_a, head_b\)"
    with pytest.raises(SlmlpError, match=words):
        add_projector(model)
    assert not projected(model)


def test_heads_can_be_named():
    model = Heads(TwoInside(), "classifier")
    add_projector(model, classifier=["classifier.one", "classifier.two"])
    assert projected(model) == ["classifier.one", "classifier.two"]
    with pytest.raises(SlmlpError, match=r"'classifier\.three'.*no such module"):
        add_projector(Heads(TwoInside(), "classifier"), classifier=["classifier.one", "classifier.three"])
    assert find_classifiers(timm.create_model("test_resnet", num_classes=2)) == ["fc"]


def step(model, optimizer, n=4):
    x, y = batch(n)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_an_optimizer_made_before_the_projector_is_seen_at_its_first_step():
    model = timm.create_model("test_resnet", num_classes=5)
    early = torch.optim.SGD(model.parameters(), 0.1)
    other = nn.Linear(2, 2)
    add_projector(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.optim.SGD(other.parameters(), 0.1).step()  # of another model
    with pytest.warns(UserWarning, match="does not hold the projector of ResNet"):
        step(model, early)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        step(model, early)
        right = tiny()
        step(right, torch.optim.AdamW(right.parameters()))


def test_a_projector_that_reset_classifier_took_out_is_missed():
    model = tiny()
    step(model, torch.optim.SGD(model.parameters(), 0.1))  # also after the first step
    with pytest.warns(UserWarning, match=r"ResNet\.fc is another layer now.*add_projector again") as told:
        model.reset_classifier(5)
    assert told[0].filename.endswith(("resnet.py", "classifier.py"))
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        step(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(SlmlpError, match=r"no projector to remove.*reset_classifier"):
        remove_projector(model)
    gone = tiny()
    gone.reset_classifier(0)  # the bare encoder, as remove_projector leaves it; to be trained it was not meant
    with pytest.warns(UserWarning, match="has lost the projector"):
        step(gone, torch.optim.SGD(gone.parameters(), 0.1))
    removed = remove_projector(tiny(), num_classes=5)
    with warnings.catch_warnings():  # taken out on purpose
        warnings.simplefilter("error")
        step(removed, torch.optim.SGD(removed.parameters(), 0.1))


@pytest.mark.parametrize(
    "lose",
    [
        lambda model: setattr(model, "fc", nn.Linear(96, 5)),
        lambda model: model.add_module("fc", nn.Sequential(nn.Dropout(0.1), nn.Linear(96, 5))),
        lambda model: setattr(model, "fc", model.fc.classifier),  # what stood behind the projector
    ],
)
def test_whatever_takes_the_place_of_the_projector_is_told_at_once(lose):
    model = tiny()
    kept = copy.deepcopy(model)
    with pytest.warns(UserWarning, match=r"ResNet\.fc is another layer now"):
        lose(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.fc = nn.Sequential(kept.fc)  # around it: the projector is still there
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(tiny())
        remove_projector(tiny(), num_classes=3)
        remove_projector(tiny()).fc = nn.Linear(96, 2)


def test_a_last_batch_of_one_image_is_one_line():
    model = add_projector(Heads(nn.Linear(8, 5), "fc")).train()
    with pytest.raises(SlmlpError, match=r"a batch of one image.*drop_last=True"):
        step(model, torch.optim.SGD(model.parameters(), 0.1), n=1)
    assert model.eval()(batch(1)[0]).shape == (1, 5)


def test_a_head_beside_the_one_that_timm_returns_is_refused():
    """VOLO adds half of what its aux_head gives: the projector before its head alone left what no longer ran."""
    model = timm.create_model("volo_d1_224", num_classes=5)
    with pytest.raises(SlmlpError, match=r"VOLO makes logits by head and by aux_head"):
        add_projector(model)
    assert not any("projector" in name for name, _ in model.named_modules())
    model.aux_head = None
    assert remove_projector(add_projector(model)).eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 384)
