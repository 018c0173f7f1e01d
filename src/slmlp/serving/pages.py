"""The pages that are served beside reports: what there is, one run, and what the reader ticks; the same templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from slmlp.config.names import display, task_title
from slmlp.report import words
from slmlp.report.grid import Grid, Row, percent
from slmlp.report.inputs import Spread
from slmlp.report.page import Page, Section, block
from slmlp.results import records, verdict
from slmlp.results.records import Predictions, Result
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.serving.found import Found

EYEBROW = "slmlp serve"
Group = tuple[str, str, str, str, str]  # task, metric, data set, hash of its split, hash of the task's settings
Groups = Mapping[Group, Mapping[str, Sequence[tuple[Found, Result]]]]  # contender -> its runs, which are its seeds


def index(found: Mapping[str, Found]) -> Page:
    """Return the list of studies and runs."""
    of_kind = [one for one in found.values() if one.kind != "run"]
    runs = [one for one in found.values() if one.kind == "run"]
    sections = []
    if of_kind:
        sections.append(
            Section("studies", "Studies", [block("served_studies", [_study(one, runs) for one in of_kind])])
        )
    if runs:
        sections.append(Section("runs", "Runs", [block("served_runs", [_run(one) for one in runs])]))
    return Page("Studies and runs", EYEBROW, None, sections)


def _study(one: Found, runs: Sequence[Found]) -> dict[str, str]:
    own = [run for run in runs if run.path.parents[1] == one.path]
    done = sum(run.state == "finished" for run in own)
    note = f"{done} of {plural(len(own), 'run')} finished" if own else ""
    return {"id": one.id if one.has_page else "", "name": one.name, "kind": one.kind, "state": one.state, "note": note}


def _run(one: Found) -> dict[str, str]:
    about = one.about
    unseen = next((row for row in one.results() if (row.task, row.metric) == ("unseen", "accuracy")), None)
    number = "" if unseen is None else f"{words.number(100 * unseen.value)} %"
    return {"id": one.id, "name": one.name, "method": display(about["job"]["method"]), "state": one.state,
            "data": about["job"]["data"], "unseen": number}  # fmt: skip


def run(one: Found) -> Page:
    """Return the page of a run: its curves, live while it trains, and its settings."""
    about = one.about
    resolved = ("training_images", "classes", "steps", "peak_lr", "device")
    facts = [("method", display(about["job"]["method"])), ("data", about["job"]["data"]),
             *((key, about["resolved"].get(key)) for key in resolved),
             ("started", words.day(about.get("started")))]  # fmt: skip
    blocks = [block("facts", [(key.replace("_", " "), str(value)) for key, value in facts if value], "The run")]
    table = _table(_groups([one]))
    return Page(
        one.name, f"{EYEBROW} · run", None,
        [_curves([one]), *([Section("results", "Results", [block("grid", table)])] if table else []),
         Section("facts", "What it is", blocks)],
    )  # fmt: skip


def comparison(runs: Sequence[Found]) -> Page:
    """Return curves and results of the runs that were ticked, and what can be said of their differences."""
    groups = _groups(runs)
    sections = [_curves(runs)]
    table = _table(groups)
    if table:
        sections.append(Section("results", "Results", [block("grid", table)]))
    sections.append(Section("differences", "Differences", [_findings(groups)]))
    return Page(f"Comparison of {plural(len(runs), 'run')}", EYEBROW, None, sections)


def _curves(runs: Sequence[Found]) -> Section:
    labels = [(one.id, one.name, one.state, one.about["resolved"].get("steps", 0)) for one in runs]
    return Section("curves", "Training", [block("served_curves", labels)])


def _groups(runs: Sequence[Found]) -> dict[Group, dict[str, list[tuple[Found, Result]]]]:
    """Return what runs have numbers of in common: group -> contender -> its runs, which are its seeds."""
    several = len({one.store for one in runs}) > 1
    groups: dict[Group, dict[str, list[tuple[Found, Result]]]] = {}
    for one in runs:
        for row in one.results():
            if row.predictions is None or not verdict.judged(row.metric):
                continue
            settings = str(row.extra.get("settings"))
            key = (row.task, row.metric, row.data, f"{row.hashes.get('data')} {row.hashes.get('split')}", settings)
            name = f"{one.store}: {display(row.method)}" if several and one.store else row.method
            held = groups.setdefault(key, {}).setdefault(name, [])
            if row.seed in {other.seed for _, other in held}:  # another run of that seed stands by itself
                held = groups[key].setdefault(one.name, [])
            held.append((one, row))
    return groups


def _table(groups: Groups) -> Grid | None:
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    columns = [(f"{task_title(task)} ({data}): {words.metric(metric)}", "%") for task, metric, data, *_ in groups]
    rows = [
        Row(display(name), [percent(Spread.of([row for _, row in group.get(name, [])])) for group in groups.values()])
        for name in names
    ]
    note = "Mean over the runs of a contender, lowest to highest; of one run its 95 % interval."
    return Grid("Results of frozen encoders", "contender", columns, rows, note) if names else None


def _findings(groups: Groups) -> Markup:
    sentences = []
    for (task, metric, data, *_), group in groups.items():
        if len(group) < 2:
            continue
        try:
            held: dict[str, dict[int, Predictions]] = {
                name: {row.seed: _predictions(one, row) for one, row in rows} for name, rows in group.items()
            }
            judged = verdict.judge(held, next(iter(held)), task=task, metric=metric, data=data)
            sentences += [f"{task_title(task)} ({data}), {words.metric(metric)}: {one}" for one in judged.sentences]
        except SlmlpError as error:
            sentences.append(f"{task_title(task)} ({data}): not compared: {error}")
    if not sentences:
        return block("text", "No two of these contenders have numbers on the same images and task to be compared by.")
    return block("findings", sentences)


def _predictions(one: Found, row: Result) -> Predictions:
    return records.read_predictions(records.checked(one.folder_of(row), row))
