"""add_projector and remove_projector: the classifier is fed by the projector, and what is left is the bare encoder."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.utils import ModelEmaV3
from torch import nn

from dist_launch import ended, started
from projector_models import batch, tiny
from slmlp import add_projector, config, remove_projector
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

ROOT = Path(__file__).parents[1]


class Own(nn.Module):
    """A user's network, whose last layer has a name that says nothing."""

    def __init__(self, **extra: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8))
        self.out = nn.Linear(8, 4)
        for name, module in extra.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.out(self.body(x))


def _hf(kind, **settings):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    made = getattr(transformers, f"{kind}Config")(num_labels=7, image_size=32, **settings)
    return getattr(transformers, f"{kind}ForImageClassification")(made)


def _timm_in_transformers():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    made = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=7)
    return transformers.TimmWrapperForImageClassification(made)


VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
MODELS = {
    "timm resnet": (lambda: timm.create_model("test_resnet", num_classes=7), "fc"),
    "timm vit": (lambda: timm.create_model("test_vit", num_classes=7, img_size=32), "head"),
    "timm convnext": (lambda: timm.create_model("test_convnext", num_classes=7), "head.fc"),
    "timm efficientnet": (lambda: timm.create_model("test_efficientnet", num_classes=7), "classifier"),
    "torchvision resnet": (lambda: torchvision.models.resnet18(num_classes=7), "fc"),
    "torchvision mobilenet": (lambda: torchvision.models.mobilenet_v3_small(num_classes=7), "classifier.3"),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=7),
        "heads.head",
    ),
    "hf vit": (lambda: _hf("ViT", **VIT), "classifier"),
    "hf resnet": (
        lambda: _hf("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        "classifier.1",
    ),
    "hf timm": (_timm_in_transformers, "timm_model.fc"),
}


def logits(model, x):
    found = model(x)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_is_found_fed_by_the_projector_and_removed(name):
    make, place = MODELS[name]
    with seeds.seeded(0, "model"):
        original = make().eval()
    model, x = copy.deepcopy(original), batch(4)[0]
    keys = list(original.state_dict())
    assert add_projector(model) is model
    projected = model.get_submodule(place)
    linear, norm, _, last = projected.projector
    dim = projected.in_features
    assert [type(part) for part in projected.projector] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert (linear.in_features, linear.out_features, last.out_features) == (dim, dim, dim)
    assert set(keys) - set(model.state_dict()) == {f"{place}.weight", f"{place}.bias"}
    found = logits(model.eval(), x)
    bare = remove_projector(copy.deepcopy(model))
    h = logits(bare, x)
    assert h.shape == (4, dim)
    with torch.no_grad():  # by hand: normalisation with its first statistics is a division by sqrt(1 + eps)
        z = last((linear(h) / (1 + norm.eps) ** 0.5).relu())
        torch.testing.assert_close(found, F.linear(z, projected.classifier.weight, projected.classifier.bias))
        expected = nn.functional.linear(h, projected.classifier.weight, projected.classifier.bias)
        torch.testing.assert_close(logits(original, x), expected)  # encoder and classifier are the ones that were there
    assert list(bare.state_dict()) == [k for k in keys if k not in (f"{place}.weight", f"{place}.bias")]
    assert all(torch.equal(value, original.state_dict()[k]) for k, value in bare.state_dict().items())
    again = remove_projector(model, num_classes=3)
    assert list(again.state_dict()) == keys
    assert logits(again, x).shape == (4, 3)


