"""Run a function over many indices in threads, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from slmlp.runtime.progress import track

T = TypeVar("T")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    job: Callable[[int], T], count: int, label: str, *, show: bool = True, chunk: int = 64
) -> Iterator[tuple[int, T]]:
    """Yield ``(i, job(i))`` for i in 0..count-1, in order, computed by one thread per core.

    Only a few chunks are submitted at a time, to bound the memory of results. Pending chunks are cancelled when the
    caller stops or a job raises.
    """

    def run(start: int) -> list[tuple[int, T]]:
        return [(i, job(i)) for i in range(start, min(start + chunk, count))]

    def results() -> Iterator[tuple[int, T]]:
        threads = cores()
        pool = ThreadPoolExecutor(threads)
        pending: list[Future[list[tuple[int, T]]]] = []
        try:
            for start in range(0, count, chunk):
                pending.append(pool.submit(run, start))
                if len(pending) > 4 * threads:
                    yield from pending.pop(0).result()
            for future in pending:
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return track(results(), count, label, show=show)
