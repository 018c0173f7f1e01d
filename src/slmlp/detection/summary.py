"""From predictions to the comparison, the pictures and the record of what was done, which the page is made from."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slmlp.config.names import display
from slmlp.detection import pictures, predict
from slmlp.detection.contest import Contest, drawn
from slmlp.detection.controls import NAMES
from slmlp.experiments.contenders import Contender
from slmlp.report import detection as page
from slmlp.results import records
from slmlp.results.drawn import Difference, Drawn, compare, spread
from slmlp.results.records import Result
from slmlp.runtime import device, files
from slmlp.train.run import commit, versions

LIBRARIES = ("pycocotools", "faster-coco-eval")


def write(contest: Contest, rows: Sequence[Contender], told: Sequence[dict[str, Any]]) -> Path:
    """Write verdict.json, detect.json, the pictures and report.html; return the page's path."""
    folder, data = contest.folder, contest.parts[contest.main]
    lines = _lines(contest, rows)
    found = {row.run: predict.read(folder / str(lines[row.run][0].predictions)) for row in rows}
    truth, samples = data.truth(), {}
    for row in rows:
        for kind in contest.kinds:
            for metric, held in drawn(truth, found[row.run], kind, contest.cfg.resamples).items():
                samples[row.run, metric] = held
    pairs = _pairs(rows)
    metrics = [f"{kind}_{name}" for kind in contest.kinds for name in ("ap", "ap50")]
    differences = []
    for metric in metrics:
        by_name: dict[str, dict[int, Drawn]] = {}
        for row in rows:
            if (row.run, metric) in samples:
                by_name.setdefault(row.name, {})[row.seed] = samples[row.run, metric]
        here = [(a, b) for a, b in pairs if a in by_name and b in by_name]
        differences += compare(by_name, here, metric, len(data), title(metric))
    names = list(dict.fromkeys(row.name for row in rows))
    means = {}
    for name in names:
        for metric in metrics:
            runs = [samples[r.run, metric] for r in rows if r.name == name and (r.run, metric) in samples]
            if runs:
                mean = spread(runs, len(data))
                means[f"{name} {metric}"] = _mean(mean, len(runs))
    first = [d for d in differences if d.metric == metrics[0]]
    verdict = {
        "sentences": [d.sentence for d in first] or ["One encoder: nothing to compare it with."],
        "comparisons": [_difference(d) for d in differences],
        "means": means,
        "note": (
            "one seed an encoder: the intervals are over images only; another training may turn the sign"
            if all(d.seeds == 1 for d in differences)
            else None
        ),
    }
    files.write_json(folder / "verdict.json", verdict)
    shown = {display(name): next(found[r.run] for r in rows if r.name == name) for name in names}
    drawings = pictures.draw(folder / "pictures", data, shown, contest.cfg.pictures)
    files.write_json(folder / "detect.json", _about(contest, rows, told, lines, drawings))
    return page.write(folder)


def title(metric: str) -> str:
    """Return a metric's name for readers.

    >>> title("box_ap50"), title("mask_ap_small")
    ('box AP50', 'mask AP small')
    """
    kind, _, rest = metric.partition("_")
    return f"{kind} {rest.replace('ap', 'AP', 1).replace('_', ' ')}"


def _lines(contest: Contest, rows: Sequence[Contender]) -> dict[str, list[Result]]:
    """Return the lines of the main part at the end of training, by run."""
    found: dict[str, list[Result]] = {row.run: [] for row in rows}
    for line in records.read(contest.folder / "results.jsonl"):
        if line.task == "detect" and line.data == contest.name and line.epoch is None and line.run in found:
            found[line.run].append(line)
    return found


def _pairs(rows: Sequence[Contender]) -> list[tuple[str, str]]:
    """Return what is compared: every other row with the first, then every encoder with its random controls."""
    names = list(dict.fromkeys(row.name for row in rows))
    trained = [name for name in names if name.split(":")[0] not in NAMES.values()]
    first = names[0]
    pairs = [(first, name) for name in trained if name != first]
    controls = [name for name in names if name not in trained]
    return pairs + [(control, name) for name in trained for control in controls]


def _difference(d: Difference) -> dict[str, Any]:
    low, high = d.mean.interval
    return {
        "a": d.a, "b": d.b, "metric": d.metric, "difference": 100 * d.mean.value, "low": _number(100 * low),
        "high": _number(100 * high), "p": d.mean.p if _number(d.mean.variance) is not None else 1.0, "p_holm": d.p_holm,
        "smallest": _number(100 * d.mean.detectable) if _number(d.mean.variance) is not None else None,
        "seeds": d.seeds, "n": d.images,
    }  # fmt: skip


def _mean(mean: Any, seeds: int) -> dict[str, Any]:
    low, high = mean.interval
    return {
        "mean": 100 * mean.value, "low": _number(max(0.0, 100 * low)), "high": _number(min(100.0, 100 * high)),
        "seeds": seeds,
    } if _number(mean.variance) is not None else {
        "mean": 100 * mean.value, "low": None, "high": None, "seeds": seeds,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _about(
    contest: Contest, rows: Sequence[Contender], told: Sequence[dict[str, Any]], lines: dict[str, list[Result]],
    drawings: list[dict[str, str]],
) -> dict[str, Any]:  # fmt: skip
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    about: dict[str, Any] = files.as_json(
        {
            "schema": 1,
            "title": _title(contest, rows),
            "data": contest.name,
            "parts": [part.describe() for part in contest.parts.values()],
            "sources": {part: data.source for part, data in contest.parts.items()},
            "hashes": {part: data.hash() for part, data in contest.parts.items()},
            "main": contest.main,
            "images": len(contest.parts[contest.main]),
            "masks": contest.with_masks,
            "settings": dataclasses.asdict(contest.cfg),
            "resolved": told[0]["resolved"],
            "rows": [
                {
                    "run": row.run, "name": row.name, "seed": row.seed, "encoder": one["encoder"],
                    "control": row.untrained, "frozen": one["frozen"], "source": row.source,
                    "metrics": f"detectors/{contest.place(row).name}/metrics.jsonl",
                }
                for row, one in zip(rows, told, strict=True)
            ],
            "pictures": drawings,
            "versions": {**versions(), **libraries},
            "commit": commit(),
            "machine": device.describe(),
            "started": min(one["started"] for one in told),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )  # fmt: skip
    return about


def _title(contest: Contest, rows: Sequence[Contender]) -> str:
    kind = "Mask R-CNN" if contest.with_masks else "Faster R-CNN"
    count = len({row.name for row in rows if not row.untrained})
    return f"{count} encoder{'s' * (count > 1)} in {kind} on {contest.name}"
