"""Build a network by name with random weights, with an optional stem for small images."""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from torch import nn

from slmlp.encoders.resnet10 import ResNet10
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import short

SMALL_STEM_AT = 64  # pixels


@dataclass(frozen=True)
class Dropped:
    """Probabilities of training: that an image skips the last block (stochastic depth), that a feature is zero."""

    path: float = 0.0
    features: float = 0.0

    @property
    def keywords(self) -> dict[str, float]:
        """By timm's words; none where nothing is dropped, since not every network knows them."""
        return {
            word: value for word, value in (("drop_path_rate", self.path), ("drop_rate", self.features)) if value > 0
        }


NOTHING = Dropped()


def choose_stem(stem: str, image_size: int) -> str:
    """Return ``small`` or ``standard``; ``auto`` takes the small one at 64 pixels and less."""
    return ("small" if image_size <= SMALL_STEM_AT else "standard") if stem == "auto" else stem


def backbone_of(
    name: str, image_size: int, stem: str, crop_size: int | None, dropped: Dropped = NOTHING
) -> tuple[nn.Module, int]:
    """Return a randomly initialised network without classifier and its width; see ``encoder.build``."""
    if name == "resnet10" and dropped.keywords:
        raise _without(name, dropped)
    if stem not in ("small", "standard"):
        raise unknown("stem", stem, ["small", "standard"])
    backbone = (
        ResNet10(stem == "small")
        if name == "resnet10"
        else _from_timm(name, image_size, stem, crop_size is not None, dropped)
    )
    backbone.eval()
    widths = []
    for side, option in ((image_size, "--image-size"), (crop_size, "--local-size")):
        if side is None:
            continue
        try:
            with torch.no_grad():
                widths.append(int(backbone(torch.zeros(1, 3, side, side)).shape[1]))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SlmlpError(
                f"encoder {name} cannot take images of {side} pixels with the {stem} stem: {short(error)}; "
                f"choose another {option} or --stem"
            ) from error
    backbone.train()
    return backbone, widths[0]


def _without(name: str, dropped: Dropped) -> SlmlpError:
    flags = " and ".join(
        flag for flag, value in (("--drop-path", dropped.path), ("--dropout", dropped.features)) if value > 0
    )
    return SlmlpError(f"{flags}: the network {name} does not take it; leave it out, or choose another --encoder")


def _from_timm(name: str, image_size: int, stem: str, flexible: bool, dropped: Dropped) -> nn.Module:
    if not timm.is_model(name):
        raise unknown("encoder", name, ["resnet10", *timm.list_models()])
    config = timm.get_pretrained_cfg(name)
    keywords: dict[str, object] = {"num_classes": 0, **dropped.keywords}
    if config is not None and config.fixed_input_size:
        keywords["img_size"] = image_size
        if flexible:  # ViTs know the first word, Swin the second
            keywords |= {"dynamic_img_size": True} if "vit" in name else {"strict_img_size": False}
    try:
        backbone: nn.Module = timm.create_model(name, **keywords)
        if stem == "small":
            backbone = _with_small_stem(backbone, name, keywords)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        if any(word in str(error) for word in dropped.keywords):
            raise _without(name, dropped) from error
        raise SlmlpError(
            f"encoder {name} cannot be built for {image_size} pixels with the {stem} stem: {short(error)}; "
            "choose another --image-size, or --stem standard"
        ) from error
    return backbone


def resize(backbone: nn.Module, size: int, source: str) -> None:
    """Make a network take images of another size, where it is bound to one: position embeddings are resampled by timm.

    ``source`` is what the user typed, for the error of a size that it cannot take.
    """
    set_size = getattr(backbone, "set_input_size", None)
    bound = bool((getattr(backbone, "pretrained_cfg", None) or {}).get("fixed_input_size"))
    training = backbone.training
    try:
        if bound and set_size is None:
            raise ValueError("timm cannot resize it")
        if bound and set_size is not None:
            set_size(img_size=(size, size))
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, size, size))
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise SlmlpError(
            f"{source} takes no images of {size} pixels ({short(error)}); give another size, or leave it out"
        ) from error
    backbone.train(training)


def _with_small_stem(backbone: nn.Module, name: str, keywords: dict[str, object]) -> nn.Module:
    """Return the network with a first convolution of stride 1 and no max-pool, or patches a quarter of the side."""
    first = str(backbone.pretrained_cfg["first_conv"])  # type: ignore[index]
    conv = backbone.get_submodule(first)
    if not isinstance(conv, nn.Conv2d):
        raise SlmlpError(
            f"encoder {name} has no small stem (its first layer {first} is no convolution); --stem standard"
        )
    if conv.kernel_size == conv.stride and conv.stride[0] > 1:  # patches: ViT, Swin, ConvNeXt
        return timm.create_model(name, **keywords, patch_size=max(2, conv.stride[0] // 4))  # type: ignore[no-any-return]
    new = nn.Conv2d(3, conv.out_channels, 3, stride=1, padding=1, bias=conv.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = first.rpartition(".")
    setattr(backbone.get_submodule(parent), leaf, new)
    if isinstance(getattr(backbone, "maxpool", None), nn.Module):
        backbone.maxpool = nn.Identity()
    return backbone
