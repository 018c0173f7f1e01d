"""Long work: in threads, with a progress bar once it takes more than two seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from slmlp.runtime import processes

T = TypeVar("T")
BETWEEN = 10.0  # seconds between lines where stderr is no terminal
PATIENCE = 2.0  # seconds of silence before a progress bar appears


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def track(items: Iterable[T], total: int | None, words: str, *, show: bool = True) -> Iterator[T]:
    """Yield ``items``; when that takes more than ``PATIENCE`` seconds, show a bar, or lines in a log."""
    due = time.monotonic() + PATIENCE
    bar = sys.stderr.isatty()
    with contextlib.ExitStack() as stack:
        advance: Callable[[int], None] | None = None
        for done, item in enumerate(items, 1):
            yield item
            if show and processes.is_main() and time.monotonic() > due:
                advance = advance or (_bar(stack, total, words) if bar else _lines(total, words))
                advance(done)
                due = time.monotonic() + (0.1 if bar else BETWEEN)


def _bar(stack: contextlib.ExitStack, total: int | None, words: str) -> Callable[[int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task(words, total=total)
    return lambda completed: progress.update(task, completed=completed)


def _lines(total: int | None, words: str) -> Callable[[int], None]:
    from slmlp.runtime.progress import say  # brings rich, which a quick command need not wait for

    return lambda done: say(f"{words}: {done:,}" + ("" if total is None else f" of {total:,}"))


def in_threads(
    job: Callable[[int], T], count: int, words: str, *, show: bool = True, chunk: int = 64
) -> Iterator[tuple[int, T]]:
    """Yield ``(i, job(i))`` for i in 0..count-1, in order, computed by one thread a core.

    Only a few chunks are in flight, so that a million images cost no million waiting results. When the caller stops,
    or a job raises, what has not started is cancelled.
    """

    def run(start: int) -> list[tuple[int, T]]:
        return [(i, job(i)) for i in range(start, min(start + chunk, count))]

    def results() -> Iterator[tuple[int, T]]:
        threads = cores()
        pool = ThreadPoolExecutor(threads)
        waiting: list[Future[list[tuple[int, T]]]] = []
        try:
            for start in range(0, count, chunk):
                waiting.append(pool.submit(run, start))
                if len(waiting) > 4 * threads:
                    yield from waiting.pop(0).result()
            for future in waiting:
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return track(results(), count, words, show=show)
