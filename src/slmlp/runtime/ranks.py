"""Raise any rank's failure on all ranks, and agree on decisions; no-ops on one process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as group

from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError

T = TypeVar("T")


def all_gather_object(value: T) -> list[T]:
    """Return the values of all ranks, in order."""
    if not processes.is_distributed():
        return [value]
    values: list[Any] = [None] * processes.world_size()
    group.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Raise a block's SlmlpError or OSError on all ranks if any rank raised one. The block must have no collective.

    The message is that of the lowest failed rank, and names it unless it is rank 0. All ranks leave the block together.
    """
    if not processes.is_distributed():
        yield
        return
    error: Exception | None = None
    try:
        yield
    except SlmlpError as caught:
        error = caught
    except OSError as caught:
        error = SlmlpError(f"{caught.filename or 'the system'}: {caught.strerror or caught}")
    for rank, (words, host) in enumerate(
        all_gather_object((None if error is None else str(error), socket.gethostname()))
    ):
        if words is not None:
            where = f" (process {rank} of {processes.world_size()}, on {host})" if rank else ""
            raise SlmlpError(words + where) from error


def on_rank0(work: Callable[[], T]) -> T:
    """Call ``work`` on rank 0 and return its result on all ranks."""
    if not processes.is_distributed():
        return work()
    result: list[Any] = [None]
    with raise_on_all_ranks():
        if processes.is_main():
            result = [work()]
    group.broadcast_object_list(result, src=0)
    value: T = result[0]
    return value


def rank_by_rank(work: Callable[[], T]) -> T:
    """Call ``work`` on one rank of each machine first, then on the others, which can read files it wrote."""
    if not processes.is_distributed():
        return work()
    results: list[T] = []
    for leader in (True, False):
        with raise_on_all_ranks():
            if (processes.local_rank() == 0) == leader:
                results.append(work())
    return results[0]


def assert_same(values: Mapping[str, str]) -> None:
    """Raise SlmlpError unless all ranks have the same ``values`` (name -> hash)."""
    gathered = all_gather_object(values)
    for rank, of_rank in enumerate(gathered):
        differing = [name for name in values if of_rank[name] != gathered[0][name]]
        if differing:
            raise SlmlpError(
                f"process {rank} of {len(gathered)} has another {' and '.join(differing)} than process 0: give every "
                "machine the same command and the same files"
            )


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank."""
    return bool(highest(int(flag)))


def highest(number: int) -> int:
    """Return the highest of the ranks' numbers."""
    if not processes.is_distributed():
        return number
    numbers = torch.tensor([number])
    group.all_reduce(numbers, group.ReduceOp.MAX)
    return int(numbers)


def mean(x: Tensor) -> Tensor:
    """Return the mean over ranks of a tensor in the host's memory, in float64."""
    x = x.double()
    if processes.is_distributed():
        group.all_reduce(x)
        x /= processes.world_size()
    return x


def wait_for_all() -> None:
    """Wait until all ranks have called this."""
    if processes.is_distributed():
        group.barrier()
