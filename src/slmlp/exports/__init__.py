"""Export an encoder for another tool; the file is read again by that tool's loader and its features are compared."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import short

if TYPE_CHECKING:
    from torch import Tensor

    from slmlp.exports.bundle import Bundle, Target
    from slmlp.exports.parity import Difference

TARGETS: dict[str, str] = {
    "torchvision": "slmlp.exports.torchvision_file",
    "timm": "slmlp.exports.timm_file",
    "safetensors": "slmlp.exports.safetensors_file",
    "onnx": "slmlp.exports.onnx_file",
    "detectron2": "slmlp.exports.detectron2_file",
    "hf": "slmlp.exports.hf_folder",
    "exported-program": "slmlp.exports.exported_program",
}  # name -> module that is a ``bundle.Target``


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    path: Path
    beside: tuple[Path, ...]  # what belongs to it: config, card
    card: Path
    usage: str  # the code, or the command, that loads it
    images: str  # what the features were compared on
    differences: tuple[Difference, ...]


def export(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    data: str = "emoji",
    images: int = 16,
    with_projector: bool = False,
    classifier: int | None = None,
    license: str = "unknown",
    opset: int = 18,
) -> Exported:
    """Export an encoder; see ``api.export``.

    >>> import tempfile
    >>> from slmlp.encoders import build
    >>> folder = tempfile.mkdtemp()
    >>> build("test_vit", 32, "standard").save(Path(folder, "encoder.safetensors"))
    >>> exported = export(f"{folder}/encoder.safetensors", "timm", f"{folder}/mine.safetensors", images=4)
    >>> sorted(path.name for path in exported.beside), exported.differences[0].relative < 1e-4
    (['mine.safetensors.json', 'mine.safetensors.md'], True)
    """
    from slmlp.exports import parity
    from slmlp.exports.bundle import open_bundle
    from slmlp.exports.card import card
    from slmlp.runtime import staging

    if to not in TARGETS:
        raise unknown("export target", to, TARGETS)
    target, path = _target(to), Path(out)
    _check_name(to, target, path)
    folder = not target.SUFFIXES
    names = [path.name] if folder else [path.name, *(f"{path.name}{end}" for end in (".json", ".yaml", ".md"))]
    staging.clear(path)
    staging.check_free([path.with_name(name) for name in names])
    bundle = open_bundle(run, with_projector=with_projector, classes=classifier, opset=opset, license_name=license)
    check_supported(bundle, to)
    x, name = parity.real_images(bundle.encoder, data, images)
    compared = f"{len(x)} images of {name}"
    with staging.staged(path) as stage:
        staged = stage / path.name
        beside = list(target.write(bundle, staged))
        differences = parity.compare(_pairs(target, bundle, staged, x, to), to)
        usage = target.usage(bundle, path.name)
        loader = f"{target.LOADER} ({target.TOOL} {importlib.metadata.version(target.TOOL)})"
        about = staged / "README.md" if folder else stage / f"{path.name}.md"
        files.write_text(about, card(bundle, path.name, to, loader, usage, differences, compared, front_matter=folder))
        beside += [] if folder else [about]
        staging.place([*beside, staged], path.parent)
    written = tuple(path.with_name(file.name) for file in beside)
    usage = target.usage(bundle, str(path))  # from where the command was typed; the card lies beside the file
    return Exported(path, written, path / "README.md" if folder else written[-1], usage, compared, tuple(differences))


def check_supported(bundle: Bundle, to: str) -> None:
    """Raise SlmlpError if the target cannot hold the bundle, with the reason and the targets that can."""
    reason = _target(to).unsupported(bundle)
    if reason is None:
        return
    from slmlp.exports.bundle import described

    able = [name for name in TARGETS if _target(name).unsupported(bundle) is None]
    instead = f"; {', '.join(able)} can hold it" if able else ""
    raise SlmlpError(f"--to {to} cannot hold {described(bundle.encoder)}: {reason}{instead}")


def _pairs(target: Target, bundle: Bundle, export: Path, x: Tensor, to: str) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Return expected and actual outputs; any error of the other tool's loader becomes an SlmlpError."""
    try:
        return target.pairs(bundle, export, x)
    except SlmlpError:
        raise
    except Exception as error:  # the other library may raise anything: keys, shapes, an invalid graph
        first = short(error)
        raise SlmlpError(f"{to}: {target.TOOL} does not take the export ({first}); nothing was written") from error


def _target(name: str) -> Target:
    module: Target = importlib.import_module(TARGETS[name])
    return module


def _check_name(to: str, target: Target, path: Path) -> None:
    """Check that the name is of the target's kind."""
    suffixes: Sequence[str] = target.SUFFIXES
    files.check_name(path, f"--to {to}", suffixes, folder=not suffixes)
    if set(path.name) & set("\"'`\\\n"):
        raise SlmlpError(
            f"--out {path}: the name stands in code on the card, so that it may hold no quotes and backslashes"
        )
    if not suffixes and path.suffix in (".safetensors", ".pth", ".pt", ".onnx", ".pkl", ".bin"):
        raise SlmlpError(f"--out {path}: --to {to} writes a folder; leave the {path.suffix} away")
