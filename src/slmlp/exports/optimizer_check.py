"""Warn when another head takes a projector out, and once when an optimizer steps without it."""

from __future__ import annotations

import functools
import warnings
import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

# model -> its projectors, until the first step of an optimizer that holds a parameter of it
_unchecked: weakref.WeakKeyDictionary[nn.Module, list[weakref.ref[nn.Module]]] = weakref.WeakKeyDictionary()
_known: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # all projectors in a model, trained ones too


def check_optimizers(model: nn.Module, projectors: list[nn.Module]) -> None:
    """Check the first step of an optimizer that holds a parameter of the model, and every new head.

    An optimizer made before the projector was added would leave the projector as it was drawn, and
    ``reset_classifier`` takes it out; training then goes on without it, and without a word from torch.
    """
    _unchecked[model] = [weakref.ref(projector) for projector in projectors]
    _known.update(projectors)
    _register()


def stop_checking(model: nn.Module) -> None:
    """Check a model no more whose projectors are taken out on purpose."""
    _unchecked.pop(model, None)
    for module in model.modules():
        _known.discard(module)


@functools.cache
def _register() -> None:
    # once per process: a hook cannot take itself out while hooks are called
    register_optimizer_step_pre_hook(_before_step)
    register_module_module_registration_hook(_replaced)


def _replaced(parent: nn.Module, name: str, new: nn.Module | None) -> None:
    """Warn where a module with a projector in it gives way to one without; a bare encoder is left by ``Identity``."""
    old = parent._modules.get(name)
    if old is None or old is new or new is None or isinstance(new, nn.Identity) or not _known:
        return
    lost = {module for module in old.modules() if module in _known} - set(new.modules())
    if lost:
        _known.difference_update(lost)
        for model in [model for model, held in _unchecked.items() if any(one() in lost for one in held)]:
            _unchecked.pop(model)  # one warning is enough
        warnings.warn(
            f"{type(parent).__name__}.{name} is another layer now, and the projector that add_projector put there is "
            "gone (reset_classifier does this): call add_projector again, and make the optimizer after it; where it is "
            "meant, remove_projector(model, num_classes=N) gives the encoder a new classifier",
            UserWarning,
            stacklevel=3,
        )


def _before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    if not _unchecked:
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for model in list(_unchecked):
        if any(id(parameter) in held for parameter in model.parameters()):
            message = _problem(model, held)
            _unchecked.pop(model)
            if message:
                warnings.warn(message, UserWarning, stacklevel=4)


def _problem(model: nn.Module, held: set[int]) -> str | None:
    """Return what is wrong with training ``model`` by an optimizer of these parameters."""
    inside, name = {id(module) for module in model.modules()}, type(model).__name__
    projectors = [reference() for reference in _unchecked[model]]
    if any(projector is None or id(projector) not in inside for projector in projectors):
        return (
            f"{name} has lost the projector that add_projector gave it (reset_classifier or another head takes it "
            "out): call add_projector again, and make the optimizer after it"
        )
    if any(id(parameter) not in held for projector in projectors if projector for parameter in projector.parameters()):
        return (
            f"the optimizer does not hold the projector of {name}, which will not be trained: make it after "
            "add_projector"
        )
    return None
