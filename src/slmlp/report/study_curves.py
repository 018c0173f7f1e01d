"""Why the encoders of a study differ: numbers along training, and over the grid of learning rates."""

from __future__ import annotations

from markupsafe import Markup

from slmlp.config.names import CHANCE, display
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
    return [_epochs(inputs), _rates(inputs)]


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


def _rates(inputs: Inputs) -> Section:
    """Return the grid of learning rates, what was chosen on it, and rates that could not be trained."""
    rates = inputs.about.get("rates") or {}
    drawn, grid = rate_panels(inputs), rates.get("grid") or []
    if drawn:
        images = inputs.images("validation", "accuracy", "grid")
        count = "" if images == "unknown" else f"{images} "
        seeds = len({r.seed for r in inputs.rows if r.role == "grid"})
        equal = (
            f"At equal rates, see whether one method leads at all of them: "
            f"{'one seed' if seeds == 1 else f'{seeds} seeds'} at each rate, n = "
            f"{inputs.images('unseen', 'accuracy', 'grid')} unseen images."
            if seeds
            else "Unseen accuracy was not measured on the grid."
        )
        caption = (
            f"Rings mark the rate each method was given, chosen by accuracy on {count}source images held back for "
            f"validation; held-out classes played no part. {equal}"
        )
        blocks = [block("panels", drawn, inputs.methods, caption)]
    elif len(grid) == 1:
        text = (
            f"One base learning rate was used for every method, {grid[0]} per 256 images; no grid was tried, so a "
            "better rate may exist for any of them."
        )
        blocks = [block("text", text, "absent")]
    else:
        blocks = [block("text", "No grid of rates was tried; every method ran at the rate in the settings.", "absent")]
    for method, reasons in (rates.get("failed") or {}).items():
        blocks += [
            block("text", f"{display(method)} could not be trained at {rate}: {reason}")
            for rate, reason in reasons.items()
        ]
    return Section("rates", "Learning rates", blocks, WHY)


def epoch_panels(inputs: Inputs) -> list[Markup]:
    """Return one panel for each number measured along training: seeds thin, their mean thick."""
    panels = []
    for task, metric, title, scale in PANELS:
        by_method = {m: along_training(inputs, task, metric, m, scale) for m in inputs.methods}
        if any(len(line) > 1 for lines in by_method.values() for line in lines.values()):
            curves = [_mean(method, list(lines.values())) for method, lines in by_method.items() if lines]
            name = f"epochs-{task}-{metric.replace('_', '-')}"
            panels.append(panel(curves, inputs.methods, title, "epoch", name, levels=_levels(inputs, task, metric)))
    return panels


def _levels(inputs: Inputs, task: str, metric: str) -> dict[str, float]:
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


def rate_panels(inputs: Inputs) -> list[Markup]:
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
