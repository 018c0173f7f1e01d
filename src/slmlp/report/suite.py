"""The one page of a transfer suite: a single HTML file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.page import fill, machine_rows
from slmlp.report.suite_inputs import SuiteInputs, read
from slmlp.report.suite_tables import grid, headline, title
from slmlp.runtime import files

CAPTIONS = {
    "label-efficiency": "Bars: lowest to highest seed, or the 95 % interval of one. See where the curves part: few "
    "labels ask more of the features.",
    "layerwise": "A probe on each stage's pooled output, last the encoder's own. The paper finds that plain supervised "
    "pretraining loses in the last stage what it had before.",
}


def write(folder: Path) -> Path:
    """Write ``report.html`` from what the suite left in ``folder``; return its path."""
    path = folder / "report.html"
    files.write_text(path, fill("suite.html.j2", content(read(folder))))
    return path


def content(inputs: SuiteInputs) -> dict[str, Any]:
    """Return everything the template shows."""
    from slmlp.report import suite_figures as figures
    from slmlp.report.drawing import NARROW, WIDE

    about, verdict = inputs.about, inputs.verdict
    first = verdict["tasks"].get(verdict["headline"]) if verdict.get("headline") else None
    forests = [
        (
            f"{title(*verdict['headline'].split(' ', 1))}: {display(c['b'])} against {display(c['a'])}",
            *(figures.forest(inputs, width, f"forest-{i}-{width}", c) for width in (WIDE, NARROW)),
        )
        for i, c in enumerate((first or {}).get("comparisons") or [])
        if c["b"] not in inputs.untrained  # what an encoder has over random weights is in the words and the tables
    ]
    drawn = {"label-efficiency": figures.label_curves, "layerwise": figures.layer_curves}
    tasks = [
        {
            "title": title(task, "accuracy"),
            "panels": drawn[task](inputs) if task in drawn else [],
            "caption": CAPTIONS.get(task, ""),
            "tables": [(title(task, m), grid(inputs, task, m)) for m in headline(inputs, task) if task != "layerwise"],
            "findings": [
                sentence
                for name, held in verdict.get("tasks", {}).items()
                if name.split(" ", 1)[0] == task
                for sentence in held["sentences"]
            ],
        }
        for task in inputs.tasks
    ]  # fmt: skip
    return {
        "title": about["title"],
        "version": about["versions"].get("slmlp"),
        "day": words.day(about.get("finished")),
        "sets": inputs.sets,
        "sentences": verdict.get("sentences") or ["No verdict was written for this suite."],
        "forests": forests,
        "how": about["how"],
        "warnings": about["warnings"],
        "tasks": tasks,
        "methods": [(display(m), i) for i, m in enumerate(inputs.methods)],
        "lines": every_line(inputs),
        "encoders": [(contender["run"], contender["described"]) for contender in about["encoders"]],
        "data_rows": [(facts["name"], facts["told"]) for facts in about["data"]],
        "missing": about["missing"],
        "settings": list(words.flat(about["settings"])),
        "machine_rows": machine_rows(about),
        "command": about["command"],
    }


def every_line(inputs: SuiteInputs) -> list[tuple[str, ...]]:
    """Return every number of the suite, means over seeds, as text."""
    keys = dict.fromkeys((r.method, r.data, r.task, r.layer, r.metric) for r in inputs.rows)
    lines: list[tuple[str, ...]] = []
    for method, data, task, layer, metric in keys:
        found = inputs.find(task, metric, method, data, layer)
        spread = inputs.spread(task, metric, method, data, layer)
        assert spread is not None
        lines.append(
            (
                display(method), data, task, layer, words.metric(metric), str(len(found)), f"{spread.mean:.4f}",
                words.span(spread.low, spread.high, 4) or words.NOTHING, f"{found[0].n:,}",
            )
        )  # fmt: skip
    return lines
