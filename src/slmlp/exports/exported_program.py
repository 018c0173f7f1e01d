"""PyTorch's exported program: the network as a graph for any batch size; opens without slmlp."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from slmlp.exports.bundle import Bundle, no_room_for
from slmlp.runtime import files

TOOL, LOADER = "torch", "torch.export.load"
SUFFIXES = (".pt2",)


def unsupported(bundle: Bundle) -> str | None:
    """Return why a graph cannot hold this bundle, or None."""
    return no_room_for(bundle, "PyTorch", projector=True)


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Trace the network on two images, with a batch of any size, and save it."""
    buffer = io.BytesIO()  # where a disk is full torch ends the process
    torch.export.save(program(bundle), buffer)
    files.write_bytes(path, buffer.getvalue())
    return []


def program(bundle: Bundle) -> torch.export.ExportedProgram:
    """Return the network's graph; its input is ``(N, 3, S, S)`` with any N."""
    size = bundle.encoder.preprocess.size
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch about its own parts
        return torch.export.export(
            bundle.network.eval(), (torch.zeros(2, 3, size, size),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Load the program and run it on all images at once, then on one alone."""
    module = torch.export.load(path).module()

    def run(images: Tensor) -> tuple[Tensor, ...]:
        output = module(images)
        return output if isinstance(output, tuple) else (output,)

    with torch.inference_mode():
        return bundle.compared(x, run)


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the program."""
    return f'import torch\n\nmodel = torch.export.load("{name}").module()\n{", ".join(bundle.outputs)} = model(images)'
