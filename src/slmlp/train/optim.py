"""Parameter groups, the optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.config import Training
from slmlp.runtime.errors import SlmlpError
from slmlp.train.batches import Plan


@dataclass(frozen=True)
class Schedule:
    """The settings that the training loop reads."""

    rate: Callable[[int], float]  # step, counted from 0 -> learning rate
    seed: int
    use: str  # names what the model draws from the global generator with the seed
    base_lr: float  # as the user gave it, for messages
    or_else: str = ""  # what else helps where the loss is not finite
    check_from: float = math.inf  # first step after which a loss still that of guessing stops the run
    clip_norm: float | None = None  # largest norm of the gradient
    frozen_steps: int = 0  # steps at the start in which the model's encoder stays as it is
    frozen_statistics: bool = False  # whether the encoder's BatchNorm keeps the statistics that it came with
    accumulate: int = 1  # parts of a batch that pass the model one after the other
    recomputes: bool = False  # whether the encoder computes activations again on the way back
    compile: bool = False  # whether the model's forward pass is compiled


def schedule(cfg: Training, plan: Plan, seed: int) -> Schedule:
    """Return the schedule of pretraining.

    A loss that is still that of guessing stops the run after three times the warm-up, a fifth of the run and 300
    steps: earlier, strong augmentation and many classes may explain it.
    """
    total, warmup = plan.total, warmup_steps(plan.total, plan.steps_per_epoch, cfg)
    return Schedule(
        rate=lambda step: lr_at(step, total, warmup, cfg), seed=seed, use="dropout", base_lr=cfg.rate,
        or_else=" or --precision float32" if cfg.precision != "float32" else "",
        check_from=max(3 * warmup, total / 5, 300), clip_norm=cfg.clip_norm,
        frozen_steps=round(cfg.frozen_epochs * plan.steps_per_epoch), accumulate=cfg.accumulate,
        frozen_statistics=cfg.norm == "frozen",
        recomputes=cfg.activation_checkpointing, compile=cfg.compile,
    )  # fmt: skip


def parameter_groups(module: nn.Module, cfg: Training) -> list[dict[str, Any]]:
    """Return groups of weights: with weight decay, and biases and normalisation parameters (1-d) without, by default.

    ``adapt``: whether LARS scales the steps of a group; what is not decayed is not scaled either (SimCLR and BYOL
    leave biases and BatchNorm out of both). ``lr_scale``: the group's rate as a multiple of the schedule's, where
    ``layer_decay`` or ``head_rate`` is not 1; timm says which layer a weight of the encoder belongs to.

    Raises:
        SlmlpError: ``layer_decay`` for an encoder whose layers timm does not know.
    """
    if cfg.layer_decay == cfg.head_rate == 1 and cfg.optimizer != "adamw":
        return _by_decay(module.parameters(), cfg)
    backbone = _encoder(module).backbone
    assert isinstance(backbone, nn.Module)
    inside = {id(p) for p in backbone.parameters()}
    behind = _by_decay((p for p in module.parameters() if id(p) not in inside), cfg)
    return [*_of_backbone(backbone, cfg), *({**group, "lr_scale": cfg.head_rate} for group in behind)]


def _by_decay(parameters: Iterable[nn.Parameter], cfg: Training, spared: Container[int] = ()) -> list[dict[str, Any]]:
    """Return the trained parameters in two groups; those with ids in ``spared`` are not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in parameters:
        if parameter.requires_grad:
            exempt = (parameter.ndim <= 1 and not cfg.decay_norms_and_biases) or id(parameter) in spared
            (free if exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": cfg.decay, "adapt": True},
        {"params": free, "weight_decay": 0.0, "adapt": False},
    ]
    return [group for group in groups if group["params"]]


def _of_backbone(backbone: nn.Module, cfg: Training) -> list[dict[str, Any]]:
    """Return the groups of a network: by layer where their rates differ, the last layer's at the full rate.

    AdamW does not decay what the network itself exempts: position embeddings and class tokens of ViTs.
    """
    exempts = getattr(backbone, "no_weight_decay", None)
    names = set(exempts()) if callable(exempts) and cfg.optimizer == "adamw" else set()
    if cfg.layer_decay == 1:
        return _by_decay(
            backbone.parameters(), cfg, {id(p) for name, p in backbone.named_parameters() if name in names}
        )
    if not hasattr(backbone, "group_matcher"):
        raise SlmlpError(
            f"--layer-decay {cfg.layer_decay:g}: timm knows no layers of a {type(backbone).__name__}, so all its "
            "weights would be one group; leave it 1, or choose an encoder of timm"
        )
    groups = param_groups_layer_decay(
        backbone, cfg.decay, names, weight_decay_exclude_1d=not cfg.decay_norms_and_biases, layer_decay=cfg.layer_decay
    )
    return [{**group, "adapt": group["weight_decay"] > 0} for group in groups]


