"""Add the projector of SL-MLP before the classifier of any model, and remove it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from slmlp import config
from slmlp.encoders.projector import projector as build_projector
from slmlp.exports.heads import checked, find_classifiers
from slmlp.exports.optimizer_check import check_optimizers, stop_checking
from slmlp.runtime.errors import SlmlpError

M = TypeVar("M", bound=nn.Module)


class ProjectedClassifier(nn.Module):
    """A projector and the classifier behind it, in the classifier's place; features (N, D) -> logits (N, C)."""

    def __init__(self, projector: nn.Sequential, classifier: nn.Linear, dim: int) -> None:
        super().__init__()
        self.projector, self.classifier = projector, classifier
        self.in_features, self.out_features = dim, classifier.out_features

    def forward(self, h: Tensor) -> Tensor:
        """Return logits (N, C)."""
        if h.ndim != 2:
            raise SlmlpError(
                f"the projector takes pooled features (N, D), and this classifier is fed {tuple(h.shape)}; pool "
                "first, or name another classifier"
            )
        if self.training and len(h) == 1 and any(isinstance(m, nn.BatchNorm1d) for m in self.projector):
            raise SlmlpError(
                "a batch of one image cannot pass the projector's BatchNorm in training: leave the last batch out "
                "(DataLoader(..., drop_last=True))"
            )
        logits: Tensor = self.classifier(self.projector(h))
        return logits


def add_projector(
    model: M, projector: config.Projector | None = None, *, classifier: str | Sequence[str] | None = None
) -> M:
    """Put a projector before a model's classifier, in place, and return the model.

    Of several heads on features of one width (a distilled DeiT, an ``nn.ModuleDict`` of tasks) each gets its own.

    The classifier is found in timm's models, torchvision's and Hugging Face's image classifiers, and where a child is
    called fc, head, heads or classifier; else name it. It stays as it is where the projector's output has the encoder's
    width, which it has unless ``projector`` says otherwise; else a fresh one takes its place. Weights are drawn from
    torch's global generator. Call it before the optimizer, EMA copies, DDP and ``torch.compile`` take the model.

    Args:
        model: from images to logits, with an ``nn.Linear`` as its last layer.
        projector: its settings; default: SL-MLP's, Linear - BatchNorm - ReLU - Linear of the encoder's width.
        classifier: name of the linear layer that makes logits, where it cannot be found; or of all of them.

    >>> import timm, torch
    >>> model = add_projector(timm.create_model("test_resnet", num_classes=7))
    >>> model(torch.zeros(2, 3, 32, 32)).shape, [name for name, _ in model.fc.named_children()]
    (torch.Size([2, 7]), ['projector', 'classifier'])
    >>> remove_projector(model)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 96])
    """
    if bare(model) is not model:
        raise SlmlpError(
            "add the projector before the model is wrapped (DDP, torch.compile): add_projector(model.module)"
        )
    if _projected(model):
        raise SlmlpError(f"{type(model).__name__} has a projector already; remove_projector(model) takes it out")
    names = [classifier] if isinstance(classifier, str) else classifier
    names = checked(model, names) if names is not None else find_classifiers(model)
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        _put(model, name, _projected_classifier(linear, projector))
    check_optimizers(model, list(_projected(model).values()))
    return model


def _projected_classifier(linear: nn.Linear, projector: config.Projector | None) -> ProjectedClassifier:
    spec = projector if projector is not None else config.method_config("sl-mlp").projector
    dim = linear.in_features
    layers, width = build_projector(dim, spec)
    layers = layers.to(linear.weight.device, linear.weight.dtype).train(linear.training)
    if width != dim:
        linear = _linear(width, linear.out_features, linear)
    return ProjectedClassifier(layers, linear, dim).train(linear.training)


def remove_projector(model: nn.Module, num_classes: int | None = None) -> Any:
    """Remove projector and classifier in place and return the bare encoder, without DDP or compile wrappers.

    What is left has its original key names and gives features (N, D). The classifier goes too, since it was trained on
    the projector's output; with ``num_classes`` a fresh one takes its place, under its original name.
    """
    model = bare(model)
    heads = _projected(model)
    if not heads:
        raise SlmlpError(
            f"{type(model).__name__} has no projector to remove: add_projector(model) puts one in, and "
            "reset_classifier or another head takes it out"
        )
    stop_checking(model)
    for name, projected in heads.items():
        fresh: nn.Module = nn.Identity()
        if num_classes is not None:
            fresh = _linear(projected.in_features, num_classes, projected.classifier)
        _put(model, name, fresh)
    _update_num_classes(model, num_classes)
    return model


def bare(model: nn.Module) -> nn.Module:
    """Return a model without the wrappers of DDP and ``torch.compile``."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _projected(model: nn.Module) -> dict[str, ProjectedClassifier]:
    return {name: module for name, module in model.named_modules() if isinstance(module, ProjectedClassifier)}


def _linear(width: int, out: int, like: nn.Linear) -> nn.Linear:
    """Return a fresh linear layer on the device, of the type and in the mode of another."""
    weight = like.weight
    fresh = nn.Linear(width, out, bias=like.bias is not None, device=weight.device, dtype=weight.dtype)
    return fresh.train(like.training)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _update_num_classes(model: nn.Module, num_classes: int | None) -> None:
    """Update the number of classes that models of timm and transformers record."""
    attributes: Any = model
    if isinstance(getattr(attributes, "num_classes", None), int):
        attributes.num_classes = num_classes or 0
    settings: Any = getattr(attributes, "config", None)
    if num_classes is not None and hasattr(settings, "num_labels"):
        settings.num_labels = attributes.num_labels = num_classes
