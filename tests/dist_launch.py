"""Starting processes that share their work, and what they said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def started(count: int, *words: object) -> list[subprocess.Popen[str]]:
    """Start processes as a launcher does, without the seconds that torchrun itself takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env={**os.environ, **{k: str(v) for k, v in shared.items()}, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(count)
    ]


def ended(group: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return code, stdout and stderr of each."""
    said = [process.communicate(timeout=600) for process in group]
    return [(process.returncode, *words) for process, words in zip(group, said, strict=True)]


def told(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("slmlp: ")]
