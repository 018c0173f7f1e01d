"""What a person sees while something runs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from slmlp.runtime import processes

console = Console(stderr=True, highlight=False)
EVERY = 10.0  # seconds between lines where stderr is no terminal


def say(text: str) -> None:
    """Print one line to stderr from the first process, as it is (no markup: class names may hold brackets)."""
    if processes.is_main():
        console.print(text, markup=False, soft_wrap=True)


class Steps:
    """Progress over the steps of a run; the first sign comes with the first step."""

    def __init__(self, label: str, total: int, done: int, images_per_step: int, show: bool = True) -> None:
        self.label, self.total, self.images = label, total, images_per_step
        self.begun_at, self.first, self.shown = time.monotonic(), done, 0.0
        self.show = show = show and processes.is_main()
        self.bar: Progress | None = None
        if show and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.bar.add_task(label, total=total, completed=done, text="")

    def __enter__(self) -> Steps:
        """Start the bar."""
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar, whatever happened."""
        if self.bar:
            self.bar.stop()

    def update(self, step: int, text: str) -> None:
        """Tell that ``step`` steps are done."""
        if not self.show:
            return
        now = time.monotonic()
        speed = (step - self.first) * self.images / max(now - self.begun_at, 1e-9)
        words = f"{text}  {speed:,.0f} images/s"
        if self.bar:
            self.bar.update(self.task, completed=step, text=words)
        elif now - self.shown >= EVERY or step == self.total:
            self.shown = now
            left = (self.total - step) * (now - self.begun_at) / max(step - self.first, 1)
            say(f"{self.label}: step {step}/{self.total}  {words}  {duration(left)} left")


def duration(seconds: float) -> str:
    """Return seconds in words of a clock: ``45 s``, ``12 min``, ``3 h 05 min``.

    >>> duration(45), duration(725), duration(11100)
    ('45 s', '12 min', '3 h 05 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
