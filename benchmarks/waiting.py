"""Count the operations of a program for which the host waits until a device has computed."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# whose result, or its shape, the host can only know from the device
ASKING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten.bincount.default, aten.unique_dim.default, aten._unique2.default,
}  # fmt: skip
COPYING = {aten._to_copy.default, aten.copy_.default}


class Waiting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
    """Lists the operations for which the host would wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do the operation, and list it where the host would wait for it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        masks = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        copies = False
        if func in COPYING:
            source, target = (args[1], args[0]) if func is aten.copy_.default else (args[0], out)
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            copies = source.device != target.device and (target.device.type == "cpu" or waits)
        if func in ASKING or masks or copies:
            self.found.append(str(func))
        return out
