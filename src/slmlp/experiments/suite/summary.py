"""From result lines to what the suite's page shows: the verdict of every task, and the record of the suite."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.config.flags import flags
from slmlp.config.names import display
from slmlp.evaluation.engine import settings_hash
from slmlp.evaluation.sources import ImageData
from slmlp.evaluation.tasks import TASKS
from slmlp.experiments.contenders import Contender
from slmlp.experiments.suite.several_labels import SeveralLabels
from slmlp.report.suite_inputs import current
from slmlp.results.domain_comparison import DomainComparison
from slmlp.results.domain_statistics import Over
from slmlp.results.domain_verdict import DomainVerdict, judge_domains
from slmlp.results.domain_words import short, what_is_missing
from slmlp.results.records import Predictions, Result, Scores, read_predictions, read_scores
from slmlp.results.verdict import points
from slmlp.runtime import device, files
from slmlp.train.run import commit, versions

SCHEMA = 1
JUDGED = ("accuracy", "superclass_accuracy", "within_superclass_accuracy")


def data_facts(data: ImageData) -> dict[str, Any]:
    """Return what the page says of a data set."""
    images = data.images
    parts = {part: int((images.parts == part).sum()) for part in ("train", "test")}
    told = (
        f"{len(images):,} images of {len(images.classes):,} classes, {parts['train']:,} train, {parts['test']:,} test"
        f"{'' if images.has_test_part else ' (drawn here)'}; {images.source}; hash {images.hash()[:12]}"
    )
    return {"name": data.name, "source": images.source, "hash": images.hash(), "told": told,
            "unreadable": len(images.unreadable), "parts": parts, "classes": len(images.classes)}  # fmt: skip


def write(
    folder: Path, cfg: config.Suite, contenders: Sequence[Contender], described: Mapping[str, str],
    facts: Sequence[dict[str, Any]], missing: Sequence[str], started: str, command: str,
) -> None:  # fmt: skip
    """Write suite.json and verdict.json."""
    names = list(dict.fromkeys(contender.name for contender in contenders))
    sets = [one["name"] for one in facts]
    about = {
        "schema": SCHEMA,
        "title": f"Which encoder transfers? {', '.join(sets[:8])}{' ...' if len(sets) > 8 else ''}",
        "command": command,
        "methods": names,
        "untrained": list(dict.fromkeys(contender.name for contender in contenders if contender.untrained)),
        "encoders": [{**dataclasses.asdict(one), "described": described[one.run]} for one in contenders],
        "data": list(facts),
        "missing": list(missing),
        "tasks": list(cfg.tasks),
        "task_settings": {task: settings_hash(task, cfg) for task in cfg.tasks},
        "settings": files.as_json(dataclasses.asdict(cfg)),
        "machine": {**device.describe(), "cores": device.describe()["threads"]},
        "versions": versions(),
        "commit": commit(),
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    rows = current(folder, about)
    about["how"] = _how(about, rows)
    about["warnings"] = _warnings(rows)
    verdicts = {} if len(names) < 2 else _verdicts(folder, rows, names, missing)
    several = {} if len(names) < 2 else _of_several_labels(folder, rows, names, missing)
    files.write_json(folder / "suite.json", about)
    files.write_json(folder / "verdict.json", _verdict_json(verdicts, several))


def _verdicts(
    folder: Path, rows: Sequence[Result], names: Sequence[str], missing: Sequence[str]
) -> dict[str, DomainVerdict]:
    """Return the verdict of every task and number with predictions of its own; the first encoder is the baseline."""
    found: dict[str, dict[str, dict[str, dict[int, Predictions]]]] = {}
    for row in rows:
        judged = row.metric in JUDGED or row.metric.startswith("accuracy_at_")
        if not TASKS[row.task].judged or not judged or row.predictions is None:
            continue
        of_task = found.setdefault(f"{row.task} {row.metric}", {name: {} for name in names})
        of_task[row.method].setdefault(row.data, {})[row.seed] = read_predictions(folder / row.predictions)
    verdicts = {}
    for title, of_task in found.items():
        there = {name: sets for name, sets in of_task.items() if sets}
        if names[0] in there and len(there) > 1:
            verdicts[title] = judge_domains(there, names[0], missing)
    return verdicts


def _of_several_labels(
    folder: Path, rows: Sequence[Result], names: Sequence[str], missing: Sequence[str]
) -> dict[str, SeveralLabels]:
    """Return the verdicts on mean average precision by task; the first encoder is the baseline."""
    tasks: dict[str, dict[str, dict[str, dict[int, Scores]]]] = {}
    for row in rows:
        if row.metric == "map" and TASKS[row.task].judged and row.predictions is not None:
            of_data = tasks.setdefault(f"{row.task} map", {}).setdefault(row.data, {})
            of_data.setdefault(row.method, {})[row.seed] = read_scores(folder / row.predictions)
    return {title: SeveralLabels.of(sets, names, missing) for title, sets in tasks.items()}


def _verdict_json(verdicts: Mapping[str, DomainVerdict], several: Mapping[str, SeveralLabels]) -> dict[str, Any]:
    """Return the verdicts as plain JSON; the first task's is the suite's."""
    headline = next(iter(verdicts), None)
    sentences = ["One encoder: nothing to compare it with."]
    if headline:
        verdict = verdicts[headline]
        sentences = [short(c) for c in verdict.comparisons] + what_is_missing(verdict.data_sets, verdict.missing)
    if headline and len(verdicts) > 1:
        sentences.append(
            f"This is of {headline.split(' ')[0]}, the task named first; the others stand below, each corrected for "
            "its own comparisons only"
        )
    lines = [line for found in several.values() for line in found.short]
    if lines and not headline:
        sentences, lines = lines, next(iter(several.values())).what_is_missing
    sentences += lines
    return {
        "headline": headline,
        "sentences": sentences,
        "tasks": {
            title: {
                "sentences": list(verdict.sentences),
                "better": [c.method_b for c in verdict.comparisons if c.winner == c.method_b],
                "comparisons": [_comparison(c) for c in verdict.comparisons],
                "means": {
                    mean.method: {"accuracy": 100 * mean.accuracy, "log_odds": mean.log_odds, "sets": mean.data_sets}
                    for mean in verdict.means
                },
            }
            for title, verdict in verdicts.items()
        }
        | {title: found.as_json() for title, found in several.items()},
    }


def _comparison(c: DomainComparison) -> dict[str, Any]:
    sets = [
        {"name": name, "difference": one.difference, "low": one.interval[0], "high": one.interval[1], "p": one.p,
         "p_holm": one.p_holm, "seeds": one.seeds, "n": one.images, "words": one.sentence}
        for name, one in c.sets.items()
    ]  # fmt: skip
    low, high = c.points.these.interval
    words = f"{display(c.method_b)} minus {display(c.method_a)}, mean over {len(sets)} data sets: "
    words += f"{points(c.points.value, plus=True)} points, 95 % interval {points(low)} to {points(high)}; " + "; ".join(
        f"{name} {points(one.difference, plus=True)}" for name, one in c.sets.items()
    )
    return {
        "a": c.method_a, "b": c.method_b, "difference": c.points.value, **_spreads(c.points), "p_holm": c.p_holm,
        "log_odds": {"difference": c.log_odds.value, **_spreads(c.log_odds)}, "sets": sets, "words": words,
        "winner": c.winner, "holds_beyond": c.holds_beyond,
    }  # fmt: skip


def _spreads(over: Over) -> dict[str, Any]:
    def spread(one: Any) -> dict[str, Any] | None:
        if one is None:
            return None
        return {"low": one.interval[0], "high": one.interval[1], "p": one.p, "smallest": one.detectable}

    return {"these": spread(over.these), "like": spread(over.like)}


def _how(about: Mapping[str, Any], rows: Sequence[Result]) -> str:
    # few-shot counts the queries of all its episodes, in which an image comes many times
    images = {row.data: row.n for row in rows if row.metric in ("accuracy", "map") and row.task != "fewshot"}
    scored = f"{sum(images.values()):,} images scored; " if images else ""
    encoders, sets = len(about["encoders"]), len(about["data"])
    return (
        f"{encoders} encoder{'s' * (encoders != 1)} on {sets} data set{'s' * (sets != 1)}, {scored}"
        f"tasks: {', '.join(about['tasks'])}. Untrained encoders have random weights and the BatchNorm statistics of "
        "each data set's training images."
    )


def _warnings(rows: Sequence[Result]) -> list[str]:
    """Return what a reader must know before trusting a number."""
    found = []
    for key, words in (
        ("at_grid_edge", "a value at the edge of its grid was chosen for"),
        ("unfinished_fits", "the probe reached its most iterations before its tolerance for"),
    ):
        runs = sorted({f"{row.run} on {row.data} ({row.task})" for row in rows if row.extra.get(key)})
        if runs:
            shown = ", ".join(runs[:6]) + (f" and {len(runs) - 6} more" if len(runs) > 6 else "")
            found.append(f"{words} {shown}")
    return found


def suite_command(
    encoders: Sequence[str], out: Path, domains: str | None, sources: Sequence[str], split: str | None,
    cfg: config.Suite,
) -> str:  # fmt: skip
    """Return the command that does this suite again."""
    words = ["slmlp", "suite", *encoders]
    if domains is not None:
        words += ["--domains", domains]
    if sources:
        words += ["--also", *sources]
    if split is not None:
        words += ["--split", split]
    default = config.Suite()
    if cfg.tasks != default.tasks:
        words += ["--tasks", *cfg.tasks]
    for name in ("probe", "knn", "centroid", "fewshot", "label_efficiency", "finetune", "extraction", "preprocess"):
        words += flags(getattr(cfg, name), getattr(default, name), f"{name}.")
    words += flags(cfg.data, default.data)
    return shlex.join([*words, "--out", out.name])
