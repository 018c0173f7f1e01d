"""Write the files that a study's page is made from: verdict, map of held-out features, record of the study."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmlp import config, data
from slmlp.config.flags import flags
from slmlp.config.names import behind
from slmlp.config.tasks import LAYERWISE
from slmlp.evaluation.engine import settings_hash
from slmlp.experiments.study import conclusion, pictures
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.rates import Rates
from slmlp.experiments.study.specs import mlp_pairs
from slmlp.results import records, verdict
from slmlp.results.comparison import BySeed
from slmlp.results.gains import compare_gains
from slmlp.results.metrics import bootstrap_runs, bootstrapped
from slmlp.results.records import Predictions, Result, Scores, contender_name
from slmlp.results.sentences import data_warnings, fit_warnings
from slmlp.results.verdict import Verdict
from slmlp.runtime import device, files, json_files
from slmlp.runtime.checkout import commit
from slmlp.train.run import Run, now, versions


def write(context: Context, rates: Rates, started: str, seconds: float, *, demo: bool) -> None:
    """Write verdict.json, tsne.json with its thumbnails, and study.json."""
    result, *others = _verdicts(context)
    contenders = final_predictions(context)
    found = conclusion.judged(context, contenders)
    gains = compare_gains(contenders, mlp_pairs(context.specs), context.images.name)
    result = dataclasses.replace(result, references=found, gains=gains)
    one_seed = bool(result.comparisons) and all(c.seeds == 1 for c in result.comparisons)  # else each sentence says it
    opening, lead = conclusion.opening(context, result)
    verdict.write(
        context.folder,
        [result, *others],
        opening,
        "one seed each: the intervals are over images only, and another seed may change the result"
        if one_seed
        else None,
        lead=lead,
    )
    winner = max(result.means, key=lambda name: result.means[name].value)
    pictures.write(context, contenders, conclusion.shown(context, result))
    about = _about(context, rates, winner, demo)
    about["advice"] = conclusion.advice(context, result)
    about["next"] = conclusion.following(context, found, about["full_command"])
    file = context.folder / "study.json"
    earlier = json_files.read(file, dict[str, Any]).get("run_hours", {}) if file.exists() else {}
    hours = _run_hours(context, earlier)
    total = round(sum(hours.values()) or seconds / 3600, 4)
    json_files.write(
        file, about | {"started": started, "finished": now(), "hours": total, "run_hours": hours}, seal=True
    )


def _verdicts(context: Context) -> list[Verdict]:
    """Compare the contenders, and each with an MLP with itself without one: on unseen accuracy, then by other tasks."""
    name, baseline, specs = context.images.name, context.specs[0].name, context.specs
    pairs = mlp_pairs(specs) if len(specs) > 2 else []  # of two, the comparison itself is that
    asked = [key for task in context.asked for key in _judged(context, task)]
    verdicts = []
    for task, metric in (("unseen", "accuracy"), *asked):
        runs = _runs(context, task, metric)
        both = [(spec.name, behind(spec.name)) for spec in specs[1:] if behind(spec.name) in runs]
        if len(runs) == 1:
            verdicts.append(verdict.alone(runs, task=task, metric=metric, data=name))
        else:
            besides, headline = [*pairs, *both], not verdicts
            found = verdict.judge(runs, baseline, task=task, metric=metric, data=name, pairs=besides, every=headline)
            verdicts.append(found)
    return verdicts


def _runs(context: Context, task: str, metric: str) -> Mapping[str, BySeed]:
    """Return what is compared of each contender's final runs, by seed."""
    if not bootstrapped(metric):
        return final_predictions(context, task, metric)
    scores: dict[str, dict[str, dict[int, Scores]]] = {spec.name: {} for spec in context.specs}
    for row in _final(context, task):
        if row.metric == metric and row.method in scores and row.seed < context.cfg.seeds:
            held = scores.setdefault(contender_name(row), {}).setdefault(row.data, {})
            held[row.seed] = records.read_scores(records.checked(context.folder, row))
    runs = bootstrap_runs(scores, context.specs[0].name, metric)
    return {name: by_data.get(context.images.name, {}) for name, by_data in runs.items()}


def _judged(context: Context, task: str) -> list[tuple[str, str]]:
    """Return the task with each of its numbers, in their order, that contenders are compared by."""
    metrics = dict.fromkeys(row.metric for row in _final(context, task))
    return [(task, metric) for metric in metrics if verdict.judged(metric) or bootstrapped(metric)]


def _final(context: Context, task: str) -> list[Result]:
    """Return the lines of a task under the study's settings, of final runs."""
    rows, settings = records.read(context.engine.store.file), settings_hash(task, context.cfg)
    return [row for row in rows if (row.task, row.role, row.extra.get("settings")) == (task, "final", settings)]


def final_predictions(
    context: Context, task: str = "unseen", metric: str = "accuracy"
) -> dict[str, dict[int, Predictions]]:
    """Return the predictions behind a number of each contender's final runs, by seed."""
    predictions: dict[str, dict[int, Predictions]] = {spec.name: {} for spec in context.specs}
    for row in _final(context, task):
        if row.metric == metric and row.predictions and row.method in predictions and row.seed < context.cfg.seeds:
            predictions[row.method][row.seed] = records.read_predictions(records.checked(context.folder, row))
    return predictions


