"""The command slmlp serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from slmlp.cli.answer import Answer
from slmlp.config.flags import argument, main


@dataclass(frozen=True)
class Serve:
    """Show the studies and runs of a folder in a browser: pages, live curves of what trains, comparisons that you tick.

    Example: `slmlp serve RUNS`, then open the address that it prints; Ctrl-C ends it.
    It only reads, and answers to this machine alone; on another `--host` a token is needed, which it prints.
    """

    folder: str = field(metadata=argument("RUNS", "the folder of studies and runs"))
    """Folder of a study or run, or one above several."""
    host: str = field(default="127.0.0.1", metadata=main("address to listen on"))
    """Address to listen on; others than this machine's own need the token."""
    port: int = field(default=8765, metadata=main("port; 0 takes a free one"))
    """Port to listen on; 0 takes a free one."""
    token: str | None = field(default=None, metadata=main("what a browser must know; drawn where it is needed"))
    """What a browser must know to be answered; drawn on a --host other than this machine's own. Anybody who can list
    the processes of this machine can read it here: leave it to be drawn."""

    def run(self) -> Answer:
        """Serve until Ctrl-C."""
        from slmlp.runtime.progress import say
        from slmlp.serving.main import serve

        addresses: list[str] = []

        def started(address: str) -> None:
            addresses.append(address)
            say(f"serving {self.folder} at {address} (Ctrl-C ends it)")

        serve(Path(self.folder), self.host, self.port, self.token, started)
        return Answer({"address": addresses[0]})
