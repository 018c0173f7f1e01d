"""Set up process groups, and run collectives, some with gradients; no-ops on one process.

All processes are in two groups. The *control* group (gloo, on the CPU, with a long timeout) carries decisions, errors
and objects that one rank reads for all; the *channel* carries training tensors: NCCL between CUDA devices, else gloo.

Every rank computes the loss of the whole batch from gathered embeddings. The gradient of a gather is the sum over ranks
of its output's gradients, so each rank has W times its share of the loss's gradient, and the mean that
DistributedDataParallel takes over W ranks is the gradient of one process with the whole batch. A loss that is a mean
over a rank's own images gives the same: the mean over ranks is the mean over all images.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as group
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

START_TIMEOUT = timedelta(minutes=10)  # for all processes to start
CONTROL_TIMEOUT = timedelta(hours=12)  # others wait while one rank decodes a large data set
STEP_TIMEOUT = timedelta(minutes=30)  # longer than any step, or a checkpoint on a slow disk
_channel: group.ProcessGroup | None = None
_store: Store | None = None


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Initialise the process group while the block runs; no-op on one process or inside another such block."""
    global _channel, _store
    if not processes.is_distributed() or group.is_initialized():
        yield
        return
    rank, size = processes.rank(), processes.world_size()
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=START_TIMEOUT)))
        # torchrun's store lives through its restarts, with the addresses of the processes that died; torch 2.14 looks
        # them up under the same keys again, and then connects to nobody
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        _store = PrefixStore(f"slmlp-{attempt}", store)
        group.init_process_group(
            "gloo", store=PrefixStore(f"control-{attempt}", store), rank=rank, world_size=size, timeout=CONTROL_TIMEOUT
        )
        _store.set_timeout(START_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise SlmlpError(
            f"process {rank} of {size} could not meet the others: {short(error)}; see that "
            "MASTER_ADDR and MASTER_PORT (torchrun --rdzv-endpoint) can be reached from every machine"
        ) from error
    try:
        yield
    finally:
        _channel = _store = None
        with contextlib.suppress(RuntimeError):  # a broken connection has been reported already
            group.destroy_process_group()


def connect(device: torch.device) -> None:
    """Open the channel between the training devices of all ranks."""
    global _channel
    if not processes.is_distributed() or _channel is not None:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    nccl = device.type == "cuda" and group.is_nccl_available()
    new_group = group.new_group(backend="nccl" if nccl else "gloo", timeout=STEP_TIMEOUT)
    assert not isinstance(new_group, int)  # an int means a group without this rank
    _channel = new_group


def channel() -> group.ProcessGroup | None:
    """Return the process group for tensors of training; None is the default group."""
    return _channel


def share_of(total: int) -> slice:
    """Return this rank's contiguous share of ``total`` items; the first ranks get one more if they do not divide."""
    size, rank = processes.world_size(), processes.rank()
    small, more = divmod(total, size)
    start = rank * small + min(rank, more)
    return slice(start, start + small + (rank < more))


def batch_part(batch_size: int) -> slice:
    """Return this rank's part of every batch; raise SlmlpError if the ranks cannot share it evenly."""
    size = processes.world_size()
    if batch_size % size or batch_size < 2 * size:
        below = batch_size // size * size
        choices = [n for n in (below, below + size) if n >= 2 * size] or [2 * size]
        raise SlmlpError(
            f"--batch-size {batch_size} counts the images of all processes together and cannot be shared evenly by "
            f"{size} of them, at least 2 images each; choose {' or '.join(map(str, choices))}"
        )
    return share_of(batch_size)


def parallel(method: nn.Module) -> nn.Module:
    """Wrap the method in DistributedDataParallel, which averages gradients over ranks; return it as is on one process.

    With ``static_graph``, parameters unused in the first step's loss (an encoder's unused layer) get no gradient, as on
    one process. Methods keep their graph: frozen prototypes get a gradient of zeros.
    """
    if not processes.is_distributed():
        return method
    # buffers (statistics, queues) are not broadcast; PyTorch 2.14 renamed the setting
    known = inspect.signature(DistributedDataParallel).parameters
    buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return DistributedDataParallel(method, process_group=_channel, static_graph=True, **buffers)


def gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks, (world * N, ...), in order; ``x`` itself on one process.

    Every rank must have as many rows. The gradient is the sum over ranks (see the module's docstring).
    """
    if not processes.is_distributed():
        return x
    if x.requires_grad and torch.is_grad_enabled():
        gathered: Tensor = _Gather.apply(x)
        return gathered
    return torch.cat(gather_list(x))


def gather_list(x: Tensor) -> list[Tensor]:
    """Return the tensors of all ranks, which have one shape, in order, without gradient."""
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    local = (x.detach().permute(0, 2, 3, 1) if channels_last else x.detach()).contiguous()
    parts = [torch.empty_like(local) for _ in range(processes.world_size())]
    group.all_gather(parts, local, group=_channel)
    return [part.permute(0, 3, 1, 2) for part in parts] if channels_last else parts


def summed(x: Tensor) -> Tensor:
    """Return the sum of the tensors of all ranks, in at least float32, without gradient."""
    result = x.detach().to(torch.promote_types(x.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
    group.all_reduce(result, group=_channel)
    return result


class _Gather(torch.autograd.Function):
    """All-gather; its backward sums the gradients over ranks and returns this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.cat(gather_list(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        return summed(grad).chunk(processes.world_size())[processes.rank()].to(grad.dtype)


def shuffled(network: nn.Module, x: Tensor, groups: int) -> Tensor:
    """Return ``network(x)`` without gradient, in shuffled batches, so that BatchNorm has other statistics.

    Each rank computes a random share of all ranks' images (MoCo's shuffling: He et al. 2020, section 3.3). One process
    computes the batch in ``groups`` random parts instead.
    """
    order = torch.randperm(len(x) * processes.world_size())
    if not processes.is_distributed():
        order = order.to(x.device, non_blocking=True)
        parts = [network(part) for part in x[order].tensor_split(groups)]
        return torch.cat(parts)[torch.argsort(order)]
    group.broadcast(order, src=0)  # on the CPU, in the control group; each rank has another generator state
    order = order.to(x.device, non_blocking=True)
    own = slice(processes.rank() * len(x), (processes.rank() + 1) * len(x))
    with torch.no_grad():
        shuffled_images = torch.cat(gather_list(x))[order[own]]
        outputs = torch.cat(gather_list(network(shuffled_images)))  # in the shuffled order
        return outputs[torch.argsort(order)[own]]


def collect(x: Tensor, total_rows: int) -> Tensor:
    """Return all rows (total_rows, D) on rank 0, from each rank's ``share_of``; return ``x`` on other ranks."""
    if not processes.is_distributed():
        return x
    size, rows = processes.world_size(), -(-total_rows // processes.world_size())  # rows padded to one length
    padded = x.new_zeros(rows, *x.shape[1:])
    padded[: len(x)] = x
    if not processes.is_main():
        group.gather(padded, dst=0)
        return x
    parts = [torch.empty_like(padded) for _ in range(size)]
    group.gather(padded, parts, dst=0)
    small, more = divmod(total_rows, size)
    return torch.cat([part[: small + (rank < more)] for rank, part in enumerate(parts)])


def broken(error: BaseException) -> bool:
    """Return whether an error means that another process has ended."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, group.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def speak_once(speak: Callable[[], None], may: bool = True, patience: float = 20) -> None:
    """Call ``speak`` on the first rank to get here with ``may``; the others wait for it, up to ``patience`` seconds.

    Uses no collective, since ranks can fail at any point. The launcher kills all processes once one has ended, so none
    may return before the message is printed. If rank 0 hosts the store it returns last: the others need the store.
    """
    if _store is None:
        speak()
        return
    try:
        _store.add("arrived", 1)
        mine = may and _store.add("speakers", 1) == 1
    except RuntimeError:  # the process that hosted the store has ended
        mine = may
    if mine:
        speak()
    with contextlib.suppress(RuntimeError):
        if mine:
            _store.set("spoken", "yes")
        else:
            _store.wait(["spoken"], timedelta(seconds=patience))
        last = time.monotonic() + patience
        while processes.holds_store() and _store.add("arrived", 0) < processes.world_size() and time.monotonic() < last:
            time.sleep(0.05)
        if processes.holds_store():
            time.sleep(0.2)  # the last rank is still reading its reply
