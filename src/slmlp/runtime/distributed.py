"""Process groups, and collectives that carry gradients; no-ops on one process.

The processes are one group twice over. The *control* group (gloo, on the CPU, patient) carries decisions, errors and
files read by one for all; the *channel* carries the tensors of training: NCCL between CUDA devices, else gloo.

Losses. A method computes the loss of the whole batch, on every process, from gathered embeddings. The gradient of a
gather is the sum over processes of the gradients of its output, so each process holds W times its share of the gradient
of that one loss, and the mean that DistributedDataParallel takes over W processes is the gradient of one process with
the whole batch. Where the loss is a mean over a process's own images the mean over processes is again that of all.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
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

MEETING = timedelta(minutes=10)  # until all processes have been started
PATIENCE = timedelta(hours=12)  # of control: the others wait while one decodes a large data set
STEP = timedelta(minutes=30)  # of the channel: a step, or a checkpoint on a slow disk, takes less
_channel: group.ProcessGroup | None = None
_store: Store | None = None


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Make the processes one group while the block runs. Does nothing when alone, or inside another such block."""
    global _channel, _store
    if not processes.is_distributed() or group.is_initialized():
        yield
        return
    rank, size = processes.rank(), processes.world_size()
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=MEETING)))
        _store = PrefixStore("slmlp", store)
        group.init_process_group(
            "gloo", store=PrefixStore("control", store), rank=rank, world_size=size, timeout=PATIENCE
        )
        _store.set_timeout(MEETING)
    except (RuntimeError, ValueError) as error:
        raise SlmlpError(
            f"process {rank} of {size} could not meet the others: {' '.join(str(error).split())[:200]}; see that "
            "MASTER_ADDR and MASTER_PORT (torchrun --rdzv-endpoint) can be reached from every machine"
        ) from error
    try:
        yield
    finally:
        _channel = _store = None
        with contextlib.suppress(RuntimeError):  # what has broken already has been told
            group.destroy_process_group()


def connect(device: torch.device) -> None:
    """Open the channel between the devices that the processes train on."""
    global _channel
    if not processes.is_distributed() or _channel is not None:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    nccl = device.type == "cuda" and group.is_nccl_available()
    made = group.new_group(backend="nccl" if nccl else "gloo", timeout=STEP)
    assert not isinstance(made, int)  # a number stands for a group without this process
    _channel = made


def channel() -> group.ProcessGroup | None:
    """Return the group that tensors of training travel in; None is the default group."""
    return _channel


def share_of(total: int) -> slice:
    """Return this process's contiguous share of ``total`` things, one longer on the first where they do not divide."""
    size, rank = processes.world_size(), processes.rank()
    small, more = divmod(total, size)
    start = rank * small + min(rank, more)
    return slice(start, start + small + (rank < more))


def batch_part(batch_size: int) -> slice:
    """Return the part of every batch that is this process's, refusing a batch that cannot be shared evenly."""
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
    """Return the method with its gradients averaged over the processes; itself when alone.

    ``static_graph``: what has no part in the loss of the first step (an unused layer of an encoder) is left alone, as
    it is on one process. Methods keep their graph: frozen prototypes get a gradient of zeros.
    """
    if not processes.is_distributed():
        return method
    # buffers (statistics, queues) stay a process's own; PyTorch 2.14 gave the setting another name
    known = inspect.signature(DistributedDataParallel).parameters
    buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return DistributedDataParallel(method, process_group=_channel, static_graph=True, **buffers)


def means(rows: Mapping[str, Tensor]) -> dict[str, float]:
    """Return scalars averaged over the processes, in one exchange."""
    if not processes.is_distributed():
        return {name: float(value.detach()) for name, value in rows.items()}
    values = torch.stack([value.detach().double() for value in rows.values()])
    group.all_reduce(values, group=_channel)
    return dict(zip(rows, (values / processes.world_size()).tolist(), strict=True))


def gather(x: Tensor) -> Tensor:
    """Return the rows of all processes, (world * N, ...), in the order of ranks; ``x`` itself when alone.

    Every process must give as many rows. The gradient is the sum of those of all processes (see the head of this file).
    """
    if not processes.is_distributed():
        return x
    if x.requires_grad and torch.is_grad_enabled():
        gathered: Tensor = _Gather.apply(x)
        return gathered
    return torch.cat(gather_list(x))


def gather_list(x: Tensor) -> list[Tensor]:
    """Return the tensors of all processes, of one shape, in the order of ranks, without gradient."""
    images_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    mine = (x.detach().permute(0, 2, 3, 1) if images_last else x.detach()).contiguous()
    parts = [torch.empty_like(mine) for _ in range(processes.world_size())]
    group.all_gather(parts, mine, group=_channel)
    return [part.permute(0, 3, 1, 2) for part in parts] if images_last else parts


def summed(x: Tensor) -> Tensor:
    """Return the sum of the tensors of all processes, in at least float32, without gradient."""
    result = x.detach().to(torch.promote_types(x.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
    group.all_reduce(result, group=_channel)
    return result


class _Gather(torch.autograd.Function):
    """All-gather; backward, the sum over processes of the gradients, of which each takes its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.cat(gather_list(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        return summed(grad).chunk(processes.world_size())[processes.rank()].to(grad.dtype)


def shuffled(network: nn.Module, x: Tensor, groups: int) -> Tensor:
    """Return ``network(x)`` without gradient, computed in other company, so that BatchNorm sees other statistics.

    Over several processes each computes a random share of everybody's images (MoCo's shuffling: He et al. 2020,
    section 3.3). Alone, the batch is computed in ``groups`` random parts instead.
    """
    order = torch.randperm(len(x) * processes.world_size())
    if not processes.is_distributed():
        order = order.to(x.device)
        parts = [network(part) for part in x[order].tensor_split(groups)]
        return torch.cat(parts)[torch.argsort(order)]
    group.broadcast(order, src=0)  # through control, on the CPU; every process draws numbers of its own
    order = order.to(x.device)
    own = slice(processes.rank() * len(x), (processes.rank() + 1) * len(x))
    with torch.no_grad():
        company = torch.cat(gather_list(x))[order[own]]
        outputs = torch.cat(gather_list(network(company)))  # in the shuffled order
        return outputs[torch.argsort(order)[own]]


def collect(x: Tensor, total_rows: int) -> Tensor:
    """Return on process 0 the rows (total_rows, D) of which each process has its ``share_of``; elsewhere, its own."""
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
    """Return whether an error says that another process has gone."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, group.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def speak_once(speak: Callable[[], None], may: bool = True, patience: float = 20) -> None:
    """Call ``speak`` on the first process that comes here and may; the others return when it has spoken.

    Without an exchange: a process may have failed while the others are anywhere. The launcher ends all processes as
    soon as one has ended, so none may leave before the words are out; and process 0, which holds the store where no
    launcher does, leaves last, or the others could not learn that the words are out. Each waits ``patience`` seconds.
    """
    if _store is None:
        speak()
        return
    try:
        _store.add("arrived", 1)
        mine = may and _store.add("speakers", 1) == 1
    except RuntimeError:  # the store has gone with the process that held it
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
            time.sleep(0.2)  # the answer to the one that came last is on its way
