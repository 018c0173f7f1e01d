"""What is said beside an answer, on stderr: progress, warnings, details. Rank 0 only.

Progress is a bar on a terminal, a line every ten seconds in a log. How much is said (``-q``, ``-v``) stands in one
environment variable, so that processes which a command starts say as much.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from slmlp.runtime import processes
from slmlp.runtime.plain import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")
VERBOSITY = "SLMLP_VERBOSITY"
QUIET, USUAL, VERBOSE = "quiet", "", "verbose"
DELAY = 2.0  # seconds before ``track`` shows anything
INTERVAL = 10.0  # seconds between lines in a log


@functools.cache
def _console() -> Console:
    from rich.console import Console  # slow to import

    return Console(stderr=True, highlight=False)


_kept: dict[str, list[str]] = {"warnings": [], "plan": []}


@contextlib.contextmanager
def speaking(verbosity: str) -> Iterator[None]:
    """Say as much, here and in processes that start meanwhile; what was warned of before is forgotten."""
    before = os.environ.get(VERBOSITY, USUAL)
    os.environ[VERBOSITY] = verbosity
    for texts in _kept.values():
        texts.clear()
    try:
        yield
    finally:
        os.environ[VERBOSITY] = before


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Say nothing meanwhile but warnings."""
    before = _verbosity()
    os.environ[VERBOSITY] = QUIET
    try:
        yield
    finally:
        os.environ[VERBOSITY] = before


def _verbosity() -> str:
    return os.environ.get(VERBOSITY, USUAL)


def say(text: str) -> None:
    """Print one line to stderr on rank 0, unless quiet; without markup: class names may contain brackets."""
    if _verbosity() != QUIET:
        _print(text)


def detail(text: str) -> None:
    """Print one line to stderr on rank 0 if more than usual is asked for."""
    if _verbosity() == VERBOSE:
        _print(text)


def warn(text: str) -> None:
    """Print a warning to stderr on rank 0, and keep it for the answer in JSON."""
    _kept["warnings"].append(plain(text))
    _print(f"warning: {text}")


def plan(text: str, *more: str) -> None:
    """Print a plan to stderr on rank 0, quiet or not since it is all that is asked for, and keep it for the answer."""
    _kept["plan"] += map(plain, (text, *more))
    for line in (f"plan: {text}", *more):
        _print(line)


def kept(kind: str) -> list[str]:
    """Return what this process has printed of a kind while its command ran: ``warnings`` or ``plan``."""
    return list(_kept[kind])


def _print(text: str) -> None:
    if processes.is_main():
        _console().print(plain(text), markup=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print one line of an answer to stdout, names of data and files without codes that act on a terminal."""
    print(plain(text))


class _Display:
    """A bar or lines for ``total`` items, shown after ``delay`` seconds; a delayed bar disappears at the end."""

    def __init__(self, label: str, total: int | None, completed: int, delay: float, show: bool) -> None:
        self.label, self.total, self.completed, self.delay = plain(label), total, completed, delay
        self.show = show and processes.is_main() and _verbosity() != QUIET
        self.terminal = sys.stderr.isatty()
        self.due = time.monotonic() + delay
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        """Start the bar, unless it is delayed."""
        if self.show and self.terminal and not self.delay:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def refresh(self, completed: int, text: str, line: Callable[[int], str], *, always: bool = False) -> None:
        """Show ``text`` on the bar, or print ``line``, if that is due or ``always``."""
        now = time.monotonic()
        if not self.show or not (always or now > self.due):
            return
        if self.terminal:
            bar = self.bar or self._start()
            bar.update(bar.task_ids[0], completed=completed, text=plain(text))
            self.due = now + 0.1
        else:
            say(line(completed))
            self.due = now + INTERVAL

    def _start(self) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )  # fmt: skip

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=_console(), transient=self.delay > 0,
        )  # fmt: skip
        self.bar.add_task(self.label, total=self.total, completed=self.completed, text="")
        self.bar.start()
        return self.bar


def track(items: Iterable[T], total: int | None, label: str, *, show: bool = True) -> Iterator[T]:
    """Yield ``items``, showing progress if that takes more than ``DELAY`` seconds."""
    of = "" if total is None else f" of {total:,}"

    def line(done: int) -> str:
        return f"{label}: {done:,}{of}"

    with _Display(label, total, 0, DELAY, show) as display:
        for done, item in enumerate(items, 1):
            yield item
            display.refresh(done, "", line)


class TrainingProgress(_Display):
    """Progress over the steps of a training run, from its first step, with images per second."""

    def __init__(self, label: str, total: int, done: int, images_per_step: int, show: bool = True) -> None:
        super().__init__(label, total, done, 0.0, show)
        self.steps, self.images, self.start_time = total, images_per_step, time.monotonic()

    def update(self, step: int, text: str) -> None:
        """Show that ``step`` steps are done."""
        seconds, steps = time.monotonic() - self.start_time, step - self.completed
        text = f"{text}  {steps * self.images / max(seconds, 1e-9):,.0f} images/s"
        left = (self.steps - step) * seconds / max(steps, 1)
        line = f"{self.label}: step {step}/{self.steps}  {text}  {duration(left)} left"
        self.refresh(step, text, lambda _: line, always=step == self.steps)


def duration(seconds: float) -> str:
    """Format seconds as ``45 s``, ``12 min`` or ``3 h 05 min``.

    >>> duration(45), duration(725), duration(11100)
    ('45 s', '12 min', '3 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
