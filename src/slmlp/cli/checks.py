"""Check the words of a command before a library is loaded: unknown names, missing files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.cli.parse import Option, options
from slmlp.config import networks, sources
from slmlp.config.names import named
from slmlp.runtime.errors import SlmlpError


def check(command: Any) -> None:
    """Check the values of a command by what its fields take, and by what the command says itself.

    Names come before places: tasks, then the command's own, which may be methods; a file of either may add networks.

    Raises:
        SlmlpError: one line for the first that cannot be.
    """
    given = [option for option in options(command) if option.takes in CHECKS and option.default not in (None, ())]
    _check_all(option for option in given if option.takes == "task")
    if hasattr(command, "check"):
        command.check()
    _check_all(option for option in given if option.takes != "task")


def _check_all(given: Iterable[Option]) -> None:
    for option in given:
        for value in option.default if isinstance(option.default, tuple) else (option.default,):
            CHECKS[option.takes](option, value)


def _data(option: Option, value: str) -> None:
    sources.check_data(value)


def _encoder(option: Option, value: str) -> None:
    """Check one encoder; a file of features is one of ``evaluate``."""
    if value.endswith(".npz"):
        _file(option, value if Path(value).exists() else named(value)[1])
    else:
        check_encoder(value)


def check_encoder(word: str) -> None:
    """Check one encoder, which may have a name before it."""
    sources.check_encoder(word if Path(word).exists() else named(word)[1])


def _weights(option: Option, value: str) -> None:
    if value != "random":
        sources.check_encoder(value)


def _run(option: Option, value: str) -> None:
    if not (Path(value) / "config.json").exists():
        raise SlmlpError(f"{value} holds no run (no config.json); expected a folder made by slmlp pretrain")


def _file(option: Option, value: str) -> None:
    if not Path(value).expanduser().exists():
        raise SlmlpError(f"{option.flag}: there is no file {value}")


def _folder(option: Option, value: str) -> None:
    if not Path(value).expanduser().is_dir():
        raise SlmlpError(f"{option.flag}: there is no folder {value}")


def _task(option: Option, value: str) -> None:
    config.load_tasks([value])


def _network(option: Option, value: str) -> None:
    networks.check_encoder(value)


CHECKS: dict[str, Callable[[Option, str], None]] = {
    "data": _data, "encoder": _encoder, "weights": _weights, "run": _run, "file": _file, "folder": _folder,
    "task": _task, "network": _network,
}  # fmt: skip
