"""Read weight files: safetensors, or pickles restricted to tensors and harmless values; nothing is ever executed."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import pickletools
import re
import types
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy._core.multiarray as multiarray
import torch
from safetensors.torch import load_file
from torch import Tensor

from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.plain import short

# in names of what training puts behind or beside an encoder, and a finished encoder does without
TRAINING_ONLY = re.compile(r"(^|\.)(projector|projection|projection_head|predictor|prototypes|queue)(\.|_|$)")
# at the start of a name: heads, and the mask token of masked pretraining, which no finished encoder reads
HEAD = re.compile(
    r"(head|head_dist|heads|fc|classifier|linear|aux1|aux2|AuxLogits|decoder\w*|dino_head|ibot_head|mask_token)(\.|$)"
)
COUNTER = ".num_batches_tracked"  # of BatchNorm; older files have none, and evaluation reads none

DTYPES = {type(np.dtype(code)) for code in "?bhilqBHILQefdgFDSUOMm"}
# What training scripts keep beside weights: values without behaviour. Building one runs no code of the file's.
HARMLESS: tuple[Any, ...] = (
    argparse.Namespace, types.SimpleNamespace, frozenset, slice,
    pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath,
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),  # which exists on Windows only
    *((getattr(pathlib, name), f"pathlib._local.{name}") for name in ("PosixPath", "PurePosixPath", "PureWindowsPath")),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),  # as Python 3.13 writes them
    datetime.datetime, datetime.date, datetime.timedelta,
    np.dtype, np.ndarray, *DTYPES,
    *((getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
      for name in ("scalar", "_reconstruct") for core in ("core", "_core")),
    torch.torch_version.TorchVersion,
)  # fmt: skip


FOREIGN = {
    b"\x89HDF": "HDF5, as Keras saves weights",
    b"GGUF": "GGUF, of quantised language models",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "compressed: unpack it first",
    b"ustar": "an archive: unpack it first",
    b"\x08": "perhaps ONNX: give FILE.onnx without timm:NAME@",
}


def file_and_part(text: str) -> tuple[str, str]:
    """Split ``FILE#PART`` where no file has that whole name; the part is empty where none is named."""
    file, sharp, part = text.rpartition("#")
    return (file, part) if sharp and not Path(text).is_file() else (text, "")


