"""What can be refused of a command before a library is loaded: names that nothing bears, files that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.cli.parse import Option, options
from slmlp.config import sources
from slmlp.config.names import named
from slmlp.runtime.errors import SlmlpError


def check(command: Any) -> None:
    """Check the values of a command by what its fields take, then by what the command says itself.

    Raises:
        SlmlpError: one line for the first that cannot be.
    """
    for option in sorted(options(command), key=lambda option: option.takes != "task"):  # names before places
        if option.takes in CHECKS and option.default not in (None, ()):
            values = option.default if isinstance(option.default, tuple) else (option.default,)
            for value in values:
                CHECKS[option.takes](option, value)
    if hasattr(command, "check"):
        command.check()


def _data(option: Option, value: str) -> None:
    sources.check_data(value)


def _encoder(option: Option, value: str) -> None:
    """Check one encoder, which may have a name before it; a file of features is one of ``evaluate``."""
    source = value if Path(value).exists() else named(value)[1]
    if source.endswith(".npz"):
        _file(option, source)
    else:
        sources.check_encoder(source)


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


CHECKS: dict[str, Callable[[Option, str], None]] = {
    "data": _data, "encoder": _encoder, "weights": _weights, "run": _run, "file": _file, "folder": _folder,
    "task": _task,
}  # fmt: skip
