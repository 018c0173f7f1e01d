"""Convert result lines of earlier versions to the field names of today, in place.

    python scripts/convert_results.py docs/results/*.jsonl

Only names change: of tasks, of labels and of fields in ``extra``. Before a file is replaced, the verdicts that follow
from its lines alone (the predictions behind them are not kept) are computed from the lines as they were and as they
will be; one number that differs ends the script. A verdict here is, for each task, data set, metric, layer, role and
epoch, every method against the first over the seeds that both have: the difference and, from two seeds on, its 95 %
interval and p over seeds, and p after Holm's correction. Lines that have today's names already stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slmlp.results.intervals import Estimate, holm
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError

TASKS = {
    "levels": "semantic-distance",
    "labels": "label-efficiency",
    "fine": "coarse-to-fine",
    "stages": "layerwise",
}
LABELS = {"class_group": "superclass"}
EXTRA = {"strengths": "l2", "strength": "l2", "strength_rules": "l2_rules", "units": "groups"}

Line = dict[str, Any]
Verdicts = dict[tuple[Any, ...], list[float]]


def convert(line: Line) -> Line:
    """Return a line with the names of today.

    >>> line = convert({"task": "fine", "labels": "class_group", "extra": {"strengths": [0.1]}, "value": 0.5})
    >>> line["task"], line["labels"], line["extra"], line["value"]
    ('coarse-to-fine', 'superclass', {'l2': [0.1]}, 0.5)
    """
    return line | {
        "task": TASKS.get(line["task"], line["task"]),
        "labels": LABELS.get(line["labels"], line["labels"]),
        "extra": {EXTRA.get(name, name): value for name, value in line["extra"].items()},
    }


def verdicts(lines: Sequence[Line]) -> Verdicts:
    """Return the numbers of every comparison of two methods that the lines allow."""
    runs: dict[tuple[Any, ...], dict[str, dict[int, float]]] = {}
    for line in lines:
        role = "final" if line["role"] == "baseline" else line["role"]
        place = (line["task"], line["data"], line["metric"], line.get("layer", "output"), role, line["epoch"])
        runs.setdefault(place, {}).setdefault(line["method"], {})[line["seed"]] = line["value"]
    numbers: Verdicts = {}
    for place, by_method in runs.items():
        first, *others = by_method
        estimates = {}
        for name in others:
            gaps = [
                by_method[name][seed] - value for seed, value in by_method[first].items() if seed in by_method[name]
            ]
            if gaps:
                numbers[(*place, first, name)] = [float(np.mean(gaps))]
            if len(gaps) > 1:
                estimates[name] = Estimate(float(np.mean(gaps)), float(np.var(gaps, ddof=1)) / len(gaps), len(gaps) - 1)
        corrected = holm(np.array([estimate.p for estimate in estimates.values()])).tolist()
        for (name, estimate), p_holm in zip(estimates.items(), corrected, strict=True):
            numbers[(*place, first, name)] += [*estimate.interval, estimate.p, p_holm]
    return numbers


def in_words_of_today(numbers: Verdicts) -> Verdicts:
    """Return verdicts with the task named as it is today."""
    return {(TASKS.get(task, task), *place): values for (task, *place), values in numbers.items()}


def convert_file(path: Path) -> tuple[int, int, int]:
    """Convert a file; return how many lines it has, how many changed, and how many verdicts were compared.

    Raises:
        SlmlpError: a verdict differs.
    """
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    converted = [convert(line) for line in lines]
    before, after = in_words_of_today(verdicts(lines)), verdicts(converted)
    if before != after:
        differing = next(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        raise SlmlpError(f"{path}: the verdict on {', '.join(map(str, differing))} would not be the same")
    values = [line["value"] for line in lines], [line["value"] for line in converted]
    if values[0] != values[1]:
        raise SlmlpError(f"{path}: a value would not be the same")
    changed = sum(old != new for old, new in zip(lines, converted, strict=True))
    if changed:
        files.write_text(path, "".join(files.canonical(line) + "\n" for line in converted))
    return len(lines), changed, len(after)


def main(paths: Sequence[str]) -> None:
    """Convert each file and print what was compared."""
    for path in map(Path, paths):
        count, changed, compared = convert_file(path)
        print(f"{path.name}: {changed} of {count} lines converted; {compared} verdicts, all the same")


if __name__ == "__main__":
    main(sys.argv[1:])
