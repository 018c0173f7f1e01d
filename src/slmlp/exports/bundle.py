"""What an export holds: the encoder, its run, and optionally the projector or a new classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slmlp.encoders import Encoder
from slmlp.encoders.projector_file import load_projector
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train.run import Run

FEATURES, EMBEDDING = "features", "embedding"


@dataclass(frozen=True)
class Bundle:
    """An encoder to export, with its run, projector and classifier."""

    encoder: Encoder  # on the CPU, in evaluation mode
    run: Run | None  # that the encoder came from, where its folder is there
    epoch: int | None  # of an encoder kept on the way
    projector: nn.Sequential | None = None  # only where it was asked for
    classes: int | None = None  # of a fresh classifier, where one was asked for
    opset: int = 18  # of ONNX
    license: str = "unknown"  # of the weights

    def expected(self, x: Tensor) -> dict[str, Tensor]:
        """Return features (N, D), and the embedding (N, P), of normalised images (N, 3, S, S)."""
        with torch.inference_mode():
            h = self.encoder(x)
            features = {FEATURES: h}
            if self.projector is not None:
                features[EMBEDDING] = self.projector(h)
        return features

    def compared(self, x: Tensor, run: Callable[[Tensor], Sequence[Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (expected, found) of each output on all images at once, then on one of them alone."""
        expected, pairs = self.expected(x), dict[str, tuple[Tensor, Tensor]]()
        for name, many, one in zip(self.outputs, run(x), run(x[:1]), strict=True):
            pairs[name] = (expected[name], many)
            # beside the rest, so that the comparison is of several images
            pairs[f"{name} of one image"] = (expected[name], torch.cat([one, many[1:]]))
        return pairs

    @property
    def network(self) -> nn.Module:
        """The network that makes one output, or two where the projector travels."""
        return self.encoder.backbone if self.projector is None else _Both(self.encoder.backbone, self.projector)

    @property
    def projector_settings(self) -> dict[str, Any]:
        """Settings of the run's projector, from which it can be built again."""
        assert self.run is not None
        settings: dict[str, Any] = self.run.config["resolved"]["method_settings"]["projector"]
        return settings

    @property
    def outputs(self) -> list[str]:
        """Names of the network's outputs."""
        return [FEATURES] if self.projector is None else [FEATURES, EMBEDDING]


class _Both(nn.Module):
    """A backbone, and its projector behind it; images -> (features, embedding)."""

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and embedding (N, P)."""
        h = self.backbone(images)
        return h, self.projector(h)


class Target(Protocol):
    """A module of this room: one kind of file or folder that another tool reads."""

    TOOL: str  # the package whose loader proves the export, as pip knows it
    LOADER: str  # that loader in words
    SUFFIXES: tuple[str, ...]  # of the file; none where it is a folder

    def unsupported(self, bundle: Bundle) -> str | None:
        """Return why the target cannot hold the bundle, or None where it can."""

    def write(self, bundle: Bundle, path: Path) -> Sequence[Path]:
        """Write the export to ``path`` and return the files beside it, which are named after it."""

    def pairs(self, bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Load ``path`` through the other tool's loader; return (expected, found) of each output on images ``x``."""

    def usage(self, bundle: Bundle, name: str) -> str:
        """Return the lines of code that load a file or folder called ``name``."""


def open_bundle(
    source: str | Path, *, with_projector: bool, classes: int | None, opset: int, license_name: str
) -> Bundle:
    """Open a run's folder, its encoder file, or an encoder file without a run."""
    path = Path(source)
    if not path.is_dir() and path.suffix != ".safetensors" and (path.is_file() or ":" in str(source)):
        raise SlmlpError(
            f"slmlp export takes a run's folder or an encoder.safetensors that slmlp wrote, found {source}: weights of "
            "others stay in the files that they came in (slmlp evaluate and slmlp suite take them)"
        )
    encoder = Encoder.load(path).eval()
    run, epoch = _run_of(path)
    projector = None
    if with_projector:
        projector = load_projector(run.path, encoder.dim) if run is not None and epoch is None else None
        if projector is None:
            raise SlmlpError(
                f"--with-projector: {source} keeps no projector (plain SL has none, and neither have encoder files and "
                "encoders of an epoch before the last); leave it away, or name a finished run's folder"
            )
    if classes is not None and classes < 1:
        raise SlmlpError(f"--classifier must be at least 1 class, found {classes}")
    return Bundle(encoder, run, epoch, projector, classes, opset, license_name)


def _run_of(path: Path) -> tuple[Run | None, int | None]:
    """Return the run that an encoder came from, and the epoch where it is not the finished one."""
    place = path.resolve()
    folder, epoch = place if place.is_dir() else place.parent, None
    if place.is_file() and folder.name == "epochs" and place.stem.isdigit():
        folder, epoch = folder.parent, int(place.stem)
    elif place.is_file() and place.name != "encoder.safetensors":
        return None, None
    file = folder / "config.json"
    content = json_files.read(file, dict[str, Any]) if file.is_file() else {}
    whole = {"job", "resolved", "identity"} <= content.keys()  # and not another tool's config
    return (Run(folder), epoch) if whole else (None, None)


def described(encoder: Encoder) -> str:
    """Describe an encoder for an error message."""
    return f"{encoder.spec.name} with the {encoder.spec.stem} stem at {encoder.spec.image_size} px"


def no_room_for(bundle: Bundle, tool: str, *, projector: bool = False, classifier: bool = False) -> str | None:
    """Return why a target without projector or classifier cannot hold this bundle, or None."""
    if bundle.projector is not None and not projector:
        return f"{tool}'s networks have no place for a projector; leave --with-projector away"
    if bundle.classes is not None and not classifier:
        return "it holds features and no classifier; leave --classifier away"
    return None
