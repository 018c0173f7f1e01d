"""Write the files that a detection's page is made from: the verdict, the pictures, the record of the trainings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slmlp import report
from slmlp.config.names import display
from slmlp.detection import pictures, predict
from slmlp.detection.contest import Contest, bootstraps
from slmlp.detection.controls import NAMES
from slmlp.experiments.contenders import Contender
from slmlp.results import records, verdict
from slmlp.results.intervals import Bootstrap
from slmlp.results.records import Result
from slmlp.results.verdict import Verdict, alone, judge
from slmlp.runtime import device, files
from slmlp.train.run import commit, versions

LIBRARIES = ("pycocotools", "faster-coco-eval")


def write(contest: Contest, rows: Sequence[Contender], details: Sequence[dict[str, Any]]) -> Path:
    """Write verdict.json, detect.json, the pictures and report.html; return the page's path."""
    folder, data = contest.folder, contest.parts[contest.main]
    lines = _lines(contest, rows)
    predictions = {row.run: predict.read(folder / str(lines[row.run][0].predictions)) for row in rows}
    verdicts = _verdicts(contest, rows, predictions)
    comparisons = [c for one in verdicts for c in one.comparisons]
    note = "one seed an encoder: the intervals are over images only; another training may turn the sign"
    opening = verdicts[0].sentences if verdicts else ()
    verdict.write(
        folder, verdicts, opening or ["One encoder: nothing to compare it with."],
        note if all(c.seeds == 1 for c in comparisons) else None,
    )  # fmt: skip
    names = list(dict.fromkeys(row.name for row in rows))
    first = {display(name): next(predictions[r.run] for r in rows if r.name == name) for name in names}
    drawings = pictures.draw(folder / "pictures", data, first, contest.cfg.pictures)
    files.write_json(folder / "detect.json", _about(contest, rows, details, lines, drawings))
    return report.write(folder)


def _verdicts(contest: Contest, rows: Sequence[Contender], predictions: dict[str, predict.Found]) -> list[Verdict]:
    """Return the verdicts on AP and AP50 of boxes and masks."""
    data = contest.parts[contest.main]
    truth = data.truth()
    runs: dict[str, dict[str, dict[int, Bootstrap]]] = {}  # metric -> name -> seed
    for kind in contest.kinds:
        for row in rows:
            for metric, bootstrap in bootstraps(truth, predictions[row.run], kind, contest.cfg.resamples).items():
                runs.setdefault(metric, {}).setdefault(row.name, {})[row.seed] = bootstrap
    verdicts = []
    for metric, by_name in runs.items():
        pairs = [(a, b) for a, b in _pairs(rows) if by_name.get(a, {}).keys() & by_name.get(b, {}).keys()]
        if pairs:
            verdicts.append(
                judge(by_name, rows[0].name, task="detect", metric=metric, data=contest.name, compared=pairs)
            )
        else:
            verdicts.append(alone(by_name, task="detect", metric=metric, data=contest.name))
    return verdicts


def _lines(contest: Contest, rows: Sequence[Contender]) -> dict[str, list[Result]]:
    """Return the lines of the main part at the end of training, by run."""
    lines: dict[str, list[Result]] = {row.run: [] for row in rows}
    for line in records.read(contest.folder / "results.jsonl"):
        if line.task == "detect" and line.data == contest.name and line.epoch is None and line.run in lines:
            lines[line.run].append(line)
    return lines


def _pairs(rows: Sequence[Contender]) -> list[tuple[str, str]]:
    """Return what is compared: every other row with the first, then every encoder with its random controls."""
    names = list(dict.fromkeys(row.name for row in rows))
    trained = [name for name in names if name.split(":")[0] not in NAMES.values()]
    first = names[0]
    pairs = [(first, name) for name in trained if name != first]
    controls = [name for name in names if name not in trained]
    return pairs + [(control, name) for name in trained for control in controls]


def _about(
    contest: Contest, rows: Sequence[Contender], details: Sequence[dict[str, Any]], lines: dict[str, list[Result]],
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
            "resolved": details[0]["resolved"],
            "rows": [
                {
                    "run": row.run, "name": row.name, "seed": row.seed, "encoder": one["encoder"],
                    "control": row.untrained, "frozen": one["frozen"], "source": row.source,
                    "metrics": f"detectors/{contest.place(row).name}/metrics.jsonl",
                }
                for row, one in zip(rows, details, strict=True)
            ],
            "pictures": drawings,
            "versions": {**versions(), **libraries},
            "commit": commit(),
            "machine": device.describe(),
            "started": min(one["started"] for one in details),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )  # fmt: skip
    return about


def _title(contest: Contest, rows: Sequence[Contender]) -> str:
    kind = "Mask R-CNN" if contest.with_masks else "Faster R-CNN"
    count = len({row.name for row in rows if not row.untrained})
    return f"{count} encoder{'s' * (count > 1)} in {kind} on {contest.name}"
