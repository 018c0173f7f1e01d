"""Rank and world size as the launcher sets them in the environment. Needs no torch.

torchrun sets these variables in every process it starts; other launchers may set the same.
"""

from __future__ import annotations

import os

from slmlp.runtime.errors import SlmlpError

PREFIXES = ("TORCHELASTIC_",)
VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def world_size() -> int:
    """Return how many processes share the work; 1 is alone."""
    return _number("WORLD_SIZE", 1, least=1)


def is_distributed() -> bool:
    """Return whether other processes share the work."""
    return world_size() > 1


def rank() -> int:
    """Return this process's number, from 0."""
    return _number("RANK", None, least=0) if is_distributed() else 0


def is_main() -> bool:
    """Return whether this is process 0: the one that writes and speaks."""
    return rank() == 0


def local_rank() -> int:
    """Return this process's number among those of its machine."""
    return _number("LOCAL_RANK", rank(), least=0) if is_distributed() else 0


def local_size() -> int:
    """Return how many of the processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", world_size(), least=1) if is_distributed() else 1


def holds_store() -> bool:
    """Return whether the store through which the processes meet lives in this one, not in their launcher."""
    return is_main() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def alone_only(what: str) -> None:
    """Refuse to go on as one of several processes."""
    if is_distributed():
        raise SlmlpError(
            f"{what} runs as one process, found WORLD_SIZE={world_size()}: start it without torchrun (a study starts "
            "processes of its own); only pretrain, features, evaluate and detect share their work between processes"
        )


def alone_environment() -> dict[str, str]:
    """Return the environment without what a launcher has put there, for a process that shall be alone."""
    return {k: v for k, v in os.environ.items() if k not in VARIABLES and not k.startswith(PREFIXES)}


def _number(name: str, default: int | None, least: int) -> int:
    found = os.environ.get(name, "" if default is None else str(default))
    if found.isdecimal() and int(found) >= least:
        return int(found)
    raise SlmlpError(
        f"the environment variable {name} is {found!r} though it must be a number from {least} on where WORLD_SIZE is "
        "set: start several processes with torchrun, or unset WORLD_SIZE to run as one"
    )
