"""What is asked of frozen features: each task is a function of features, its answer a list of scores."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from slmlp.results.records import Score
from slmlp.runtime.errors import unknown

TASKS: dict[str, tuple[str, str, str]] = {  # name -> (module, function, which features it reads)
    "linear": ("slmlp.evaluation.tasks.linear", "linear", "parts"),  # parts: a training and a test part
    "knn": ("slmlp.evaluation.tasks.knn", "knn", "parts"),
    "centroid": ("slmlp.evaluation.tasks.centroid", "centroid", "parts"),
    "labels": ("slmlp.evaluation.tasks.labels", "labels", "parts"),
    "fewshot": ("slmlp.evaluation.tasks.fewshot", "fewshot", "all"),  # all images of the data, whatever their part
    "fine": (
        "slmlp.evaluation.tasks.fine",
        "fine",
        "source",
    ),  # both parts of the source classes
}

__all__ = ["TASKS", "Score", "find"]


def find(name: str) -> Callable[..., list[Score]]:
    """Return the function of a task, imported now."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    module, function, _ = TASKS[name]
    task: Callable[..., list[Score]] = getattr(importlib.import_module(module), function)
    return task