def test_a_width_of_its_own_takes_a_fresh_classifier():
    spec = config.Projector(depth=2, hidden=12, out=10, norm="layer", act="gelu")
    model = tiny(projector=spec)
    assert (model.fc.projector[0].out_features, model.fc.classifier.in_features) == (12, 10)
    assert model(batch(2)[0]).shape == (2, 5)
    headless = add_projector(Own(out=nn.Linear(8, 4, bias=False)), spec, classifier="out")
    assert headless.out.classifier.bias is None
    half = add_projector(Own().to(torch.float64).eval(), classifier="out")
    assert half.out.projector[0].weight.dtype == torch.float64
    assert not half.out.projector[1].training


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: Own(), {}, ["Own has no classifier", "classifier=NAME", "out (8 to 4), body.4 (6 to 8)"]),
        (lambda: Own(), {"classifier": "body.0"}, ["'body.0' of Own is a Conv2d, expected a Linear"]),
        (lambda: Own(), {"classifier": "fc"}, ["no such module", "out (8 to 4)"]),
        (lambda: Own(fc=nn.Linear(8, 4), head=nn.Linear(8, 4)), {}, ["several classifiers (fc, head)"]),
        (lambda: timm.create_model("test_vit", num_classes=0, img_size=32), {}, ["no classifier", "classifier=NAME"]),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), {}, ["no linear layer at all"]),
        (lambda: torchvision.models.squeezenet1_1(num_classes=3), {}, ["no linear layer at all"]),
        (tiny, {}, ["has a projector already"]),
        (lambda: torch.compile(Own(), backend="eager"), {}, ["before the model is wrapped"]),
    ],
)
def test_a_model_without_one_classifier_is_one_line(make, options, words):
    with pytest.raises(SlmlpError) as caught:
        add_projector(make(), **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def test_what_else_is_refused():
    with pytest.raises(SlmlpError, match="Own has no projector to remove"):
        remove_projector(Own())
    model = add_projector(Own(), classifier="out")
    with pytest.raises(SlmlpError, match=r"pooled features \(N, D\).*\(2, 5, 8\)"):
        model.out(torch.zeros(2, 5, 8))


def _step(model, optimizer, seed):
    x, y = batch(8)
    loss = F.cross_entropy(model(x.roll(seed, 0)), y.roll(seed, 0))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_training_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = [_step(model, optimizer, i) for i in range(2)]
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c.pth")
    torch.save(model, tmp_path / "whole.pth")
    losses += [_step(model, optimizer, i) for i in range(2, 4)]
    for other in (tiny(seed=1), torch.load(tmp_path / "whole.pth", weights_only=False)):
        saved = torch.load(tmp_path / "c.pth", weights_only=True)  # anew, since the optimizer writes into what it loads
        other.load_state_dict(saved["model"], strict=True)
        again = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
        again.load_state_dict(saved["optimizer"])
        assert [_step(other, again, i) for i in range(2, 4)] == losses[2:]
    assert losses[3] != losses[2]


def test_activation_checkpointing_gives_the_same_gradients():
    x, y = batch(4)
    grads = []
    for on in (False, True):
        model = tiny()
        model.set_grad_checkpointing(on)
        F.cross_entropy(model(x), y).backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    for k, g in grads[0].items():
        torch.testing.assert_close(grads[1][k], g)
    assert grads[0]["fc.projector.0.weight"].abs().sum() > 0


def test_an_ema_copy_follows_and_is_removed_by_itself():
    model = tiny()
    ema = ModelEmaV3(model, decay=0.5)
    before = model.fc.projector[0].weight.detach().clone()
    _step(model, torch.optim.SGD(model.parameters(), lr=0.1), 0)
    ema.update(model)
    after = model.fc.projector[0].weight.detach()
    torch.testing.assert_close(ema.module.fc.projector[0].weight, 0.5 * before + 0.5 * after)
    bare = remove_projector(ema.module)
    assert bare.state_dict().keys() == timm.create_model("test_resnet", num_classes=0).state_dict().keys()
    assert model(batch(2)[0]).shape == (2, 5)  # the model itself keeps its projector


@pytest.mark.slow
def test_it_compiles_as_one_graph_and_comes_out_of_it():
    model, x = tiny().eval(), batch(2)[0]
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    bare = remove_projector(compiled)
    assert not hasattr(bare, "_orig_mod")
    assert bare.state_dict().keys() == timm.create_model("test_resnet", num_classes=0).state_dict().keys()


@pytest.mark.slow
def test_two_processes_of_ddp_train_it_as_one_does(tmp_path):
    out = tmp_path / "out.pth"
    for code, _, said in ended(started(2, ROOT / "tests" / "projector_ddp.py", out)):
        assert code == 0, said
    found = torch.load(out, weights_only=True)
    model, (x, y) = tiny(), batch(8)
    # by hand: the mean of both halves' gradients, each half normalised by its own statistics
    sums = {k: torch.zeros_like(p) for k, p in model.named_parameters()}
    for half in (slice(0, 4), slice(4, 8)):
        one = tiny()
        F.cross_entropy(one(x[half]), y[half]).backward()
        for k, p in one.named_parameters():
            sums[k] += p.grad / 2
    assert found["grads"].keys() == sums.keys()
    for k, g in sums.items():
        torch.testing.assert_close(found["grads"][k], g)
    assert found["encoder"].keys() == timm.create_model("test_resnet", num_classes=0).state_dict().keys()


PAGE = (ROOT / "docs" / "add_projector.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = {"timm": 1, "pytorch_lightning": 2, "transformers": 3}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the three libraries about themselves
@pytest.mark.parametrize("library", EXAMPLES)
def test_the_examples_of_the_page_run(library, tmp_path, monkeypatch):
    pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "transformers":
        pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in (BLOCKS[0], BLOCKS[EXAMPLES[library]]):
        exec(block, names)
    encoder = names["encoder"]
    assert not [
        key for key in encoder.state_dict() if "projector" in key or "classifier" in key or key.startswith("fc")
    ]
    assert logits(encoder.eval(), names["x"][:3]).ndim == 2
    assert any(tmp_path.iterdir())


def test_every_example_of_the_page_is_run():
    assert len(BLOCKS) == 1 + len(EXAMPLES)
