"""The page of a comparison of detectors: AP, differences, pictures, loss."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from slmlp.config.names import display
from slmlp.report import choice, limits, words
from slmlp.report.grid import NOTHING, Cell, Grid, Row, comparison_grid
from slmlp.report.inputs import Inputs
from slmlp.report.page import ANSWER, WHERE, WHY, Page, Section, block, fold, machine, settings, warnings
from slmlp.results.records import Result
from slmlp.runtime import json_files

METRICS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}
QUALITY = 85  # of the pictures inside the page; the PNG files beside it lose nothing


def page(inputs: Inputs) -> Page:
    """Return the page of a comparison of detectors."""
    about = inputs.about
    resolved = {f"resolved {key}": value for key, value in about["resolved"].items()}
    sections = [
        _verdict(inputs),
        _table(inputs),
        Section("limits", "What this can and cannot tell", [block("limits", limits.of_detection(about))], ANSWER),
        _loss(inputs),
        _pictures(inputs),
        *warnings(about.get("warnings") or []),
        Section("data", "Data", [block("facts", _data(about), "The data as it was read")]),
        settings({**about["settings"], **resolved}),
        machine(about),
    ]
    eyebrow = f"slmlp detect · {about['data']} · {words.day(about['finished'])}"
    return Page(about["title"], eyebrow, about["versions"].get("slmlp"), sections)


def _names(about: dict[str, Any]) -> list[str]:
    """Return the names of encoders and controls; detectors of one name are its seeds."""
    return list(dict.fromkeys(row["name"] for row in about["rows"]))


def _verdict(inputs: Inputs) -> Section:
    blocks = [block("verdict", inputs.verdict["sentences"])]
    if inputs.verdict["note"]:
        blocks.append(block("text", words.opening(inputs.verdict["note"]), "also"))
    comparisons = inputs.comparisons
    if comparisons:
        caption = f"Diamond and bar: the difference and its 95 % interval; n = {inputs.about['images']:,} images."
        axis = f"difference in {_metric(comparisons[0]['metric'])}, points"
        note = f"In points of {_metric(comparisons[0]['metric'])}. Holm's correction is for the number of comparisons."
        names = _names(inputs.about)
        blocks.append(choice.differences(inputs.task, names, axis, "forest", lambda _: caption, note))
    return Section("verdict", "Verdict", blocks, ANSWER)


def _metric(name: str) -> str:
    kind, _, rest = name.partition("_")
    return f"{kind} {METRICS[rest]}"


def _table(inputs: Inputs) -> Section:
    """Return AP of boxes and masks, the paired differences, and AP of other parts and before training."""
    about = inputs.about
    blocks = []
    for table in grids(inputs):
        blocks += [block("heading", table.title), block("grid", table)]
    seeds = "" if inputs.verdict["note"] else " and seeds"
    text = (
        f"COCO's average precision on the {about['main']} part, n = {about['images']:,} images: the mean over "
        "overlaps of 0.50 to 0.95, at 0.50, at 0.75, and by size of object (under 32 × 32, to 96 × 96, above, in "
        f"pixels of the original). Beneath AP and AP50 their 95 % interval over images{seeds}. A dash: no such object."
    )
    blocks.append(block("text", text, "note"))
    comparisons = [
        {**c, "title": _metric(c["metric"])} for task in inputs.verdict["tasks"].values() for c in task["comparisons"]
    ]
    if comparisons:
        note = (
            f"In points of AP. Intervals are from {about['settings']['resamples']:,} bootstrap replicates of the "
            "images, the same for every encoder, with AP computed anew from the same matches; Holm's correction is "
            "for the comparisons of one number."
        )
        title = "Paired differences"
        blocks.append(fold(title, block("grid", comparison_grid(comparisons, title, note)), is_open=True))
    others = _others(inputs)
    if others.rows:
        blocks.append(fold(others.title, block("grid", others)))
    return Section("table", "Average precision", blocks, ANSWER)


def grids(inputs: Inputs) -> list[Grid]:
    """Return AP of boxes, and of masks where there are any."""
    kinds = ("box", "mask") if inputs.about["masks"] else ("box",)
    return [_grid(inputs, kind) for kind in kinds]


def _grid(inputs: Inputs, kind: str) -> Grid:
    """Return a row per name: means over its seeds in percent, the interval under AP and AP50."""
    about, rows = inputs.about, []
    lines = [x for x in _lines(inputs) if x.task == "detect" and x.epoch is None]
    for name in _names(about):
        members = [row for row in about["rows"] if row["name"] == name]
        runs = {row["run"] for row in members}
        cells = []
        for metric in (f"{kind}_{column}" for column in METRICS):
            values = [100 * x.value for x in lines if x.run in runs and x.metric == metric]
            mean = ((inputs.verdict["tasks"].get(f"detect {metric}") or {}).get("means") or {}).get(name)
            interval = words.span(mean["low"], mean["high"]) if mean else ""
            cells.append(Cell(words.number(sum(values) / len(values)), interval) if values else NOTHING)
        control = members[0]["control"]
        note = "control" if control else "seed " + ", ".join(str(row["seed"]) for row in members)
        rows.append(Row(display(name), cells, note, baseline=control))
    return Grid({"box": "Boxes", "mask": "Masks"}[kind], "encoder", [(m, "%") for m in METRICS.values()], rows)


def _lines(inputs: Inputs) -> list[Result]:
    """Return the lines of this data and these detectors."""
    runs = {row["run"] for row in inputs.about["rows"]}
    return [x for x in inputs.rows if x.data == inputs.about["data"] and x.run in runs]


def _others(inputs: Inputs) -> Grid:
    """Return AP of other parts, and of before training."""
    lines = []
    for x in _lines(inputs):
        other = x.task != "detect" or x.epoch is not None
        if other and x.task.startswith("detect") and x.metric.split("_", 1)[1] in ("ap", "ap50"):
            when = "before training" if x.epoch == 0 else "after"
            key = (x.run, x.extra["part"], _metric(x.metric), when == "after")
            lines.append((key, [x.extra["part"], when, _metric(x.metric), words.number(100 * x.value), f"{x.n:,}"]))
    rows = [Row(display(key[0]), cells) for key, cells in sorted(lines)]
    headings = ("part", "when", "number", "%", "images")
    title = "Other parts, and before training"
    return Grid(title, "detector", [(heading, "") for heading in headings], rows, main=False)


def _pictures(inputs: Inputs) -> Section:
    """Return the images with their objects and what each detector predicts."""
    pictures = inputs.about["pictures"]
    if not pictures:
        return Section("pictures", "Predictions", [block("text", "No pictures were asked for.", "absent")], WHERE)
    blocks = [block("picture", _uri(inputs.folder / "pictures" / one["file"]), one["words"]) for one in pictures]
    text = (
        "The annotated objects, then each detector's predictions with their scores: as many predictions as there are "
        "objects, the highest scores first. Images at even distances through the part, not chosen."
    )
    return Section("pictures", "Predictions", [*blocks, block("text", text, "note")], WHERE)


def _uri(path: Path) -> str:
    with Image.open(path) as image:
        packed = io.BytesIO()
        image.convert("RGB").save(packed, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def _loss(inputs: Inputs) -> Section:
    """Return the loss along training, the mean over the seeds of each name."""
    from slmlp.report.figures import Curve, panel

    names = _names(inputs.about)
    curves = []
    for name in names:
        logs = [row["metrics"] for row in inputs.about["rows"] if row["name"] == name]
        seeds = [[(x["step"], x["loss"]) for x in _logged(inputs.folder / log)] for log in logs]
        steps = sorted(set.intersection(*({step for step, _ in seed} for seed in seeds)))
        if len(steps) > 1:
            means = [(step, sum(dict(seed)[step] for seed in seeds) / len(seeds)) for step in steps]
            curves.append(Curve(name, means, seeds=seeds))
    if curves:
        drawn: Markup = panel(curves, names, "Loss", "update", "loss", from_zero=True)
        content = block("panels", [drawn], names, "The sum of the detector's losses, means over a few updates.")
    else:
        content = block("text", "Too few updates for a curve.", "absent")
    return Section("loss", "Along training", [content], WHY)


def _data(about: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("name", about["data"])]
    rows += [(part, text.strip()) for part, _, text in (line.partition(":") for line in about["parts"])]
    rows += [(f"annotations, {part}", source) for part, source in about["sources"].items()]
    return rows + [(f"hash, {part}", value) for part, value in about["hashes"].items()]


def _logged(file: Path) -> list[dict[str, Any]]:
    return [row for row in json_files.read_lines(file, dict[str, Any]) if {"step", "loss"} <= row.keys()]
