"""Features from any layer of an encoder: stages or blocks, the output, and the projector's layers.

- ``stage1`` ...: stages of a convnet or a Swin; of a ResNet its stem and four layers. The vector is the mean over the
  map.
- ``block1`` ...: blocks of a ViT. The vector is the class token where the network reads its feature from one, else the
  mean over tokens.
- ``output``: the encoder's own feature.
- ``projector.hidden``: what the last Linear of the projector reads.
- ``projector.output``: the embedding that the loss saw.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from slmlp.encoders.encoder import Encoder
from slmlp.runtime.errors import SlmlpError, unknown

OUTPUT, HIDDEN, EMBEDDING = "output", "projector.hidden", "projector.output"
PROJECTOR = (HIDDEN, EMBEDDING)
TORCHVISION_CHILDREN = ("encoder.layers", "features")  # of its ViTs, and of its other networks
CHANNELS_LAST = ("SwinTransformer", "SwinTransformerV2", "MambaOut")  # networks whose maps are (N, H, W, C)


def names(encoder: Encoder, projector: nn.Module | None = None) -> tuple[str, ...]:
    """Return the names of the layers whose features are available, first to last."""
    behind: tuple[str, ...] = ()
    if isinstance(projector, nn.Sequential):
        behind = PROJECTOR if _last_linear(projector) else (EMBEDDING,)
    return (*_taps(encoder.backbone), OUTPUT, *behind)


def outputs(
    encoder: Encoder, x: Tensor, wanted: Sequence[str], projector: nn.Module | None = None
) -> dict[str, Tensor]:
    """Return the features (N, D_k) of normalised images (N, 3, S, S) at each layer of ``wanted``, in one pass."""
    check(encoder, wanted, projector)
    taken: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        taps = _taps(encoder.backbone)
        for name in wanted:
            if name in taps:
                stack.enter_context(_hook(encoder.backbone, taps[name], name, taken))
        taken[OUTPUT] = h = encoder(x)
        if set(wanted) & set(PROJECTOR):
            assert isinstance(projector, nn.Sequential)
            projector.to(h.device)
            last = _last_linear(projector)
            inside = projector[:last] if last else projector
            taken[HIDDEN] = hidden = inside(h)
            taken[EMBEDDING] = projector[last:](hidden) if last else hidden
    return {name: taken[name] for name in wanted}


def check(encoder: Encoder, wanted: Sequence[str], projector: nn.Module | None = None) -> None:
    """Raise SlmlpError for layers that encoder and projector do not have, with the nearest name."""
    known = names(encoder, projector)
    for name in wanted:
        if name in known:
            continue
        if name in PROJECTOR and projector is None:
            raise SlmlpError(
                f"layer {name}: {encoder.origin.source} keeps no projector (plain SL and networks from "
                f"elsewhere have none); its layers are {', '.join(known)}"
            )
        raise unknown(f"layer of {encoder.origin.source}", name, known)


def widths(encoder: Encoder, wanted: Sequence[str], projector: nn.Module | None = None) -> dict[str, int]:
    """Return the number of features of each layer, by a pass over one grey image where it is not known."""
    if set(wanted) <= {OUTPUT}:
        return dict.fromkeys(wanted, encoder.dim)
    first = next(encoder.parameters(), torch.zeros(0))
    size, training = encoder.preprocess.size, encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            maps = outputs(encoder, torch.zeros(1, 3, size, size, device=first.device), wanted, projector)
    finally:
        encoder.train(training)
    return {name: int(h.shape[1]) for name, h in maps.items()}


def projector_marks(projector: nn.Module | None, name: str) -> list[str]:
    """Return the hash of the projector's weights where a layer's features depend on them, for keys of caches."""
    if name not in PROJECTOR or projector is None:
        return []
    from slmlp.runtime import files

    state = sorted(projector.state_dict().items())
    return [files.sha256(v.detach().cpu().contiguous().numpy().tobytes() for _, v in state)]


def _taps(backbone: nn.Module) -> dict[str, str]:
    """Return layer -> the submodule whose output it is, first to last; empty for a network of unknown structure."""
    info = getattr(backbone, "feature_info", None)
    modules = dict(backbone.named_modules())
    entries = [entry for entry in info if entry.get("module") in modules] if isinstance(info, list) else []
    if entries:  # timm's, and resnet10's
        # a network of one resolution throughout (ViT, MLP-Mixer) is blocks, one that shrinks its maps is stages
        tokens = len(entries) > 1 and len({entry.get("reduction") for entry in entries}) == 1
        return _numbered("block" if tokens else "stage", [entry["module"] for entry in entries])
    if isinstance(modules.get("layer4"), nn.Sequential) and "relu" in modules:  # torchvision's ResNets
        return _numbered("stage", ["relu", "layer1", "layer2", "layer3", "layer4"])
    for name in TORCHVISION_CHILDREN:
        if isinstance(modules.get(name), nn.Sequential):
            children = [f"{name}.{child}" for child, _ in modules[name].named_children()]
            return _numbered("block" if name == "encoder.layers" else "stage", children)
    return {}


def _numbered(word: str, modules: Sequence[str]) -> dict[str, str]:
    return {f"{word}{i}": module for i, module in enumerate(modules, start=1)}


def _class_token(backbone: nn.Module) -> bool:
    """Return whether the network reads its feature from a class token: timm says so, torchvision's ViTs all do."""
    if hasattr(backbone, "global_pool") and hasattr(backbone, "num_prefix_tokens"):
        return getattr(backbone, "cls_token", None) is not None and bool(backbone.global_pool == "token")
    return hasattr(backbone, "class_token")


@contextlib.contextmanager
def _hook(backbone: nn.Module, tap: str, name: str, taken: dict[str, Tensor]) -> Iterator[None]:
    """Pool a submodule's output in a forward hook, before a later in-place operation changes it."""

    def pool_output(module: nn.Module, inputs: object, output: object) -> None:
        out = output[0] if isinstance(output, tuple) else output
        assert isinstance(out, Tensor)
        taken[name] = _pool(backbone, out)

    handle = backbone.get_submodule(tap).register_forward_hook(pool_output)
    try:
        yield
    finally:
        handle.remove()


def _pool(backbone: nn.Module, x: Tensor) -> Tensor:
    """Return float32 (N, C) of a square map (N, C, S, S) or (N, S, S, C), or of tokens (N, T, C)."""
    if x.ndim == 4:
        _, a, b, c = x.shape
        # only a map as deep as it is wide does not tell its own layout
        last = a == b and (b != c or type(backbone).__name__ in CHANNELS_LAST)
        return x.mean(dim=(1, 2) if last else (2, 3), dtype=torch.float32)
    if x.ndim == 3:
        if _class_token(backbone):
            return x[:, 0].float()
        return x[:, int(getattr(backbone, "num_prefix_tokens", 0)) :].mean(dim=1, dtype=torch.float32)
    return x.float()


def _last_linear(projector: nn.Sequential) -> int:
    """Return the position of a projector's last layer where that is a Linear behind others, else 0."""
    last = len(projector) - 1
    return last if last > 0 and isinstance(projector[last], nn.Linear) else 0
