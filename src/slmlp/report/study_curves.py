"""The curves of a study: numbers along training, and over the grid of learning rates."""

from __future__ import annotations

from markupsafe import Markup

from slmlp.report.figures import Curve, Point, panel
from slmlp.report.inputs import Inputs

PANELS = (
    ("unseen", "accuracy", "Unseen accuracy, %", 100),
    ("source", "accuracy", "Source accuracy, %", 100),
    ("measures", "discriminative_ratio_unseen", "Discriminative ratio, unseen", 1),
    ("measures", "discriminative_ratio_source", "Discriminative ratio, source", 1),
    ("measures", "mixtureness", "Mixtureness", 1),
    ("measures", "redundancy_unseen", "Redundancy, unseen", 1),
)


def epochs(inputs: Inputs) -> list[Markup]:
    """Return one panel for each number measured along training: seeds thin, their mean thick."""
    panels = []
    for task, metric, title, scale in PANELS:
        by_method = {m: along_training(inputs, task, metric, m, scale) for m in inputs.methods}
        if any(len(line) > 1 for lines in by_method.values() for line in lines.values()):
            curves = [_mean(method, list(lines.values())) for method, lines in by_method.items() if lines]
            name = f"epochs-{task}-{metric.replace('_', '-')}"
            panels.append(panel(curves, inputs.methods, title, "epoch", name))
    return panels


def _mean(method: str, lines: list[list[Point]]) -> Curve:
    """Return the mean of the seeds at the epochs that all of them have, the seeds behind it."""
    shared = sorted(set.intersection(*({x for x, _ in line} for line in lines)))
    means = [(x, sum(dict(line)[x] for line in lines) / len(lines)) for x in shared]
    return Curve(method, means, seeds=lines)


def along_training(inputs: Inputs, task: str, metric: str, method: str, scale: float = 1) -> dict[int, list[Point]]:
    """Return seed -> (epoch, value times scale) in order, start and end of training included; seeds with a curve only.

    All methods of a seed start from one encoder; the baseline of seed 0 is the measured one, so it is epoch 0.
    """
    last = (inputs.about["settings"].get("training") or {}).get("epochs")
    last = (inputs.about.get("epochs") or {}).get(method, last)  # a contender may have its own
    lines: dict[int, dict[int, float]] = {}
    for r in inputs.find(task, metric, method, role="curve"):
        if r.epoch is not None:
            lines.setdefault(r.seed, {})[r.epoch] = r.value
    for r in inputs.find(task, metric, method, role="final"):
        epoch = r.epoch if r.epoch is not None else last
        if r.seed in lines and epoch is not None:
            lines[r.seed][epoch] = r.value
    start = "starting-encoder" if "starting-encoder" in inputs.baselines else "random-init"
    for r in inputs.find(task, metric, start, role="baseline"):
        if r.seed in lines:
            lines[r.seed][0] = r.value
    return {seed: [(x, scale * y) for x, y in sorted(points.items())] for seed, points in sorted(lines.items())}


def rates(inputs: Inputs) -> list[Markup]:
    """Return what the grid of learning rates gave: validation accuracy with the choice ringed, and unseen accuracy."""
    facts = inputs.about.get("rates") or {}
    validation: dict[str, list[Point]] = {
        method: sorted((float(rate), value) for rate, value in values.items())
        for method, values in (facts.get("validation") or {}).items()
    }
    unseen: dict[str, list[Point]] = {}
    for r in inputs.find("unseen", "accuracy", role="grid"):
        if r.base_lr is not None:
            unseen.setdefault(r.method, []).append((r.base_lr, r.value))
    panels = []
    for key, title, lines in (
        ("validation", "Source validation accuracy, %", validation),
        ("unseen", "Unseen accuracy at equal rates, %", unseen),
    ):
        curves = [
            Curve(m, [(x, 100 * y) for x, y in sorted(points)], ring=(facts.get("chosen") or {}).get(m))
            for m, points in lines.items()
            if m in inputs.methods and points
        ]
        if any(len(curve.points) > 1 for curve in curves):
            axis = "base learning rate, per 256 images"
            panels.append(panel(curves, inputs.methods, title, axis, f"rates-{key}", log=True))
    return panels
