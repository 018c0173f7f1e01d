"""The table of a study: methods and baselines down, the numbers most asked for across."""

from __future__ import annotations

from collections.abc import Callable

from slmlp.config.names import display
from slmlp.report import words
from slmlp.report.grid import NOTHING, Cell, Grid, Row, percent
from slmlp.report.inputs import AT_THE_END, Inputs

Reader = Callable[[Inputs, str], Cell]
COLUMNS = (
    (
        "unseen accuracy",
        "Share of held-out images that a linear probe names rightly, trained on the frozen encoder's features of other "
        "images of the held-out classes.",
    ),
    ("source accuracy", "The same for test images of the classes the encoder was pretrained on."),
    (
        "discriminative ratio",
        "Squared distance between class centres over the spread within classes. High on source and low on unseen: the "
        "encoder has specialised.",
    ),
    (
        "mixtureness",
        "How evenly source and unseen class centres lie among one another. Its scale goes from two sets apart to "
        "centres drawn at random, which is full mixing. Above the scale, source and unseen classes stand side by side "
        "more evenly than chance would have them: read it as fully mixed. Below it, unlike centres are nearest.",
    ),
    ("redundancy", "Mean absolute correlation between feature channels; lower is less redundant."),
)


def _unseen(inputs: Inputs, method: str) -> Cell:
    """Return unseen accuracy: the verdict's mean and interval where it has them."""
    mean = inputs.mean("unseen", "accuracy", method)
    if mean:
        return Cell(words.number(mean["value"]), words.span(mean.get("low"), mean.get("high")))
    return percent(inputs.spread("unseen", "accuracy", method))


def _difference(inputs: Inputs, method: str) -> Cell:
    """Return the difference to the first method, which is the baseline of every comparison.

    Of what needs no training it is the comparison of the first method with it, turned round.
    """
    for one in inputs.task.get("references") or []:
        for c in one["comparisons"] if one["name"] == method else ():
            if c["b"] == inputs.methods[0]:
                low, high = (None if c[end] is None else -c[end] for end in ("high", "low"))
                return Cell(words.signed(-c["difference"]), words.signed_span(low, high))
    for c in inputs.comparisons:
        if c["a"] == inputs.methods[0] and c["b"] == method:
            return Cell(words.signed(c["difference"]), words.signed_span(c.get("low"), c.get("high")))
    return Cell("reference") if method == inputs.methods[0] else NOTHING


def _measure(metric: str, digits: int) -> Reader:
    """Return the reader of one of the paper's measures."""

    def cell(inputs: Inputs, method: str) -> Cell:
        spread = inputs.spread("measures", metric, method)
        return (
            Cell(words.number(spread.mean, digits), words.span(spread.low, spread.high, digits)) if spread else NOTHING
        )

    return cell


def _mixtureness(inputs: Inputs, method: str) -> Cell:
    """Return mixtureness between its floor (sets apart) and its ceiling (fully mixed)."""
    value, floor, ceiling = (
        inputs.spread("measures", f"mixtureness{end}", method) for end in ("", "_floor", "_ceiling")
    )
    if value is None:
        return NOTHING
    if not floor or not ceiling:
        return Cell(words.number(value.mean, 2))
    beyond = "above " if value.mean > ceiling.mean else "below " if value.mean < floor.mean else ""
    return Cell(words.number(value.mean, 2), f"{beyond}scale {words.span(floor.mean, ceiling.mean, 2)}")


def _compute(inputs: Inputs, method: str) -> Cell:
    """Return training compute relative to the first method."""
    value = (inputs.about.get("compute") or {}).get(method)
    return NOTHING if value is None else Cell(words.number(value, 2))


def _columns(inputs: Inputs) -> list[tuple[str, str, Reader]]:
    """Return (heading, unit, reader) of every column, the most asked for first."""
    columns: list[tuple[str, str, Reader]] = [("unseen accuracy", "%", _unseen)]
    if inputs.comparisons:
        columns.append((f"difference to {display(inputs.methods[0])}", "points", _difference))
    if len(set((inputs.about.get("compute") or {}).values())) > 1:
        columns.append(("training compute", f"× {display(inputs.methods[0])}", _compute))
    return [
        *columns,
        ("source accuracy", "%", lambda inputs, method: percent(inputs.spread("source", "accuracy", method))),
        ("discriminative ratio, source", "", _measure("discriminative_ratio_source", 2)),
        ("discriminative ratio, unseen", "", _measure("discriminative_ratio_unseen", 2)),
        ("mixtureness", "", _mixtureness),
        ("redundancy, unseen", "", _measure("redundancy_unseen", 3)),
    ]


def grid(inputs: Inputs) -> Grid:
    """Return the study's table; a column nobody has a number for is left out."""
    columns, better = _columns(inputs), inputs.better()
    first, *others = [display(m) for m in inputs.methods]
    rows = []
    first_rows = [name for name in inputs.baselines if name == "starting-encoder"]
    for method in dict.fromkeys([*first_rows, *inputs.methods, *inputs.baselines]):
        baseline = method in inputs.baselines
        notes = ["baseline"] if baseline else []
        if method in better:
            notes.append(f"better than {words.listed(others) if method == inputs.methods[0] else first}")
        seeds = _seeds(inputs, method)
        if not baseline and 0 < seeds < inputs.about["seeds"]:
            notes.append("one seed" if seeds == 1 else f"{seeds} seeds")
        cells = [reader(inputs, method) for _, _, reader in columns]
        of = None if baseline else inputs.methods.index(method)
        rows.append(Row(display(method), cells, ", ".join(notes), method in better, baseline, of))
    headings = [(heading, unit) for heading, unit, _ in columns]
    return Grid(inputs.about["title"], "method", headings, rows, _note(inputs)).without_empty_columns()


def _seeds(inputs: Inputs, method: str) -> int:
    """Return with how many seeds a method was trained and evaluated; a spec may ask for fewer than the study."""
    return len({r.seed for r in inputs.find("unseen", "accuracy", method)})


def _note(inputs: Inputs) -> str:
    """Return what value and range mean."""
    seeds = inputs.about["seeds"]
    if seeds == 1:
        return (
            "One seed per method, so nothing here shows the spread between seeds. Ranges are 95 % intervals over "
            "images."
        )
    parts = []
    if inputs.task.get("means"):
        fewer = any(_seeds(inputs, m) < seeds for m in inputs.methods)
        over = f"{seeds} seeds{' (where fewer, the row says so)' if fewer else ''}"
        parts.append(f"Unseen accuracy of methods: mean over {over} and its 95 % interval.")
    if inputs.comparisons:
        parts.append("Difference: 95 % interval over seeds.")
    parts.append("All else: mean over seeds, lowest to highest; where there is one run only, its 95 % interval.")
    return " ".join(parts)


def every_number(inputs: Inputs) -> Grid:
    """Return every metric at the end of training, a column per method."""
    methods = [*inputs.methods, *inputs.baselines]
    keys = {(r.task, r.metric, r.layer) for r in inputs.rows if r.role in AT_THE_END}
    rows = []
    for task, metric, layer in sorted(keys, key=lambda key: (key[0] == "measures", key)):
        spreads = [inputs.spread(task, metric, m, layer=layer) for m in methods]
        values = [f"{s.mean:.4g}".replace("-", "−") if s else words.NOTHING for s in spreads]
        where = ("" if task == "measures" else f", {task}") + ("" if layer == "output" else f", {layer}")
        rows.append(Row(words.metric(metric) + where, values))
    note = "Means over seeds at the end of training; accuracies as shares."
    return Grid("Every number", "number", [(display(m), "") for m in methods], rows, note, main=False)
