"""Choose device, precision, memory layout and threads."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from slmlp.runtime import allocator, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural, short

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Device, precision and memory layout of a computation."""

    device: torch.device
    precision: str  # float32, or what autocast takes: bfloat16 or float16
    channels_last: bool

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the autocast context of a forward pass."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=HALVES[self.precision])

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return what scales the loss so that gradients of float16 do not vanish; None in other precisions."""
        return torch.amp.GradScaler(self.device.type) if self.precision == "float16" else None

    @property
    def words(self) -> str:
        """The precision, and what CUDA does to float32 products by PyTorch's settings."""
        if self.device.type != "cuda" or self.precision != "float32":
            return self.precision
        of = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
        rounded = " and ".join(name for name, on in of.items() if on)
        return f"float32 (TF32 in {rounded})" if rounded else "float32"


def choose(
    encoder: nn.Module, device: str = "auto", precision: str = "auto", channels_last: bool | None = None
) -> Compute:
    """Return device, precision and memory layout to train an encoder with.

    Args:
        encoder: decides ``channels_last`` if that is None: True for convnets.
        device: a name, or ``auto``: CUDA, then MPS, then the CPU.
        precision: ``bfloat16``, ``float16``, ``float32``, or ``auto``: bfloat16 where the hardware supports it.
        channels_last: memory layout of convolutions.

    Raises:
        SlmlpError: a device that cannot be used; see ``check``.
    """
    place = resolve(device)
    check(place, precision)
    return Compute(place, _precision(place, precision), is_convnet(encoder) if channels_last is None else channels_last)


def check(place: torch.device, precision: str, compiles: bool = False) -> None:
    """Raise SlmlpError where a device does not train in a precision, or where nothing compiles for it (seconds)."""
    if precision == "float16" and place.type == "cpu":
        better = "bfloat16, which this one computes in," if computes_bfloat16(place) else "float32"
        raise SlmlpError(f"--precision float16 is for GPUs, and this is a CPU: take {better} or leave it auto")
    if not compiles:
        return
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=place))
    except Exception as error:  # each backend has errors of its own
        needs = "a C++ compiler (g++)" if place.type == "cpu" else "Triton and a C compiler"
        raise SlmlpError(f"--compile needs {needs} on {place}: {short(error)}; install it, or leave it out") from error


def _precision(place: torch.device, precision: str) -> str:
    return precision if precision != "auto" else "bfloat16" if computes_bfloat16(place) else "float32"


def for_features(encoder: nn.Module, name: str, precision: str) -> Compute:
    """Return device, precision and memory layout to compute features with; device ``name`` and precision may be auto.

    A network without torch parameters (an ONNX file) runs on the CPU in its own precision.
    """
    if next(encoder.parameters(), None) is None:
        if precision == "bfloat16":
            raise SlmlpError(
                "--extraction.precision bfloat16: this encoder's file has its own precision; leave it auto, or float32"
            )
        return Compute(resolve("cpu"), "float32", channels_last=False)
    device = resolve(name)
    return Compute(device, _precision(device, precision), is_convnet(encoder))


def is_convnet(module: nn.Module) -> bool:
    """Return whether a network has several convolutions; a ViT has one, for its patches."""
    return sum(isinstance(m, nn.Conv2d) for m in module.modules()) > 1


def place(module: nn.Module, compute: Compute) -> None:
    """Move a module to its device and memory layout."""
    module.to(compute.device)
    if compute.channels_last:
        module.to(memory_format=torch.channels_last)


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware supports bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return False


def resolve(name: str) -> torch.device:
    """Return the device of a name, after a test allocation; ``auto`` is CUDA, then MPS, then the CPU."""
    if processes.is_distributed():
        name = _device_of_rank(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise SlmlpError(
            f"--device {name} cannot be used here: {first}; expected auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cpu":
        allocator.keep()
    return device


def _device_of_rank(name: str) -> str:
    """Return this rank's device: the CPU, or the CUDA device of its local rank."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise SlmlpError(
            f"--device {name} names one device for {processes.world_size()} processes: expected auto, cpu or cuda, of "
            "which each process takes its own"
        )
    devices = torch.cuda.device_count() if name == "cuda" else 0
    if name == "cuda" and 0 < devices < processes.local_size():
        raise SlmlpError(
            f"{processes.local_size()} processes on this machine have {devices} CUDA devices: start at most one "
            "process per device (torchrun --nproc-per-node), or pass --device cpu"
        )
    return f"cuda:{processes.local_rank()}" if name == "cuda" else name


def name(where: torch.device) -> str:
    """Return what a device is called, for readers: the GPU, or the CPU with its threads."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    about = describe()
    return f"{about['cpu']}, {plural(torch.get_num_threads(), 'thread')}"


def describe() -> dict[str, object]:
    """Return the CPU's name and the numbers of threads and processes."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    return {"cpu": name, "threads": torch.get_num_threads(), "processes": processes.world_size()}
