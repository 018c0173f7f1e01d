"""Ctrl-C and SIGTERM: the first ends a command where it can go on from, a further one at once.

During an import the first ends the process at once, too. An exception in the middle of one reaches code that cannot
bear it: torch's own aborts the process, and a callback of the import system prints and forgets it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn

from slmlp.runtime import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None  # what signal.signal takes and returns
STOPPED = "slmlp: stopped; the same command goes on from here"
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


@contextlib.contextmanager
def program(*, ends: bool) -> Iterator[None]:
    """Let the first signal raise KeyboardInterrupt and the second end the process at once, with exit code 130.

    Where the interpreter cannot raise the first, in a destructor or a callback, the process ends at once, too. What is
    cut off then is what a kill leaves; processes of its own are killed. Signals that are ignored, as Ctrl-C in a job
    in the background is, stay so. Python allows handlers in the main thread only.

    Args:
        ends: whether the process ends after the context, so that signals go on to end it at once, and without a word;
            else the handlers of before return.
    """
    before = _installed(_first)
    unraisable = sys.unraisablehook
    if before:
        sys.unraisablehook = _not_forgotten(unraisable)
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, _silently if ends else handler)


def came() -> bool:
    """Return whether the first signal has come to a ``program``."""
    return any(signal.getsignal(number) is _at_once for number in SIGNALS)


class Interrupt:
    """Context in which the first signal sets ``requested``, and the second ends as if it were the first without it.

    In a ``program`` that is the end at once, elsewhere a KeyboardInterrupt. Several processes agree on the step to stop
    at, so there further signals are ignored; the launcher kills processes that do not end in time.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> Interrupt:
        """Install the handlers, except for ignored signals."""
        self._before = _installed(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers; where a signal came it was the first."""
        for number, handler in self._before.items():
            signal.signal(number, _at_once if self.requested and handler is _first else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not processes.is_distributed():
            if self._before[signal.Signals(number)] is _first:
                _at_once(number, frame)
            raise KeyboardInterrupt
        self.requested = True


def _installed(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, Handler]:
    """Install a handler for the signals that are not ignored, and return those of before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {n: signal.signal(n, handler) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}


def _first(number: int, frame: FrameType | None) -> NoReturn:
    for each in SIGNALS:
        if signal.getsignal(each) is _first:
            signal.signal(each, _at_once)
    if importing(frame):
        _at_once(number, frame)
    raise KeyboardInterrupt


def importing(frame: FrameType | None) -> bool:
    """Return whether an import is in progress below a frame."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _not_forgotten(before: Callable[[sys.UnraisableHookArgs], Any]) -> Callable[[sys.UnraisableHookArgs], Any]:
    """Return a hook that ends the process where a signal's KeyboardInterrupt would be printed and forgotten."""

    def hook(args: sys.UnraisableHookArgs) -> None:
        if args.exc_type is KeyboardInterrupt and came():
            _at_once(signal.SIGINT, None)
        before(args)

    return hook


def _at_once(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_further()
    with contextlib.suppress(OSError):  # the terminal may have gone
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + f"{STOPPED}\n".encode())
    _silently(number, frame)


def _silently(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_further()
    try:
        # not imported here: without it there are no children, and a signal in the middle of an import breaks it
        process = sys.modules.get("multiprocessing.process")
        for child in process.active_children() if process else ():
            with contextlib.suppress(OSError):  # it has ended
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)
    finally:
        os._exit(130)


def _ignore_further() -> None:
    """Let no further signal come between the handler and the end of the process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
