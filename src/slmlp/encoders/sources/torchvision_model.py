"""``torchvision:NAME``, ``torchvision:NAME@FILE``, ``torchvision:NAME@IMAGENET1K_V1``, ``torchvision:NAME@random``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders import weights
from slmlp.encoders.encoder import Encoder
from slmlp.encoders.matching import matched
from slmlp.encoders.preprocess import Preprocess
from slmlp.encoders.sources.check import checked
from slmlp.encoders.sources.preparing import Prepared, plain
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError, unknown

# its two Inception networks have classifiers at half depth, and normalise once more by themselves
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "transform_input": True, "init_weights": False},
    "inception_v3": {"aux_logits": False, "transform_input": True, "init_weights": False},
}
INTERPOLATIONS = {InterpolationMode.BICUBIC: "bicubic", InterpolationMode.BILINEAR: "bilinear"}


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return a torchvision classification network that ends before its last linear layer.

    Preprocessing is that of the weights: of the entry of torchvision whose file has the name of the one given, or of
    the newest entry.
    """
    name, _, choice = source.removeprefix("torchvision:").partition("@")
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise unknown("torchvision model", name, names)
    entries = list(torchvision.models.get_model_weights(name))
    entry = _entry(entries, choice)
    prepared = _prepared(entry, source).override(overrides)
    options = OPTIONS.get(name, {})
    state = None if choice == "random" else _state(source, entry, choice, name)
    if name.startswith("vit_"):  # its position embedding is made for one size
        trained = None if state is None else _side(state)
        if trained not in (None, prepared.preprocess.size) and (overrides is None or overrides.size is None):
            prepared = prepared.at(trained, "the weights' position embedding")
        options = {"image_size": prepared.preprocess.size}
    with seeds.seeded(seed, "encoder"):
        backbone, _ = _without_classifier(name, source, options)
    encoder = checked(backbone, f"torchvision:{name}", prepared, source)
    if state is not None:
        encoder.load_weights(state, source)
    return encoder


def _without_classifier(name: str, source: str, options: dict[str, Any]) -> tuple[nn.Module, str]:
    """Return a network with random weights that ends before its classifier, and the classifier's name."""
    backbone: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    classifier = _classifier(backbone, source)
    parent, _, leaf = classifier.rpartition(".")
    setattr(backbone.get_submodule(parent), leaf, nn.Identity())
    return backbone, classifier


def _entry(entries: list[Any], choice: str) -> Any:
    """Return torchvision's weights entry by its name or its file's name, or else the newest."""
    file = Path(weights.file_and_part(choice)[0]).name
    for entry in entries:
        if choice in (entry.name, f"{type(entry).__name__}.{entry.name}") or Path(entry.url).name == file:
            return entry
    return type(entries[0]).DEFAULT if entries else None


def _prepared(entry: Any, source: str) -> Prepared:
    """Return the preprocessing of a weights entry, with the entry's name."""
    if entry is None:
        return plain(None, "default")
    transform = entry.transforms()
    interpolation = INTERPOLATIONS.get(transform.interpolation)
    if interpolation is None:
        raise SlmlpError(f"{source}: the interpolation {transform.interpolation} of its weights is not known")
    (size,), (side,) = transform.crop_size, transform.resize_size
    preprocess = Preprocess(int(size), int(side), tuple(transform.mean), tuple(transform.std), interpolation)
    who = f"torchvision's transform of {entry.name}"
    return Prepared(preprocess, dict.fromkeys(("size", "side", "mean", "std", "interpolation", "squash"), who))


def _state(source: str, entry: Any, choice: str, name: str) -> dict[str, Tensor]:
    """Return the weights without the classifier's, of a file or of torchvision's download."""
    with torch.device("meta"):
        network, classifier = _without_classifier(name, source, OPTIONS.get(name, {}))
    is_file = Path(weights.file_and_part(choice)[0]).is_file()
    if choice and entry is not None and choice.rpartition(".")[2] != entry.name and not is_file:
        names = ", ".join(e.name for e in type(entry))
        raise SlmlpError(f"{source}: no file {choice}, and torchvision's weights of it are {names}")
    if is_file or entry is None:
        return matched(choice, network.state_dict(), source, [classifier])
    try:
        return weights.without(dict(entry.get_state_dict(progress=False, check_hash=True)), [classifier])
    except Exception as error:  # many kinds, by what is wrong with the network
        raise weights.undownloaded(source, error, f"{source.partition('@')[0]}@FILE") from error


def _side(state: dict[str, Tensor]) -> int | None:
    """Return the side of the images that a ViT was trained on, by its position embedding and its patches."""
    table, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if table is None or patches is None or table.ndim != 3 or patches.ndim != 4:
        return None
    rows = math.isqrt(table.shape[1] - 1)
    return rows * patches.shape[-1] if rows * rows + 1 == table.shape[1] else None


def _classifier(backbone: nn.Module, source: str) -> str:
    """Return the name of the last linear layer, which makes a score of each class."""
    linear = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    name, last = linear[-1] if linear else ("", None)
    if last is None or last.out_features != 1000:
        raise SlmlpError(
            f"{source} does not end in a linear classifier of 1,000 classes, so that its features cannot be told; take "
            "another network, or write module:function"
        )
    return name
