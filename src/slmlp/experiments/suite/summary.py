"""Write the files that a suite's page is made from: the verdict of every task, and the record of the suite."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.config.flags import flags
from slmlp.evaluation.engine import settings_hash
from slmlp.evaluation.sources import ImageData
from slmlp.experiments.contenders import Contender
from slmlp.report.inputs import suite_rows
from slmlp.results import verdict
from slmlp.results.metrics import bootstrap_runs, bootstrapped
from slmlp.results.over_datasets import ByData
from slmlp.results.records import (
    Predictions,
    Result,
    Scores,
    checked,
    contender_name,
    read_predictions,
    read_scores,
)
from slmlp.results.sentences import data_warnings, fit_warnings, missing_data_sets
from slmlp.results.verdict import Verdict, judge_over_datasets, judged
from slmlp.runtime import device, files, json_files
from slmlp.runtime.checkout import commit
from slmlp.runtime.plain import plural
from slmlp.train.run import now, versions

SCHEMA = 1


def data_facts(data: ImageData) -> dict[str, Any]:
    """Return what the page says of a data set."""
    images = data.images
    parts = {part: int((images.parts == part).sum()) for part in ("train", "test")}
    description = (
        f"{len(images):,} images of {len(images.classes):,} classes, {parts['train']:,} train, {parts['test']:,} test"
        f"{'' if images.has_test_part else ' (drawn here)'}; {images.source}; hash {images.hash()[:12]}"
    )
    return {"name": data.name, "source": images.source, "hash": images.hash(), "description": description,
            "unreadable": len(images.unreadable), "parts": parts, "classes": len(images.classes)}  # fmt: skip


def write(
    folder: Path, cfg: config.Suite, contenders: Sequence[Contender], described: Mapping[str, dict[str, Any]],
    facts: Sequence[dict[str, Any]], missing: Sequence[str], started: str, command: str,
) -> None:  # fmt: skip
    """Write suite.json and verdict.json."""
    names = list(dict.fromkeys(contender.name for contender in contenders))
    sets = [one["name"] for one in facts]
    about = {
        "schema": SCHEMA,
        "title": cfg.name or f"{', '.join(sets[:8])}{' ...' if len(sets) > 8 else ''}",
        "command": command,
        "methods": names,
        "untrained": list(dict.fromkeys(contender.name for contender in contenders if contender.untrained)),
        "encoders": [{**dataclasses.asdict(one), **described[one.run]} for one in contenders],
        "data": list(facts),
        "missing": list(missing),
        "tasks": list(cfg.tasks),
        "task_settings": {task: settings_hash(task, cfg) for task in cfg.tasks},
        "settings": files.as_json(dataclasses.asdict(cfg)),
        "machine": {**device.describe(), "cores": device.describe()["threads"]},
        "versions": versions(),
        "commit": commit(),
        "started": started,
        "finished": now(),
    }  # fmt: skip
    rows = sorted(suite_rows(folder, about), key=lambda row: cfg.tasks.index(row.task) if row.task in cfg.tasks else -1)
    about["how"] = _how(about, rows)
    about["warnings"] = data_warnings(rows) + fit_warnings(rows)
    verdicts = [] if len(names) < 2 else _verdicts(folder, rows, names, missing)
    json_files.write(folder / "suite.json", about, seal=True)
    verdict.write(folder, verdicts, _opening(verdicts))


def _verdicts(folder: Path, rows: Sequence[Result], names: Sequence[str], missing: Sequence[str]) -> list[Verdict]:
    """Return the verdicts of every task and metric with predictions of its own, bootstrapped numbers last.

    The first encoder is the baseline; embeddings behind a projector are a contender of their own.
    """
    accuracies: dict[tuple[str, str], dict[str, dict[str, dict[int, Predictions]]]] = {}
    scores: dict[tuple[str, str], dict[str, dict[str, dict[int, Scores]]]] = {}
    for row in rows:
        if not config.task_entry(row.task).compared or row.predictions is None:
            continue
        key, name = (row.task, row.metric), contender_name(row)
        if bootstrapped(row.metric):
            of_task = scores.setdefault(key, {name: {} for name in names})
            of_task.setdefault(name, {}).setdefault(row.data, {})[row.seed] = read_scores(checked(folder, row))
        elif judged(row.metric):
            predicted = accuracies.setdefault(key, {name: {} for name in names})
            predicted[name].setdefault(row.data, {})[row.seed] = read_predictions(checked(folder, row))
    runs: dict[tuple[str, str], Mapping[str, ByData]] = {
        **accuracies, **{key: bootstrap_runs(of_task, names[0], key[1]) for key, of_task in scores.items()}
    }  # fmt: skip
    verdicts: list[Verdict] = []
    for (task, metric), of_task_ in runs.items():
        present = {name: by_data for name, by_data in of_task_.items() if by_data}
        if names[0] in present and len(present) > 1:
            headline = not verdicts
            verdicts.append(judge_over_datasets(present, names[0], missing, task=task, metric=metric, every=headline))
    return verdicts


def _opening(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the sentences that the page opens with: of the first task, and of images with several labels."""
    if not verdicts:
        return ["One encoder: nothing to compare it with."]
    headline, *others = verdicts
    sentences = [*headline.short, *missing_data_sets(headline.data, headline.missing)]
    if sum(one.metric != "map" for one in verdicts) > 1:
        sentences.append(
            f"This is of {headline.task}, the task named first; every other task has a verdict of its own, corrected "
            "for its own comparisons only"
        )
    return sentences + [line for one in others if one.metric == "map" for line in one.short]


def _how(about: Mapping[str, Any], rows: Sequence[Result]) -> str:
    # few-shot counts the queries of all its episodes, in which an image comes many times
    images = {row.data: row.n for row in rows if row.metric in ("accuracy", "map") and row.task != "fewshot"}
    scored = f"{sum(images.values()):,} images scored; " if images else ""
    encoders, sets = len(about["encoders"]), len(about["data"])
    return (
        f"{plural(encoders, 'encoder')} on {plural(sets, 'data set')}, {scored}"
        f"tasks: {', '.join(about['tasks'])}. Untrained encoders have random weights and the BatchNorm statistics of "
        "each data set's training images."
    )


def suite_command(
    encoders: Sequence[str], out: Path, datasets: str | None, sources: Sequence[str], split: str | None,
    cfg: config.Suite,
) -> str:  # fmt: skip
    """Return the command that does this suite again."""
    words = ["slmlp", "suite", *encoders]
    if datasets is not None:
        words += ["--datasets", datasets]
    if sources:
        words += ["--also", *sources]
    if split is not None:
        words += ["--split", split]
    default = config.Suite()
    if cfg.tasks != default.tasks:
        words += ["--tasks", *cfg.tasks]
    if cfg.name is not None:
        words += ["--name", cfg.name]
    for name in (field.name for field in dataclasses.fields(config.TaskSettings) if field.name != "data"):
        words += flags(getattr(cfg, name), getattr(default, name), f"{name}.")
    words += flags(cfg.data, default.data)
    return shlex.join([*words, "--out", out.name])
