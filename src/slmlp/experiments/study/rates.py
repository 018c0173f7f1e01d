"""Choose each method's learning rate: from one grid, by accuracy on source validation images, never on test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from slmlp.experiments.study import grid as grid_runs
from slmlp.experiments.study import pool
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.specs import Spec
from slmlp.experiments.study.task import Task
from slmlp.results import records
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say


@dataclass(frozen=True)
class Rates:
    """The chosen base rate of each contender, and the validation accuracy of every rate that could be trained."""

    chosen: dict[str, float]
    validation: dict[str, dict[float, float]] = field(default_factory=dict)
    failed: dict[str, dict[float, str]] = field(default_factory=dict)

    def of(self, spec: Spec) -> float:
        """Return the rate of a contender."""
        return self.chosen[spec.name]


def choose(context: Context, finished: Callable[[Task], None] = lambda task: None) -> Rates:
    """Return the rate of every contender; a grid of one rate is taken as it is. ``finished`` is called after each run.

    Each rate is trained in full with one seed on the source images less the validation share; a linear probe on the
    frozen features of that training part is scored on the validation share. The unseen accuracy of these runs is
    recorded too (role ``grid``), for the table at equal rates; it chooses nothing.
    """
    grid = context.cfg.grid
    if len(grid) == 1:
        return Rates({spec.name: grid[0] for spec in context.specs})
    tasks = [Task("grid", spec.name, rate, grid_runs.SEED) for rate in grid for spec in context.specs]
    errors = pool.run_all(context, tasks, finished)
    rates = Rates({})
    scores = {
        (row.method, row.base_lr): row.value
        for row in records.read(context.engine.store.file)
        if row.role == "grid" and row.task == "validation" and row.hashes.get("split") == context.split.hash()
    }
    for task, error in errors.items():
        if "--base-lr" not in error:  # only a rate that cannot be trained is a result; anything else is an error
            raise SlmlpError(f"{task.words}: {error}")
        rates.failed.setdefault(task.spec, {})[task.rate] = error
        say(f"{task.words} cannot be trained and is left out: {error}")
    for spec in context.specs:
        validation = {rate: scores[spec.name, rate] for rate in grid if rate not in rates.failed.get(spec.name, {})}
        if not validation:
            raise SlmlpError(
                f"{spec.name} could not be trained at any of the rates {', '.join(f'{r:g}' for r in grid)}"
            )
        rates.validation[spec.name] = validation
        best = max(validation.values())
        rates.chosen[spec.name] = min(rate for rate, score in validation.items() if score == best)
        listed = ", ".join(f"{rate:g}: {100 * score:.1f} %" for rate, score in validation.items())
        say(f"{spec.name}: base rate {rates.chosen[spec.name]:g} chosen by source validation ({listed})")
    return rates
