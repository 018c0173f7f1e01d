"""``module:function``: a network from the user's own code."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder
from slmlp.encoders.sources.check import checked
from slmlp.encoders.sources.preparing import Prepared, from_timm
from slmlp.runtime import files, seeds
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import short

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return the encoder around what ``module:function()`` returns; modules of the current folder are found too.

    Its ``pretrained_cfg``, where it has one, tells the preprocessing. Its hash covers weights, the printed form of the
    network, the text of the module that holds the function, and its features of two images of noise, so that no other
    network's features are taken for its own.
    """
    function = _function(source)
    try:
        with seeds.seeded(seed, "encoder"):
            backbone = function()
    except Exception as error:  # whatever a stranger's code raises
        first = short(error)
        raise SlmlpError(f"{source}: calling it failed ({type(error).__name__}: {first})") from error
    if not isinstance(backbone, nn.Module):
        raise SlmlpError(f"{source} returns a {type(backbone).__name__}, expected a torch.nn.Module")
    prepared = _own(backbone, source, overrides)
    text = ADDRESS.sub("", repr(backbone))
    identity = (text, files.sha256(_text(function).encode()))
    encoder = checked(backbone, source, prepared, source, identity)
    encoder.origin = dataclasses.replace(encoder.origin, identity=(*identity, _behaviour(encoder)))
    return encoder


def _behaviour(encoder: Encoder) -> str:
    """Return a hash of the features of two images of noise: they change with weights that no state dict names.

    Such are those of a session of another library, or tensors that are plain attributes. One thread gives the same bits
    whatever the number of threads; another machine may give others, and then computes its features anew.
    """
    threads, size = torch.get_num_threads(), encoder.preprocess.size
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            features = encoder(x).detach().cpu().float().contiguous()
    finally:
        torch.set_num_threads(threads)
    return files.sha256(features.numpy().tobytes())


def _own(backbone: nn.Module, source: str, overrides: PreprocessFlags | None) -> Prepared:
    config: Any = getattr(backbone, "pretrained_cfg", None) or {}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise SlmlpError(f"{source}: its pretrained_cfg is a {type(config).__name__}, expected a dictionary as timm's")
    return from_timm(config, "its pretrained_cfg", source, overrides)


def _function(source: str) -> Any:
    module_name, _, name = source.partition(":")
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs a stranger's code
        first = short(error)
        raise SlmlpError(
            f"{source}: the module {module_name!r} cannot be imported ({type(error).__name__}: {first}); expected "
            "module:function of a module that Python finds from here"
        ) from error
    finally:
        sys.path[:] = before
    function = getattr(module, name, None)
    if function is None:
        raise unknown(f"function of {module_name}", name, [n for n, v in vars(module).items() if callable(v)])
    if not callable(function):
        raise SlmlpError(f"{source} is a {type(function).__name__}, expected a function that returns a torch.nn.Module")
    return function


def _text(function: Any) -> str:
    """Return the source of the file that defines a function, or an empty string."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        return ""
    return Path(file).read_text() if file and Path(file).is_file() else ""