def build(module: nn.Module, cfg: Training) -> torch.optim.Optimizer:
    """Return the optimizer of the settings; the training loop sets the rate before every step.

    Raises:
        SlmlpError: settings for weights that the module does not have.
    """
    _check_behind(module, cfg)
    if cfg.norm == "frozen" and not any(isinstance(part, _BatchNorm) for part in _encoder(module).modules()):
        raise SlmlpError("--norm frozen: the encoder has no BatchNorm, and so no statistics to keep; leave it out")
    groups, nesterov = parameter_groups(module, cfg), cfg.nesterov and cfg.momentum > 0
    on_gpu = next(module.parameters()).is_cuda  # where a fused step is faster, and needs no answer in float16
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=cfg.betas, fused=on_gpu, foreach=not on_gpu)
    if cfg.optimizer == "lars":
        return LARS(groups, momentum=cfg.momentum, nesterov=nesterov)
    return torch.optim.SGD(groups, lr=0.0, momentum=cfg.momentum, nesterov=nesterov, fused=on_gpu, foreach=not on_gpu)


def _encoder(module: nn.Module) -> nn.Module:
    encoder = module.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def _check_behind(module: nn.Module, cfg: Training) -> None:
    """Refuse a rate, or epochs, of what lies behind the encoder where nothing there is trained."""
    named = {"head-rate": cfg.head_rate != 1, "frozen-epochs": cfg.frozen_epochs > 0}
    flag = next((f"--{name}" for name, given in named.items() if given), None)
    if flag is None:
        return
    inside = {id(p) for p in _encoder(module).parameters()}
    if not any(p.requires_grad and id(p) not in inside for p in module.parameters()):
        raise SlmlpError(
            f"{flag}: nothing behind the encoder of this method is trained, without a projector and a classifier; "
            "leave it out, or take --projector.depth 1"
        )


def warmup_steps(total: int, steps_per_epoch: int, cfg: Training) -> int:
    """Return the steps of linear warm-up: ``warmup_epochs``, at most a tenth of all."""
    return int(min(cfg.warmup_epochs * steps_per_epoch, total / 10))


def lr_at(step: int, total: int, warmup: int, cfg: Training) -> float:
    """Return the rate of step 0..total-1: linear warm-up to the peak, then the schedule.

    ``cosine``: half a cosine from the peak towards ``last_lr``. ``step``: the peak, divided by 10 at each share of
    training in ``milestones``.

    >>> cfg = Training(base_lr=1.0, batch_size=256)
    >>> [round(lr_at(s, 10, 2, cfg), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    >>> cfg = Training(base_lr=1.0, batch_size=256, schedule="step", milestones=(0.6, 0.8))
    >>> [round(lr_at(s, 10, 0, cfg), 3) for s in (0, 5, 6, 7, 8)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    peak = cfg.peak_lr
    if step < warmup:
        return peak * (step + 1) / warmup
    if cfg.schedule == "step":
        return peak * 0.1 ** sum(step >= round(share * total) for share in cfg.milestones)
    fall = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    return cfg.last_lr + (peak - cfg.last_lr) * fall


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al. 2017, arXiv 1708.03888), as SimCLR and BYOL use them.

    With ``g`` the gradient plus weight decay, each step is ``v <- momentum * v + lr * r * g``, ``w <- w - v``, where
    ``r = trust * |w| / |g|``; where either norm is 0 there is no adaptation and r is 1. The rate is inside the
    momentum (algorithm 1), so a change of rate acts on new gradients only. The source divides by
    ``|grad| + decay * |w|``; SimCLR and BYOL divide by ``|g|``, which differs by what their weight decay of about 1e-6
    contributes.

    A group with ``adapt`` False is plain SGD: biases and normalisation parameters in the sources.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        trust: float = 0.001,
    ) -> None:
        """Take parameters, or parameter groups, which may override any argument and ``adapt``.

        ``trust`` 0.001 is the source's (section 5, there called eta) and that of SimCLR, BYOL and SwAV.
        """
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov, "trust": trust,
            "adapt": True,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                self._step(moved, group)
        return loss

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for p in weights:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in weights]
        raw = [p.grad for p in weights if p.grad is not None]
        gradients = torch._foreach_add(raw, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            sizes = torch.stack(torch._foreach_norm(weights))
            norms = torch.stack(torch._foreach_norm(gradients))
            ratios = torch.where((sizes > 0) & (norms > 0), group["trust"] * sizes / norms, torch.ones_like(sizes))
            torch._foreach_mul_(gradients, list(ratios.unbind()))
        torch._foreach_mul_(gradients, group["lr"])
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        if group["nesterov"]:  # the gradient's own part, and the momentum as it will be a step on
            torch._foreach_add_(gradients, buffers, alpha=group["momentum"])
        torch._foreach_sub_(weights, gradients if group["nesterov"] else buffers)
