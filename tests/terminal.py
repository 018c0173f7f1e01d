"""A terminal for commands: a pseudo-terminal of a given width, and what was printed to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator

from slmlp.cli import main


class Terminal:
    """What was printed, without colours; ``lines`` as they stand on the screen, ends of lines without spaces."""

    def __init__(self) -> None:
        self.printed = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.printed.decode()).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.text.splitlines()]


@contextlib.contextmanager
def terminal(columns: int = 80) -> Iterator[Terminal]:
    """Let ``sys.stdout`` be a terminal of this width meanwhile."""
    shown, (ours, theirs) = Terminal(), os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while some := os.read(ours, 4096):
                shown.printed += some

    reader = threading.Thread(target=read)
    reader.start()
    before, width = sys.stdout, os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        with os.fdopen(theirs, "w") as sys.stdout:
            yield shown
    finally:
        sys.stdout = before
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
        reader.join()
        os.close(ours)


def seen(*words: object, columns: int = 80) -> Terminal:
    """Return what a command that succeeds prints to a terminal."""
    with terminal(columns) as shown:
        assert main([str(word) for word in words]) == 0
    return shown
