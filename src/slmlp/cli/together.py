"""Run a command on several processes: rank 0 prints, and all processes end together."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from slmlp.cli import attempt
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

LOST = (
    "slmlp: another process has ended (killed, out of memory, its machine gone, or as shown above); what was saved is "
    "kept: the same command, or slmlp pretrain --resume RUN, resumes from it"
)


def together(words: list[str], debug: bool) -> int:
    """Run one command as one of several processes; only rank 0 prints, and only one process reports a failure."""
    with contextlib.ExitStack() as quiet:
        if not processes.is_main():
            nowhere = quiet.enter_context(Path(os.devnull).open("w"))
            quiet.enter_context(contextlib.redirect_stdout(nowhere))
            quiet.enter_context(contextlib.redirect_stderr(nowhere))
        if not {"-q", "--quiet"} & set(words):  # what the words ask for is read when libraries are loaded
            say(f"{processes.world_size()} processes: loading libraries and waiting for all of them")
        from slmlp.runtime import distributed

        try:
            with distributed.joined():
                code, line = _attempt(words, debug)
                if code:
                    _end(line, code)
        except SlmlpError as error:  # they did not meet: there is no telling what the others say
            print(f"slmlp: {error}", file=sys.__stderr__)
            return 2
        except KeyboardInterrupt:
            return 130
    return code


def _attempt(words: list[str], debug: bool) -> tuple[int, str]:
    from slmlp.runtime import distributed

    try:
        return attempt(words, debug)
    except SystemExit as ended:  # of a help, which has been printed
        return int(ended.code or 0), ""
    except RuntimeError as error:
        if not distributed.broken(error):
            raise
        return 2, LOST


def _end(line: str, code: int) -> NoReturn:
    """Say the line, if no other process has spoken, and end; the launcher may end this process any time from now on."""
    from slmlp.runtime import distributed

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    distributed.speak_once(
        lambda: print(line, file=sys.__stderr__, flush=True) if line else None,
        bool(line) or processes.is_main(),
        patience=3 if line == LOST else 20,  # one that was killed never comes
    )
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        if stream is not None:
            stream.flush()
    # at once: the threads and destructors of a group whose other members have gone may abort the process (signal 6)
    os._exit(code)
