"""``python -m slmlp``, and the command ``slmlp``."""

import signal
import sys


def run() -> int:
    """Run the command line on ``sys.argv`` and return the exit code."""
    # until the command line's own handlers stand, Ctrl-C ends the process without the traceback of half an import
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from slmlp.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
