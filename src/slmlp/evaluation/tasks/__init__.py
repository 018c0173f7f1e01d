"""The tasks: functions from inputs and settings to scores, each in the module that ``config.TASKS`` names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from slmlp import config
from slmlp.results.records import Score
from slmlp.runtime.errors import SlmlpError

__all__ = ["Score", "check_tasks", "runner"]


def check_tasks(words: Sequence[str]) -> tuple[str, ...]:
    """Return the names of tasks of evaluations and suites, each once; those of plug-ins are loaded."""
    if not words:
        raise SlmlpError(f"no task was named; choose among {', '.join(config.OFFERED)}")
    return config.load_tasks(words)


def runner(name: str) -> Callable[..., list[Score]]:
    """Return a task's function of inputs and settings; its module is imported now."""
    task = config.task_entry(name)
    if task.plugin is not None:
        own: Callable[..., list[Score]] = task.plugin.kind.run
        return own if task.own is None else lambda inputs, *settings: own(inputs, *settings, task.own)
    module, _, function = (task.code or f"{name.replace('-', '_')}:run").partition(":")
    run: Callable[..., list[Score]] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return run
