"""Read the losses of steps from the device: an interval of steps in one copy, while the next interval runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from slmlp.runtime import ranks
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.transfer import HostCopy
from slmlp.train import collapse

if TYPE_CHECKING:
    from slmlp.train.loop import State, Step
    from slmlp.train.optim import Schedule

GUESSING = 0.985  # a loss above this share of that of guessing is still that of guessing
FALLS = 0.001  # share of it by which the mean of an epoch falls at least where something is learnt
ERRORS = 2  # and as many standard errors of the two means' difference


@dataclass
class _Interval:
    """Steps whose numbers are being copied to the host."""

    steps: list[Step]
    values: HostCopy
    embeddings: HostCopy


@dataclass
class Readings:
    """Turns the steps of ``train`` into rows of floats, and stops a run that diverges or learns nothing.

    Reading a number waits until the device has computed it. So steps are gathered up to a multiple of ``every``, their
    numbers are copied to the host together, and the copy is read when the next one begins: the device always has work.
    What follows is that a step is judged up to two intervals late; ``rest`` judges all of them, and must be called
    before what the steps made is kept, and at the end.

    Rows have ``step`` (counted from 1), ``epoch`` (from 1), ``lr``, ``seconds`` (of the step with its batch), ``loss``,
    what the model logs, and where the step has embeddings their spread (see ``collapse``). Loss and what the model logs
    are means over all processes, each of which must read at the same steps.
    """

    state: State
    schedule: Schedule
    every: int  # steps
    gathered: list[Step] = field(default_factory=list, init=False)
    copied: _Interval | None = field(default=None, init=False)

    def add(self, step: Step) -> list[dict[str, float]]:
        """Add a step; return the rows of the interval before the last where one ends with it, else none.

        Raises:
            SlmlpError: a loss is not finite, or is still that of guessing well after warm-up and does not fall.
        """
        self.gathered.append(step)
        return [] if step.number % self.every else self._next()

    def rest(self) -> list[dict[str, float]]:
        """Return the rows of all steps that were not returned yet; the host waits for the device.

        Raises:
            SlmlpError: as ``add``.
        """
        return [*self._next(), *self._next()]

    def _next(self) -> list[dict[str, float]]:
        """Begin to copy the numbers of the gathered steps, and return the rows of the copy before."""
        before, self.copied = self.copied, None
        if self.gathered:
            steps, self.gathered = self.gathered, []
            numbers = [value for step in steps for value in step.values.values()]
            spread = [step.embeddings for step in steps if step.embeddings is not None]
            self.copied = _Interval(steps, HostCopy.of_scalars(numbers), HostCopy(spread))
        return self._rows(before) if before else []

    def _rows(self, interval: _Interval) -> list[dict[str, float]]:
        (numbers,) = interval.values.read()
        values = iter(ranks.mean(numbers).tolist())
        embeddings = iter(interval.embeddings.read())
        rows = []
        for step in interval.steps:
            logged = {name: next(values) for name in step.values}
            self.check_finite(step, logged)
            self._check_learning(step, logged["loss"])
            spread = {} if step.embeddings is None else collapse.spread(next(embeddings))
            rows.append(
                {"step": step.number, "epoch": step.epoch, "lr": step.lr, "seconds": step.seconds, **logged, **spread}
            )
        return rows

    def check_finite(self, step: Step, logged: dict[str, float]) -> None:
        """Raise SlmlpError where the loss of a step is not finite."""
        if math.isfinite(logged["loss"]):
            return
        others = [name for name, value in logged.items() if name != "loss" and not math.isfinite(value)]
        loss = f"{logged['loss']}" + (f" ({', '.join(others)})" if others else "")
        base_lr = self.schedule.base_lr
        raise SlmlpError(
            f"the loss is {loss} at step {step.number} with learning rate {step.lr:.4g}: training has diverged. Take a "
            f"smaller --base-lr (now {base_lr:g}; try {base_lr / 2:g}){self.schedule.or_else}"
        )

    def _check_learning(self, step: Step, loss: float) -> None:
        """Stop a run whose mean loss over an epoch is still that of guessing, and no lower than in the epoch before.

        At a small rate, or in the first epochs of many classes, the loss starts there and falls slowly: that is
        learning, where it is more than the noise of the steps. Where there is no epoch before, the two halves of the
        first are compared.
        """
        chance, state = self.state.model.chance_loss, self.state
        if chance is None:
            return
        if step.begins_epoch:
            state.mean_before, state.losses = fmean(state.losses) if state.losses else None, []
        state.losses.append(loss)
        if not step.ends_epoch or step.number < self.schedule.check_from:
            return
        mean, base_lr = fmean(state.losses), self.schedule.base_lr
        if mean <= GUESSING * chance:
            return
        if state.mean_before is None:
            half = len(state.losses) // 2
            fell = fmean(state.losses[:half] or [mean]) - fmean(state.losses[half:])
        else:
            fell = state.mean_before - mean
        noise = stdev(state.losses) * math.sqrt(2 / len(state.losses)) if len(state.losses) > 1 else 0.0
        if fell < max(FALLS * chance, ERRORS * noise):
            raise SlmlpError(
                f"the loss is still {mean:.3f} after step {step.number}, that of guessing ({chance:.3f}), and does not "
                f"fall: nothing is learnt. The rate is too high for this projector and encoder most often: take a "
                f"smaller --base-lr (now {base_lr:g}; try {base_lr / 4:g}); where it is far below what others take, a "
                "larger one; or the labels do not belong to the images"
            )


def explained(steps: Iterator[Step], readings: Readings) -> Iterator[Step]:
    """Yield the steps; where making one fails after a loss that is not finite, raise that loss's SlmlpError.

    By this process's own numbers: the others may not have failed. An error of the reader of the steps passes.
    """
    try:
        yield from steps
    except SlmlpError:
        raise
    except Exception:
        unread = [*(readings.copied.steps if readings.copied else []), *readings.gathered]
        for step in unread:
            readings.check_finite(step, {name: float(value) for name, value in step.values.items()})
        raise
