"""How long a comparison of detectors will take, measured by a few updates and predictions of its own detectors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slmlp.detection import model, predict, train
from slmlp.detection.detectors import Detectors
from slmlp.detection.samples import Samples, order_plan
from slmlp.encoders import Encoder
from slmlp.experiments import planning
from slmlp.experiments.contenders import Contender
from slmlp.runtime import device
from slmlp.runtime.plain import plural
from slmlp.runtime.progress import hushed
from slmlp.train import loop
from slmlp.train.measure import per_step, undisturbed

STEPS, SECONDS = 3, 10.0  # measured after the first, which is slower: up to so many, or so long
PICTURES = 3  # that are predicted on
FEW = 100  # updates of all detectors below which measuring would take too long a part of the work


@dataclass(frozen=True)
class Plan:
    """Which detectors are left, the seconds that they will take, and what they leave on the disk."""

    left: tuple[str, ...]
    done: tuple[str, ...]
    seconds: float
    size: int  # bytes

    @property
    def words(self) -> str:
        """The plan in one line."""
        count = len(self.left) + len(self.done)
        return planning.line(plural(count, "detector"), len(self.done), self.seconds, self.size)

    @property
    def details(self) -> list[str]:
        """Which detectors are left and done."""
        return [f"{what}: {', '.join(runs)}" for what, runs in (("left", self.left), ("done", self.done)) if runs]


@dataclass(frozen=True)
class Cost:
    """What one detector takes."""

    step: float  # seconds of an update
    picture: float  # seconds of predicting on an image
    weights: int  # bytes


def make(detectors: Detectors, everyone: Sequence[Contender]) -> Plan:
    """Find which detectors are left, and measure one of each network and kind. Nothing is written."""
    left, done, seconds, size = [], [], 0.0, 0
    costs: dict[tuple[str, bool], Cost] = {}
    for contender in everyone:
        encoder = contender.open()
        pending = detectors.pending(contender, encoder)
        if not pending:
            done.append(contender.run)
            continue
        left.append(contender.run)
        key = (encoder.spec.name, contender.freeze)
        if key not in costs:
            costs[key] = _cost(detectors, contender, encoder)
        cost, steps = costs[key], _steps_left(detectors, contender)
        seconds += cost.step * steps + cost.picture * sum(len(detectors.parts[part]) for part, _ in pending)
        size += cost.weights * bool(steps)
    if any(_steps_left(detectors, one) for one in everyone if one.run in left):
        size += 4 * max(cost.weights for cost in costs.values())  # two checkpoints, with the optimiser's momentum
    return Plan(tuple(left), tuple(done), seconds, size)


def long(detectors: Detectors, everyone: Sequence[Contender]) -> bool:
    """Return whether a plan is worth its measurement before the work begins."""
    return sum(_steps_left(detectors, one) for one in everyone) > FEW


def _steps_left(detectors: Detectors, contender: Contender) -> int:
    """Return how many updates a detector has left, by its newest checkpoint."""
    folder = detectors.detector_folder(contender)
    if (folder / "detector.safetensors").exists():
        return 0
    made = 0
    for file in (folder / "checkpoints").glob("step-*.ckpt"):
        with contextlib.suppress(ValueError):
            made = max(made, int(file.stem.removeprefix("step-")))
    return max(0, detectors.cfg.total(len(detectors.parts["train"].usable())) - made)


def _cost(detectors: Detectors, contender: Contender, encoder: Encoder) -> Cost:
    cfg, data = detectors.cfg, detectors.parts["train"]
    with undisturbed(cfg.threads), hushed():
        compute = device.choose(encoder, cfg.device, cfg.precision)
        frozen = cfg.freeze or contender.freeze
        detector = model.build(encoder, len(data.categories), detectors.with_masks, cfg, frozen)
        device.place(detector, compute)
        weights = sum(value.nbytes for value in detector.state_dict().values())
        total = cfg.total(len(data.usable()))
        samples = Samples(data, order_plan(len(data.usable()), cfg, total), cfg, detectors.with_masks, slice(None))
        steps = loop.train(train.start(detector, cfg), samples, train.schedule(cfg, total), compute, workers=0)
        each = per_step(steps, STEPS, SECONDS)
        evaluated = detectors.parts[detectors.main]
        began, pictures = time.perf_counter(), min(PICTURES, len(evaluated))
        predict.some(detector, evaluated, range(pictures), cfg, compute)
        return Cost(each, (time.perf_counter() - began) / pictures, weights)
