"""Why the encoders of a study differ: numbers along training, and how their settings were chosen."""

from __future__ import annotations

from markupsafe import Markup

from slmlp.config.names import CHANCE, display
from slmlp.report import study_rates
from slmlp.report.figures import Curve, Point, panel
from slmlp.report.inputs import Inputs
from slmlp.report.page import WHY, Section, block

PANELS = (
    ("unseen", "accuracy", "Unseen accuracy, %", 100),
    ("source", "accuracy", "Source accuracy, %", 100),
    ("measures", "discriminative_ratio_unseen", "Discriminative ratio, unseen", 1),
    ("measures", "discriminative_ratio_source", "Discriminative ratio, source", 1),
    ("measures", "mixtureness", "Mixtureness", 1),
    ("measures", "redundancy_unseen", "Redundancy, unseen", 1),
)


def sections(inputs: Inputs) -> list[Section]:
    """Return why: along training, and over the learning rates."""
    return [_epochs(inputs), study_rates.section(inputs)]


def _epochs(inputs: Inputs) -> Section:
    """Return the numbers along training."""
    drawn = epoch_panels(inputs)
    if drawn:
        seeds = len({r.seed for r in inputs.rows if r.role == "curve"})
        lines = f"Bands: lowest to highest of {seeds} seeds; lines: their mean." if seeds > 1 else "One seed."
        caption = (
            f"{lines} Epoch 0 is the encoder that seed 0 started from; dotted: what needs no training. See whether "
            "unseen accuracy still rises where source accuracy does, and whether the ratio on source runs away from "
            f"the ratio on unseen. n = {inputs.images('unseen', 'accuracy')} unseen and "
            f"{inputs.images('source', 'accuracy')} source images at each point."
        )
        blocks = [block("panels", drawn, inputs.methods, caption)]
    else:
        text = Markup(
            "No encoder was kept along training, so there are no curves; <code>--save-every</code> keeps them."
        )
        blocks = [block("text", text, "absent")]
    return Section("epochs", "Along training", blocks, WHY)


def epoch_panels(inputs: Inputs) -> list[Markup]:
    """Return one panel for each number measured along training: seeds thin, their mean thick."""
    panels = []
    for task, metric, title, scale in PANELS:
        by_method = {m: along_training(inputs, task, metric, m, scale) for m in inputs.methods}
        if any(len(line) > 1 for lines in by_method.values() for line in lines.values()):
            curves = [_mean(method, list(lines.values())) for method, lines in by_method.items() if lines]
            name = f"epochs-{task}-{metric.replace('_', '-')}"
            panels.append(panel(curves, inputs.methods, title, "epoch", name, levels=levels(inputs, task, metric)))
    return panels


def levels(inputs: Inputs, task: str, metric: str) -> dict[str, float]:
    """Return what no training changes, in percent: raw pixels and, on unseen classes, chance."""
    if metric != "accuracy":
        return {}
    spread = inputs.spread(task, metric, "raw-pixels")
    levels = {display("raw-pixels"): 100 * spread.mean} if spread else {}
    chance = [one["value"] for one in inputs.task.get("references") or [] if (task, one["name"]) == ("unseen", CHANCE)]
    return levels | {display(CHANCE): value for value in chance}


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
