"""On Ctrl-C or SIGTERM, end a run after the current step with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from slmlp.runtime import processes


class Interrupt:
    """While it is entered, the first signal only sets ``requested``; a second one acts at once.

    Of several processes none may leave by itself: they agree on the step, however often their launcher asks; what does
    not end in time it kills.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        """Take the signals over, unless they are ignored (only the main thread of a process may)."""
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hand the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not processes.is_distributed():
            raise KeyboardInterrupt
        self.requested = True
