"""Find the linear layers that make a model's logits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from torch import nn

from slmlp.runtime.errors import SlmlpError, few

HEADS = re.compile(r"^(fc|head|heads)$|classif|^head_")  # names of timm, torchvision, Hugging Face and most people
HEAD_WORD = re.compile(r"^[^.]*(head|classif)[^.]*$")  # in names of heads beside the one that timm returns
WRAPPED = ("", "timm_model")  # where a timm model may stand: alone, or inside the wrapper of transformers


def find_classifiers(model: nn.Module) -> list[str]:
    """Return the names of the linear layers that make a model's logits: one, or all heads that read one width.

    Raises:
        SlmlpError: none, several that cannot be told from other layers, or heads of features of different widths, which
            leave no single feature without them; the model's linear layers are named.
    """
    found = checked(model, _of_timm(model) or _by_name(model))
    linear = {name: child for name, child in model.named_modules() if isinstance(child, nn.Linear)}
    shapes = {(linear[name].in_features, linear[name].out_features) for name in found}
    others = [
        name
        for name, child in linear.items()
        if name not in found and HEAD_WORD.search(name) and (child.in_features, child.out_features) in shapes
    ]
    if others:
        raise SlmlpError(
            f"{type(model).__name__} makes logits by {few(found)} and by {few(others)}, and a projector before some of "
            "them would leave no single feature: build it without the others, or name the heads, classifier=[...]"
        )
    return found


def checked(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Return the names where they are linear layers that read features of one width; raise SlmlpError otherwise."""
    modules = dict(model.named_modules())
    for name in names:
        module = modules.get(name)
        if not isinstance(module, nn.Linear):
            kind = "no such module" if module is None else f"a {type(module).__name__}"
            raise SlmlpError(
                f"classifier {name!r} of {type(model).__name__} is {kind}, expected a Linear: {candidates(model)}"
            )
    widths = {name: modules[name].in_features for name in names}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{name} of {width}" for name, width in widths.items())
        raise SlmlpError(
            f"{type(model).__name__} has heads on features of different widths ({listed}), so that no single "
            "feature is left without them: take a model with one head, or name heads of one width (classifier=[...])"
        )
    return list(names)


def candidates(model: nn.Module) -> str:
    """Return what to do, with the names to choose from, last layers first."""
    names = [f"{n} ({m.in_features} to {m.out_features})" for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not names:
        return "it has no linear layer at all; a model that ends in nn.Linear is needed (in timm, num_classes above 0)"
    return f"give classifier=NAME, one of {few(names[::-1], 6)}, or a list of all heads"


def _of_timm(model: nn.Module) -> list[str]:
    """Return the names of what timm's ``get_classifier`` returns, where all of it is linear layers."""
    for prefix in WRAPPED:
        get = getattr(getattr(model, prefix, None) if prefix else model, "get_classifier", None)
        head = get() if callable(get) else None
        heads = [head] if isinstance(head, nn.Linear) else list(head) if isinstance(head, tuple | nn.ModuleList) else []
        if heads and all(isinstance(one, nn.Linear) for one in heads):
            return [name for name, module in model.named_modules() if any(module is one for one in heads)]
    return []


def _by_name(model: nn.Module) -> list[str]:
    """Return the linear layers of the one child that is called as classifiers are."""
    children = {child: list(_last(module, child)) for child, module in model.named_children() if HEADS.search(child)}
    children = {child: names for child, names in children.items() if names}
    if len(children) == 1:
        [(child, names)] = children.items()
        if len(names) == 1 or isinstance(model.get_submodule(child), nn.ModuleList | nn.ModuleDict):
            return names
    several = ", ".join(itertools.chain(*children.values()))
    what = f"several classifiers ({several})" if several else "no classifier that can be told from its other layers"
    raise SlmlpError(f"{type(model).__name__} has {what}: {candidates(model)}")


def _last(module: nn.Module, name: str) -> Iterator[str]:
    """Yield the linear layers that end a head: the last where each is as wide as the one before it gives, else all."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        for child, part in module.named_children():
            yield from _last(part, f"{name}.{child}")
        return
    linear = [(n, part) for n, part in module.named_modules() if isinstance(part, nn.Linear)]
    chain = all(a.out_features == b.in_features for (_, a), (_, b) in itertools.pairwise(linear))
    for n, _ in linear[-1:] if chain else linear:
        yield f"{name}.{n}" if n else name
