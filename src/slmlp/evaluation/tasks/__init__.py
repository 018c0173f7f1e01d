"""The tasks, one file each, with a function ``run`` from inputs and settings to scores; see ``config.TASKS``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from slmlp import config
from slmlp.config import TASKS
from slmlp.results.records import Score
from slmlp.runtime.errors import SlmlpError, unknown

__all__ = ["TASKS", "Score", "check_tasks", "runner"]


def check_tasks(names: Sequence[str]) -> None:
    """Check that every name is a task of evaluations and suites."""
    if not names:
        raise SlmlpError(f"no task was named; choose among {', '.join(config.OFFERED)}")
    for name in names:
        if name not in config.OFFERED:
            raise unknown("task", name, config.OFFERED)


def runner(name: str) -> Callable[..., list[Score]]:
    """Return the function ``run(inputs, *settings)`` of a task; its module is imported now."""
    run: Callable[..., list[Score]] = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").run
    return run
