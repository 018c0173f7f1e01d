"""Add the projector of SL-MLP before the classifier of any model, and remove it again."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from torch import Tensor, nn

from slmlp import config
from slmlp.encoders.projector import projector as build_projector
from slmlp.runtime.errors import SlmlpError

M = TypeVar("M", bound=nn.Module)

HEADS = re.compile(r"^(fc|head|heads)$|classif|^head_")  # names of timm, torchvision, Hugging Face and most people
WRAPPED = ("", "timm_model")  # where a timm model may stand: alone, or inside the wrapper of transformers


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
        logits: Tensor = self.classifier(self.projector(h))
        return logits


def add_projector(model: M, projector: config.Projector | None = None, *, classifier: str | None = None) -> M:
    """Put a projector before a model's classifier, in place, and return the model.

    The classifier is found in timm's models, torchvision's and Hugging Face's image classifiers, and where a child is
    called fc, head, heads or classifier; else name it. It stays as it is where the projector's output has the encoder's
    width, which it has unless ``projector`` says otherwise; else a fresh one takes its place. Weights are drawn from
    torch's global generator. Call it before the optimizer, EMA copies, DDP and ``torch.compile`` take the model.

    Args:
        model: from images to logits, with an ``nn.Linear`` as its last layer.
        projector: its settings; default: SL-MLP's, Linear - BatchNorm - ReLU - Linear of the encoder's width.
        classifier: name of the linear layer that makes logits, where it cannot be found.

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
    name = classifier if classifier is not None else find_classifier(model)
    linear = dict(model.named_modules()).get(name)
    if not isinstance(linear, nn.Linear):
        kind = "no such module" if linear is None else f"a {type(linear).__name__}"
        raise SlmlpError(
            f"classifier {name!r} of {type(model).__name__} is {kind}, expected a Linear: {_candidates(model)}"
        )
    spec = projector if projector is not None else config.method_config("sl-mlp").projector
    dim = linear.in_features
    layers, width = build_projector(dim, spec)
    layers = layers.to(linear.weight.device, linear.weight.dtype).train(linear.training)
    if width != dim:
        linear = _linear(width, linear.out_features, linear)
    _put(model, name, ProjectedClassifier(layers, linear, dim))
    return model


def remove_projector(model: nn.Module, num_classes: int | None = None) -> Any:
    """Remove projector and classifier in place and return the bare encoder, without DDP or compile wrappers.

    What is left has its original key names and gives features (N, D). The classifier goes too, since it was trained on
    the projector's output; with ``num_classes`` a fresh one takes its place, under its original name.
    """
    model = bare(model)
    heads = _projected(model)
    if not heads:
        raise SlmlpError(f"{type(model).__name__} has no projector to remove; add_projector(model) puts one in")
    for name, projected in heads.items():
        fresh: nn.Module = nn.Identity()
        if num_classes is not None:
            fresh = _linear(projected.in_features, num_classes, projected.classifier)
        _put(model, name, fresh)
    _update_num_classes(model, num_classes)
    return model


def find_classifier(model: nn.Module) -> str:
    """Return the name of the linear layer that makes a model's logits.

    Raises:
        SlmlpError: none, or several; the model's linear layers are named.
    """
    for prefix in WRAPPED:
        timm_model = getattr(model, prefix, None) if prefix else model
        get = getattr(timm_model, "get_classifier", None)
        if callable(get):
            head = get()
            if isinstance(head, nn.Linear):
                return str(next(name for name, module in model.named_modules() if module is head))
    candidates = []
    for child, module in model.named_children():
        linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        if HEADS.search(child) and linear:
            candidates.append(f"{child}.{linear[-1]}" if linear[-1] else child)
    if len(candidates) == 1:
        return candidates[0]
    what = (
        f"several classifiers ({', '.join(candidates)})"
        if candidates
        else ("no classifier that can be told from its other layers")
    )
    raise SlmlpError(f"{type(model).__name__} has {what}: {_candidates(model)}")


def bare(model: nn.Module) -> nn.Module:
    """Return a model without the wrappers of DDP and ``torch.compile``."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _candidates(model: nn.Module) -> str:
    """Return what to do, with the names to choose from, last layers first."""
    names = [f"{n} ({m.in_features} to {m.out_features})" for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not names:
        return "it has no linear layer at all; a model that ends in nn.Linear is needed (in timm, num_classes above 0)"
    listed = ", ".join(reversed(names[-6:])) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
    return f"give classifier=NAME, one of {listed}"


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