def read(file: str, source: str) -> Any:
    """Return what a weights file holds, tensors on the CPU; ``source`` is what the user typed, for error messages.

    Raises:
        SlmlpError: no such file, no weights file, or one with objects other than tensors and plain values: they are
            named, with the line of Python that saves a file without them.
    """
    path = Path(file)
    if not path.is_file():
        raise SlmlpError(f"{source}: no file {file}")
    program = _program(path)
    if program:
        kind, loaded = program
        raise SlmlpError(
            f"{source}: {file} is {kind}, a network with its code, and slmlp runs none; where you trust the file, save "
            f"its tensors alone and give that: {_saving(path, loaded)}"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(HARMLESS)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip errors alike mean a file that is no weights file
        objects = _objects(path)
        if objects:
            raise SlmlpError(
                f"{source}: {file} holds objects that only running their code could read ({few(objects, 4)}), "
                f"and slmlp runs none; where you trust the file, save its tensors "
                f"alone and give that: {_cleaning(path)}"
            ) from error
        raise SlmlpError(f"{source}: {file} cannot be read as weights: {what_it_is(path, error)}") from error


def what_it_is(path: Path, error: Exception) -> str:
    """Return what a file that is no weights file is, by its first bytes, and what to do; else what ``error`` says."""
    with path.open("rb") as opened:
        head = opened.read(4096)
    expected = "expected safetensors, or a torch.save of tensors by name"
    if not head:
        return f"it is empty: fetch it again; {expected}"
    if head.startswith(b"version https://git-lfs"):
        return "it is git-lfs's pointer to them: git lfs pull fetches the file itself"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"it is a web page: what was downloaded is not the file but a page about it; {expected}"
    if text.startswith(b"{") and b'"weight_map"' in path.read_bytes():
        return (
            "it lists the files that weights are divided into: load them with safetensors.torch.load_file, save "
            "them as one with save_file, and give that"
        )
    for start, name in FOREIGN.items():
        if head.startswith(start):
            return f"it is {name}; {expected}"
    if head.isascii() and b"\0" not in head:
        return f"it is a text; {expected}"
    if head.startswith((b"PK", b"\x80")) or path.suffix == ".safetensors":
        return f"{short(error)}; it may be cut off or damaged: fetch it again, or give another; {expected}"
    return f"its first bytes are those of no such file; {expected}"


def _program(path: Path) -> tuple[str, str] | None:
    """Return what kind of program a zip of torch's is, and the Python that gives its tensors; None for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return None  # no zip, or of a kind that Python cannot list
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return "TorchScript", f"torch.jit.load({str(path)!r}, map_location='cpu').state_dict()"
    if any(name.rpartition("/")[2] == "archive_format" for name in names):
        return "a program of torch.export", f"torch.export.load({str(path)!r}).state_dict"
    return None


def _saving(path: Path, tensors: str, before: str = "") -> str:
    """Return the command that saves tensors beside a file."""
    return f'python -c "import torch; {before}torch.save({tensors}, {str(path.with_name(f"{path.stem}-clean.pt"))!r})"'


def _objects(path: Path) -> list[str]:
    """Return the classes and functions that a pickle names and that are not read; empty for other files."""
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)))
    except Exception:  # damaged, or of the format before PyTorch 1.6
        return []


def _cleaning(path: Path) -> str:
    """Return the command that saves the tensors of a pickle alone: of a network, or of the tables of a dictionary."""
    saved = (
        "{k: v for k, v in c.items() if isinstance(v, dict) and any(isinstance(t, torch.Tensor) for t in v.values())}"
        if _is_dictionary(path)
        else "c.state_dict()"
    )
    return _saving(path, saved, f"c = torch.load({str(path)!r}, map_location='cpu', weights_only=False); ")


def _is_dictionary(path: Path) -> bool:
    """Return whether the pickle of a file of torch.save begins with a dictionary, by its opcodes, not executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            for opcode, argument, _ in pickletools.genops(archive.read(name)):
                if opcode.name not in ("PROTO", "FRAME", "MARK"):
                    return opcode.name in ("EMPTY_DICT", "DICT") or argument == "collections OrderedDict"
    except Exception:  # of the format before PyTorch 1.6
        return True
    return True


def dense(table: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return tensors with every value in its place, sparse ones too; raise SlmlpError for one that has no values."""
    empty = next((key for key, value in table.items() if value.is_meta), None)
    if empty:
        raise SlmlpError(
            f"weights of {source}: {empty} has a shape and no values (device meta), as of a network that was built and "
            "not loaded; save it after its weights were loaded"
        )
    return {key: value if value.layout is torch.strided else value.to_dense() for key, value in table.items()}


def fit(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights that lack only counters or have only heads and training's parts too many as ``own`` needs them.

    ``own`` is the state of the network. Notes say what was changed. All else is left as it is, for the check of the
    keys to refuse.
    """
    notes, state = [], dict(state)
    missing = own.keys() - state.keys()
    counters = [key for key in missing if key.endswith(COUNTER)]
    if counters and len(counters) == len(missing):
        notes.append(f"{len(counters)} counters of BatchNorm (num_batches_tracked) missing, set to 0")
        state |= {key: torch.zeros_like(own[key]) for key in counters}
    extra = sorted(key for key in state.keys() - own.keys() if TRAINING_ONLY.search(key) or HEAD.match(key))
    if extra:
        notes.append(f"{len(extra)} tensors of heads and training's own left out ({few(extra, 3)})")
        state = {key: value for key, value in state.items() if key not in extra}
    return state, notes


def problems(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps weights, as ``fit`` returns them, from being those of a network: keys and shapes, in words."""
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in misshapen(state, own)]
    words = [
        f"{word} {len(keys)} ({few(keys, 8)})"
        for word, keys in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if keys
    ]
    channels = {state[k].shape[1] for k in own if k in state and _channels_differ(state[k], own[k])}
    if channels:
        words.append(f"so they are for images of {channels.pop()} channels, and slmlp's have 3")
    return words


def misshapen(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the names whose tensors have another shape than the network's."""
    return [key for key in own if key in state and own[key].shape != state[key].shape]


def _channels_differ(theirs: Tensor, own: Tensor) -> bool:
    """Return whether two weights are of a first convolution, over 3 channels in ``own`` and other ones in the file."""
    same = theirs.ndim == own.ndim == 4 and theirs.shape[0] == own.shape[0] and theirs.shape[2:] == own.shape[2:]
    return same and own.shape[1] == 3 != theirs.shape[1]


def quantised(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Return the first weight of whole numbers, or of one byte, where the network's is not: its scale is missing."""
    for key, value in own.items():
        there = state.get(key)
        if there is None or not value.is_floating_point():
            continue
        if not there.is_floating_point() or there.element_size() < 2:
            return f"{key} is {str(there.dtype).removeprefix('torch.')}"
    return None


def not_finite(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with NaN or infinity in them where the network's own have none."""
    return [
        key
        for key, value in state.items()
        if value.is_floating_point() and not _finite(value) and (key not in own or _finite(own[key]))
    ]


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def constant(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of weights of two axes and more that are one number throughout: all zero, all one.

    No network of timm's that was tried (67) begins so, and none that was trained ends so.
    """
    return [
        key
        for key, value in state.items()
        if key.endswith("weight") and value.ndim > 1 and value.numel() > 1 and bool((value == value.flatten()[0]).all())
    ]


def without(state: dict[str, Tensor], classifiers: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights without those of the classifiers, also of classifiers behind ``add_projector``."""
    heads = {head for name in classifiers for head in (name, f"{name}.classifier")}
    return {k: v for k, v in state.items() if k.rpartition(".")[0] not in heads}


def undownloaded(source: str, error: Exception, instead: str) -> SlmlpError:
    """Return the error for weights that a hub does not give, ``instead`` being what to type with a file."""
    return SlmlpError(
        f"{source}: the weights cannot be downloaded ({short(error)}); fetch the file elsewhere and give {instead}"
    )
