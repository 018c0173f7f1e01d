"""What the pages of suites and studies share of a task: which numbers its tables are of, and its comparisons."""

from __future__ import annotations

from markupsafe import Markup

from slmlp.report import words
from slmlp.report.grid import comparison_grid
from slmlp.report.inputs import Inputs
from slmlp.report.page import block, fold

MAIN_METRICS = ("accuracy", "map")  # where a task has one of these, it is shown first
OTHER_METRICS = ("mean_class_accuracy", "ece")  # beside accuracy, in the table of every number


def main_metrics(inputs: Inputs, task: str) -> list[str]:
    """Return the numbers that tables of a task are of."""
    metrics = list(dict.fromkeys(r.metric for r in inputs.rows if r.task == task))
    return [m for m in metrics if m in MAIN_METRICS] or [m for m in metrics if m not in OTHER_METRICS]


def comparisons(inputs: Inputs, task: str, over: str) -> list[Markup]:
    """Return every comparison by a task, in numbers and in words, folded; ``over`` says what the intervals cover."""
    verdicts = [v for name, v in inputs.verdict.get("tasks", {}).items() if name.split(" ", 1)[0] == task]
    compared = [c for v in verdicts for c in (*v["comparisons"], *v.get("pairs", ()))]
    if not compared:
        return []
    summary = f"Every comparison: {len(compared)}"
    several = len({c["metric"] for c in compared}) > 1
    rows = [{**c, "title": words.metric(c["metric"])} if several else c for c in compared]
    numbers = comparison_grid(rows, summary, f"Differences in percentage points, over {over}.")
    sentences = [s for v in verdicts for s in (*v["sentences"], *(c["sentence"] for c in v.get("pairs", ())))]
    return [fold(summary, block("grid", numbers)), fold("In words", block("findings", sentences))]
