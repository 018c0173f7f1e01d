"""Where images and encoders come from, as a user names them: what can be told of a name without opening anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

from slmlp.config import networks
from slmlp.config.names import named
from slmlp.runtime.errors import SlmlpError

TORCHVISION = "torchvision:"  # of a data set
DATA = (
    "a folder of class folders, a tar of one (.tar, .tar.gz, .tgz, .tar.bz2, .tar.xz), a manifest (.csv, .tsv, "
    ".jsonl), an .npz file, torchvision:NAME, or emoji"
)
ENCODER = (
    "expected a run's folder, an encoder file, timm:NAME[@FILE], torchvision:NAME[@FILE], FILE.onnx[#OUTPUT], or "
    "module:function of a torch.nn.Module"
)
ARRAYS = (".npy", ".csv", ".parquet", ".h5", ".hdf5")
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
OURS = "slmlp"  # key of the metadata of a safetensors file that slmlp wrote
HEADER = 100_000_000  # bytes: the most that safetensors allows


def check_data(source: str) -> None:
    """Raise SlmlpError where there is nothing of that name."""
    if source != "emoji" and not source.startswith(TORCHVISION) and not os.path.lexists(Path(source).expanduser()):
        raise SlmlpError(f"data {source!r} does not exist: expected {DATA}")


def encoder_kind(source: str) -> str:
    """Return what opens an encoder: ``run``, ``timm``, ``torchvision``, ``onnx`` or ``function``.

    What exists as a file or a folder is never a function's name.

    Raises:
        SlmlpError: nothing of that name, or a file that says nothing of its network.
    """
    for prefix in ("timm", "torchvision"):
        if source.startswith(f"{prefix}:"):
            return prefix
    file = Path(source.partition("#")[0])
    if file.suffix == ".onnx":
        return "onnx"
    if Path(source).exists():
        if file.suffix in PICKLES or _is_bare(Path(source)):
            raise SlmlpError(
                f"{source} holds weights without a network: name it, timm:NAME@{source} or torchvision:NAME@{source}"
            )
        if file.suffix in ARRAYS:
            raise SlmlpError(
                f"{source} holds an array and no encoder: features go into an .npz, "
                f"np.savez('{file.stem}.npz', x=features, y=labels), and slmlp evaluate {file.stem}.npz measures them"
            )
        if Path(source).is_file() and file.suffix != ".safetensors":
            raise SlmlpError(f"{source} is no encoder: {ENCODER}")
        return "run"
    if ":" in source:
        return "function"
    raise SlmlpError(f"no encoder at {source}: {ENCODER}")


def check_encoder(source: str) -> None:
    """Raise SlmlpError where there is no encoder of that name, no such network, or no file of the weights named."""
    kind = encoder_kind(source)
    if kind in ("timm", "torchvision"):
        networks.check(source)
    if kind == "onnx" and not Path(source.partition("#")[0]).exists():
        raise SlmlpError(f"no encoder at {source}: {ENCODER}")
    if kind in ("timm", "torchvision"):
        file = Path(source.partition("@")[2].partition("#")[0])
        named = file.suffix or len(file.parts) > 1  # not `random`, nor a name of torchvision's weights
        if named and not file.exists() and not Path(source.partition("@")[2]).exists():
            raise SlmlpError(f"{source}: no file {file}")


def absolute(word: str) -> str:
    """Return what a user named with the places of its files written out, so that it means the same from any folder.

    It is the name of images, or of an encoder: ``PATH``, ``NAME=PATH``, ``timm:NAME@PATH#PART``, ``FILE.onnx#OUTPUT``;
    what names no file that is there stays as it is.

    >>> absolute("emoji"), absolute("mine=timm:resnet18@random")
    ('emoji', 'mine=timm:resnet18@random')
    """
    if Path(word).expanduser().exists():
        return str(Path(word).expanduser().resolve())
    name, source = named(word)
    before, at, file = source.rpartition("@")
    place, mark, part = (file, "", "") if Path(file).exists() else file.partition("#")
    if place in ("", ".") or not Path(place).exists():
        return word
    return f"{f'{name}=' if name else ''}{before}{at}{Path(place).resolve()}{mark}{part}"


def _is_bare(path: Path) -> bool:
    """Return whether a safetensors file was not written by slmlp; False where its header cannot be read."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            about = json.loads(file.read(size)) if size < HEADER else None
        return isinstance(about, dict) and OURS not in (about.get("__metadata__") or {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False
