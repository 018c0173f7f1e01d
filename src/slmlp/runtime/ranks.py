"""Raise any rank's failure on all ranks, and agree on decisions; no-ops on one process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import distributed as group

from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError

T = TypeVar("T")


def all_gather_object(value: T) -> list[T]:
    """Return the values of all processes, in the order of ranks."""
    if not processes.is_distributed():
        return [value]
    values: list[Any] = [None] * processes.world_size()
    group.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Run a block that holds no exchange; where it fails on one process, it fails on all, with the same words.

    The words are those of the first process that failed, which is named unless it is process 0. Returns on no process
    before all have come here.
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
    """Return to every process what ``work`` returns to process 0, which alone does it."""
    if not processes.is_distributed():
        return work()
    result: list[Any] = [None]
    with raise_on_all_ranks():
        if processes.is_main():
            result = [work()]
    group.broadcast_object_list(result, src=0)
    made: T = result[0]
    return made


def rank_by_rank(work: Callable[[], T]) -> T:
    """Return ``work()``, done by one process of each machine, then by the others, who find the files it left."""
    if not processes.is_distributed():
        return work()
    results: list[T] = []
    for leader in (True, False):
        with raise_on_all_ranks():
            if (processes.local_rank() == 0) == leader:
                results.append(work())
    return results[0]


def assert_same(values: Mapping[str, str]) -> None:
    """Refuse processes that do not agree on ``values`` (what -> its hash)."""
    everyone = all_gather_object(values)
    for rank, theirs in enumerate(everyone):
        differing = [name for name in values if theirs[name] != everyone[0][name]]
        if differing:
            raise SlmlpError(
                f"process {rank} of {len(everyone)} has another {' and '.join(differing)} than process 0: give every "
                "machine the same command and the same files"
            )


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any process."""
    if not processes.is_distributed():
        return flag
    found = torch.tensor([int(flag)])
    group.all_reduce(found, group.ReduceOp.MAX)
    return bool(found)


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if processes.is_distributed():
        group.barrier()
