"""How far a study is, and how long the rest will take by the speed so far."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Self

from slmlp.config.names import display
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.plan import Key, Plan
from slmlp.experiments.study.task import Task
from slmlp.results import records
from slmlp.runtime.progress import duration, say
from slmlp.train.run import Run

EVERY = 60.0  # seconds between two lines of progress
SOON = 0.01  # of the seconds planned, before which the speed so far says little


@dataclass
class StudyProgress:
    """Says how far a study is: after every run, and every minute between from a thread, also in what follows them."""

    context: Context
    plan: Plan
    _done: set[Key] = field(default_factory=set)
    _phase: str = ""
    _best: str = ""

    def __enter__(self) -> Self:
        self._done |= self.plan.done
        self._before = self._trained()
        self._began = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # a signal that the main thread holds back (``pool``) would reach it through this one
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        self._thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def finished(self, task: Task) -> None:
        """Count a run that was done, and say so."""
        name = task.spec if task.kind == "grid" else self._contender(task.spec)
        key = (task.kind, name, task.rate if task.kind == "grid" else 0.0, task.seed)
        if key in self._done or key not in self.plan.runs:
            return
        self._done.add(key)
        self._best = self._best_so_far()
        say(self.line())

    def _contender(self, name: str) -> str:
        """Return the contender as the plan has it: which of the varied settings are chosen was not known then."""
        asked = self.context.spec(name).variant_of
        return asked.name if asked else name

    def phase(self, words: str) -> None:
        """Name what is done now beside runs; "" where runs begin, from when their speed is measured."""
        self._phase = words
        if not words:
            self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds left: by the plan at first, then by the speed so far, of the runs that train now too."""
        trained = self._trained()
        rest = sum(run.seconds - trained.get(key, 0.0) for key, run in self.plan.runs.items() if key not in self._done)
        taken = time.monotonic() - self._began
        ended = sum(self.plan.runs[key].seconds for key in self._done - self.plan.done)
        made = ended + sum(trained.values()) - sum(self._before.values())  # of the seconds planned
        if made <= SOON * rest or taken <= 0:
            return rest / self.plan.parallel
        return rest * taken / made

    def _trained(self) -> Mapping[Key, float]:
        """Return, of the runs that are not done, the seconds planned of what is trained already."""
        folder = self.context.folder / "runs"
        return {
            key: run.training * max((Run(folder / name).share for name in run.folders), default=0.0)
            for key, run in self.plan.runs.items()
            if key not in self._done
        }

    def line(self) -> str:
        """Return done, left and best so far."""
        runs, done = len(self.plan.runs), len(self._done)
        left = f", about {duration(self.left)} left" if done < runs else ""
        return f"study: {done} of {runs} runs done{left}{self._best}" + (f"; now {self._phase}" if self._phase else "")

    def _best_so_far(self) -> str:
        values: dict[str, list[float]] = {}
        for row in records.read(self.context.engine.store.file):
            if (row.task, row.metric, row.role) == ("unseen", "accuracy", "final"):
                values.setdefault(row.method, []).append(row.value)
        if not values:
            return ""
        best = max(values, key=lambda name: fmean(values[name]))
        return f"; best so far {display(best)}, {100 * fmean(values[best]):.1f} % of unseen images"

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            say(self.line())
