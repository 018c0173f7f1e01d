"""Read rank and world size from the launcher's environment variables, without torch.

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
    """Return the number of processes."""
    return _number("WORLD_SIZE", 1, least=1)


def is_distributed() -> bool:
    """Return whether there are several processes."""
    return world_size() > 1


def rank() -> int:
    """Return this process's rank, from 0."""
    return _number("RANK", None, least=0) if is_distributed() else 0


def is_main() -> bool:
    """Return whether this is rank 0, which writes files and prints."""
    return rank() == 0


def local_rank() -> int:
    """Return this process's rank among those of its machine."""
    return _number("LOCAL_RANK", rank(), least=0) if is_distributed() else 0


def local_size() -> int:
    """Return the number of processes on this machine."""
    return _number("LOCAL_WORLD_SIZE", world_size(), least=1) if is_distributed() else 1


def holds_store() -> bool:
    """Return whether this process, not the launcher, hosts the store of the rendezvous."""
    return is_main() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def alone_only(what: str) -> None:
    """Raise SlmlpError if there are several processes."""
    if is_distributed():
        raise SlmlpError(
            f"{what} runs as one process, found WORLD_SIZE={world_size()}: start it without torchrun (a study starts "
            "processes of its own); only pretrain, features, evaluate and detect share their work between processes"
        )


def alone_environment() -> dict[str, str]:
    """Return the environment without a launcher's variables, for a process of its own."""
    return {k: v for k, v in os.environ.items() if k not in VARIABLES and not k.startswith(PREFIXES)}


def _number(name: str, default: int | None, least: int) -> int:
    value = os.environ.get(name, "" if default is None else str(default))
    if value.isdecimal() and int(value) >= least:
        return int(value)
    raise SlmlpError(
        f"the environment variable {name} is {value!r} though it must be a number from {least} on where WORLD_SIZE is "
        "set: start several processes with torchrun, or unset WORLD_SIZE to run as one"
    )
