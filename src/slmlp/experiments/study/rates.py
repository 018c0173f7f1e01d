"""Choose each method's learning rate, and the settings that are varied with it, never on the study's unseen classes.

The choice is made by accuracy on source images held back, or on classes held out of the source classes.
"""

from __future__ import annotations

import dataclasses
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

BY = {"source": "source validation", "unseen-inner": "inner held-out classes"}


@dataclass(frozen=True)
class Rates:
    """The chosen base rate of each contender, and the accuracy that chose of every rate that could be trained.

    Contenders at settings that were varied have names of their own; the chosen ones are in ``chosen``, all in
    ``validation``.
    """

    chosen: dict[str, float]
    validation: dict[str, dict[float, float]] = field(default_factory=dict)
    failed: dict[str, dict[float, str]] = field(default_factory=dict)

    def of(self, spec: Spec) -> float:
        """Return the rate of a contender."""
        return self.chosen[spec.name]


def choose(context: Context, finished: Callable[[Task], None] = lambda task: None) -> tuple[Context, Rates]:
    """Return the study with its chosen contenders, and the rate of each; where nothing is to choose, as it is.

    Every contender is trained in full with one seed at each rate and combination of varied settings, on the source
    images less the validation share, or on the inner source classes; a linear probe on its frozen features is scored
    on that share, or on the inner held-out classes. ``finished`` is called after each run.
    """
    grid = context.cfg.grid
    if not context.cfg.selects:
        return context, Rates({spec.name: grid[0] for spec in context.specs})
    tasks = [Task("grid", spec.name, rate, grid_runs.SEED) for rate in grid for spec in context.candidates]
    errors = pool.run_all(context, tasks, finished)
    rates = Rates({})
    for task, error in errors.items():
        if "--base-lr" not in error:  # only a rate that cannot be trained is a result; anything else is an error
            raise SlmlpError(f"{task.words}: {error}")
        rates.failed.setdefault(task.spec, {})[task.rate] = error
        say(f"{task.words} is left out of the choice")
    scores = _scores(context)
    chosen = []
    for contender in context.specs:
        found: dict[tuple[str, float], float] = {}
        for spec in context.variants(contender):
            failed = rates.failed.get(spec.name, {})
            rates.validation[spec.name] = {rate: scores[spec.name, rate] for rate in grid if rate not in failed}
            found |= {(spec.name, rate): score for rate, score in rates.validation[spec.name].items()}
        if not found:
            listed = ", ".join(f"{r:g}" for r in grid)
            raise SlmlpError(f"{contender.name} could not be trained at any of the rates {listed}")
        best = max(found.values())
        name, rate = next(place for place in sorted(found, key=lambda place: place[1]) if found[place] == best)
        rates.chosen[name] = rate
        chosen.append(context.spec(name))
        _tell(context, name, rate, found)
    return dataclasses.replace(context, specs=tuple(chosen)), rates


def _scores(context: Context) -> dict[tuple[str, float | None], float]:
    """Return (contender, rate) -> the accuracy that chooses."""
    by = context.cfg.select
    wanted = (grid_runs.ROLES[by], grid_runs.DECIDES[by], "accuracy", grid_runs.split_of(context).hash())
    return {
        (row.method, row.base_lr): row.value
        for row in records.read(context.engine.store.file)
        if (row.role, row.task, row.metric, row.hashes.get("split")) == wanted
    }


def _tell(context: Context, name: str, rate: float, found: dict[tuple[str, float], float]) -> None:
    several = len({spec for spec, _ in found}) > 1
    listed = ", ".join(
        f"{f'{spec} at ' if several else ''}{rate:g}: {100 * score:.1f} %" for (spec, rate), score in found.items()
    )
    say(f"{name}: base rate {rate:g} chosen by {BY[context.cfg.select]} ({listed})")