def _run_hours(context: Context, before: dict[str, float]) -> dict[str, float]:
    """Return the hours of each run: from its training log, or as recorded before where the run is deleted."""
    runs = [Run(folder) for folder in sorted((context.folder / "runs").glob("*"))]
    return before | {run.name: round(run.hours, 6) for run in runs if run.finished}


def _compute(context: Context) -> dict[str, float]:
    """Return each contender's training compute relative to the first: encoder passes over all images and epochs."""
    passes = {}
    for spec in context.specs:
        saved = context.run(spec, 0).config
        steps, batch = saved["resolved"]["steps"], saved["job"]["training"]["batch_size"]
        passes[spec.name] = steps * batch * saved["resolved"]["passes_per_image"]
    first = passes[context.specs[0].name]
    return {name: round(value / first, 3) for name, value in passes.items()}


def _epochs(context: Context) -> dict[str, int]:
    """Return each contender's epochs, which a spec may set for itself."""
    return {spec.name: context.run(spec, 0).config["job"]["training"]["epochs"] for spec in context.specs}


def _about(context: Context, rates: Rates, winner: str, demo: bool) -> dict[str, Any]:
    """Return the record of the study that the page shows."""
    cfg, images, split = context.cfg, context.images, context.split
    summary = data.summary(images)
    config_ = context.run(context.specs[0], 0).config
    chosen = {spec.name: rates.of(spec) for spec in context.specs}
    return {
        "schema": 1,
        "title": cfg.name or images.name,
        "command": study_command(context),
        "machine": {**device.describe(), "cores": device.describe()["threads"],
                    "device": config_["resolved"]["device"], "precision": config_["resolved"]["precision"]},
        "versions": versions(),
        "commit": commit(),
        "data": {"name": images.name, "source": images.source, "hash": images.hash(), **summary},
        "split": {"rule": split.rule, "seed": split.seed, "source": list(split.source), "unseen": list(split.unseen),
                  "source_hash": split.source_hash, "unseen_hash": split.unseen_hash, "leaks": len(split.leaks),
                  "held_out_superclasses": list(split.held_out_superclasses) if split.held_out_superclasses else None},
        "settings": files.as_json(dataclasses.asdict(cfg)),
        "chosen": context.chosen,
        "methods": [spec.name for spec in context.specs],
        "contenders": [spec.text for spec in context.specs],
        "with_projector": [spec.name for spec in context.specs if spec.settings.projector.depth],
        "seeds": cfg.seeds,
        "compute": _compute(context),
        "epochs": _epochs(context),
        "labels": cfg.labels,
        "tasks": list(context.asked),
        "task_settings": {task: settings_hash(task, cfg) for task in context.asked},
        "rates": {"grid": list(cfg.grid), "chosen": chosen, "by": cfg.select,
                  "validation": {m: {f"{r:g}": v for r, v in s.items()} for m, s in rates.validation.items()},
                  "failed": {m: {f"{r:g}": v for r, v in s.items()} for m, s in rates.failed.items()}},
        "full_command": full_command(context, winner, chosen[winner]),
        "warnings": warnings(context),
        "demo": demo,
    }  # fmt: skip


def full_command(context: Context, winner: str, rate: float) -> str:
    """Return the command that pretrains the winner on all classes, for use."""
    spec = context.spec(winner)
    training = dataclasses.replace(context.cfg.training, **spec.training, base_lr=rate, save_every=0, threads=None)
    words = ["slmlp", "pretrain", context.source, "--method", spec.method]
    if not isinstance(spec.settings, config.SavedSettings):  # of a run that is compared: its code may be gone
        preset = config.method_config(spec.method)
        words += flags(spec.settings.projector, preset.projector, "projector.")
        words += flags(dataclasses.replace(spec.settings, projector=preset.projector), preset)
    words += flags(training, config.Training()) + flags(context.cfg.data, config.DataOptions())
    if context.cfg.labels != "class":
        words += ["--labels", context.cfg.labels]
    return shlex.join([*words, "--out", f"{context.images.name}-{spec.folder}"])


def study_command(context: Context) -> str:
    """Return the command that does this study again."""
    cfg, default = context.cfg, config.Study()
    words = ["slmlp", "study", context.source, "--methods", ",".join((s.variant_of or s).text for s in context.specs)]
    words += ["--seeds", str(cfg.seeds), "--rates", *map(str, cfg.grid)]
    named = dataclasses.replace(cfg, methods=default.methods, seeds=default.seeds, rates=default.rates)
    words += flags(named, default)
    return shlex.join([*words, "--out", Path(context.folder).name])


def warnings(context: Context) -> list[str]:
    """Return what a reader must know before trusting a number."""
    # a probe of an inner layer decides nothing
    rows = [row for row in records.read(context.engine.store.file) if row.task not in LAYERWISE and row.role != "curve"]
    lines = data_warnings(rows) + fit_warnings(rows)
    if context.split.leaks:
        lines.append(
            f"{len(context.split.leaks)} near-identical pairs of images stand on both sides of the split; split.json "
            "names them under leaks: remove one of each and run the study again, or read unseen accuracy as a bit high"
        )
    return lines
