"""On Ctrl-C or SIGTERM, end a run after the current step with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import ClassVar

from slmlp.runtime import processes


class Interrupt:
    """Context in which the first signal sets ``requested`` and the second raises KeyboardInterrupt.

    Several processes agree on the step to stop at, so there further signals are ignored; the launcher kills processes
    that do not end in time.
    """

    signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        """Install the handlers, except for ignored signals (Python allows that in the main thread only)."""
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not processes.is_distributed():
            raise KeyboardInterrupt
        self.requested = True
