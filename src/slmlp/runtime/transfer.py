"""Copies between the host and a device for which the host does not wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def on_device(device: torch.device, *arrays: npt.NDArray[Any]) -> list[Tensor]:
    """Return small arrays of the host on the device, all by one copy."""
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    starts = np.cumsum([0, *(-(-array.nbytes // 8) * 8 for array in arrays)])  # each starts at a multiple of 8 bytes
    buffer = np.zeros(starts[-1], np.uint8)
    for start, array in zip(starts, arrays, strict=False):
        buffer[start : start + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    packed = torch.from_numpy(buffer)
    if torch.cuda.is_available():
        packed = packed.pin_memory()
    moved = packed.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for start, array in zip(starts.tolist(), arrays, strict=False)
    ]


class HostCopy:
    """A copy of tensors in the host's memory that is begun now and waited for when it is read."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        # only CUDA says when a copy is done, by an event; it copies into pinned memory then
        self._copies = [tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
        self._copied = None
        if any(tensor.is_cuda for tensor in tensors):
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
            self._copied.record()

    @classmethod
    def of_scalars(cls, scalars: Sequence[Tensor]) -> HostCopy:
        """Copy scalars as one tensor (len(scalars),): float64 where any of them is, else float32."""
        kind = torch.float64 if any(x.dtype == torch.float64 for x in scalars) else torch.float32
        return cls([torch.stack([x.to(kind) for x in scalars])])

    def read(self) -> list[Tensor]:
        """Return the copies, once the device has computed and copied them."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copies
