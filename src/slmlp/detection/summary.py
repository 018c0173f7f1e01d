"""Write the verdict, the pictures, detect.json and the page of a detection comparison."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmlp import report
from slmlp.config.names import display
from slmlp.detection import pictures, predict
from slmlp.detection.controls import NAMES
from slmlp.detection.detectors import Detectors, bootstraps
from slmlp.experiments.contenders import Contender
from slmlp.results import records, verdict
from slmlp.results.intervals import Bootstrap
from slmlp.results.records import Result
from slmlp.results.sentences import data_warnings
from slmlp.results.verdict import Verdict, alone, judge
from slmlp.runtime import device, files, json_files
from slmlp.runtime.checkout import commit
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.train.run import now, versions

LIBRARIES = ("pycocotools", "faster-coco-eval")


def write(detectors: Detectors, contenders: Sequence[Contender], configs: Sequence[dict[str, Any]]) -> Path:
    """Write verdict.json, detect.json, the pictures and report.html; ``configs`` are the detectors' config.json.

    Returns:
        The page's path.
    """
    folder, data = detectors.folder, detectors.parts[detectors.main]
    results = _results(detectors, contenders)
    predictions = {c.run: predict.read(records.checked(folder, results[c.run][0])) for c in contenders}
    verdicts = _verdicts(detectors, contenders, predictions)
    comparisons = [comparison for one in verdicts for comparison in one.comparisons]
    note = "one seed per encoder: the intervals are over images only; another training may turn the sign"
    opening = verdicts[0].sentences if verdicts else ()
    verdict.write(
        folder, verdicts, opening or ["One encoder: nothing to compare it with."],
        note if all(comparison.seeds == 1 for comparison in comparisons) else None,
    )  # fmt: skip
    first: dict[str, predict.Predictions] = {}  # of the first seed of each name
    for contender in contenders:
        first.setdefault(display(contender.name), predictions[contender.run])
    drawings = pictures.draw(folder / "pictures", data, first, detectors.cfg.pictures)
    json_files.write(folder / "detect.json", _description(detectors, contenders, configs, drawings, results), seal=True)
    return report.write(folder)


def _verdicts(
    detectors: Detectors, contenders: Sequence[Contender], predictions: dict[str, predict.Predictions]
) -> list[Verdict]:
    """Return the verdicts on AP and AP50 of boxes and masks; the first, the headline, has every two of them besides."""
    data = detectors.parts[detectors.main]
    truth = data.truth()
    runs: dict[str, dict[str, dict[int, Bootstrap]]] = {}  # metric -> name -> seed
    for kind in detectors.kinds:
        for one in contenders:
            for metric, bootstrap in bootstraps(truth, predictions[one.run], kind, detectors.cfg.resamples).items():
                runs.setdefault(metric, {}).setdefault(one.name, {})[one.seed] = bootstrap
    verdicts: list[Verdict] = []
    for metric, by_name in runs.items():
        pairs = [(a, b) for a, b in _pairs(contenders) if by_name.get(a, {}).keys() & by_name.get(b, {}).keys()]
        if pairs:
            verdicts.append(
                judge(
                    by_name,
                    contenders[0].name,
                    task="detect",
                    metric=metric,
                    data=detectors.name,
                    compared=pairs,
                    every=not verdicts,
                )
            )
        else:
            verdicts.append(alone(by_name, task="detect", metric=metric, data=detectors.name))
    return verdicts


def _results(detectors: Detectors, contenders: Sequence[Contender]) -> dict[str, list[Result]]:
    """Return the results on the main part after training, by run; SlmlpError where some are gone."""
    by_run: dict[str, list[Result]] = {contender.run: [] for contender in contenders}
    for result in records.read(detectors.folder / "results.jsonl"):
        if (result.task, result.data, result.epoch) == ("detect", detectors.name, None) and result.run in by_run:
            by_run[result.run].append(result)
    lost = next((run for run, rows in by_run.items() if not rows), None)
    if lost is not None:
        raise SlmlpError(
            f"{detectors.folder} lost numbers that were in it (detect of {lost}), as if it had been removed while the "
            "command wrote into it: give the same command again"
        )
    return by_run


def _pairs(contenders: Sequence[Contender]) -> list[tuple[str, str]]:
    """Return the pairs of names to compare: the first with every other encoder, each control with every encoder."""
    names = list(dict.fromkeys(contender.name for contender in contenders))
    trained = [name for name in names if name.split(":")[0] not in NAMES.values()]
    first = names[0]
    pairs = [(first, name) for name in trained if name != first]
    controls = [name for name in names if name not in trained]
    return pairs + [(control, name) for name in trained for control in controls]


def _description(
    detectors: Detectors, contenders: Sequence[Contender], configs: Sequence[dict[str, Any]],
    drawings: list[dict[str, str]], results: Mapping[str, Sequence[Result]],
) -> dict[str, Any]:  # fmt: skip
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    description: dict[str, Any] = files.as_json(
        {
            "schema": 1,
            "title": _title(detectors, contenders),
            "data": detectors.name,
            "parts": [part.describe() for part in detectors.parts.values()],
            "sources": {part: data.source for part, data in detectors.parts.items()},
            "hashes": {part: data.hash() for part, data in detectors.parts.items()},
            "main": detectors.main,
            "images": len(detectors.parts[detectors.main]),
            "masks": detectors.with_masks,
            "settings": dataclasses.asdict(detectors.cfg),
            "resolved": configs[0]["resolved"],
            "rows": [
                {
                    "run": one.run, "name": one.name, "seed": one.seed, "encoder": detector_config["encoder"],
                    "control": one.untrained, "frozen": detector_config["frozen"], "source": one.source,
                    "metrics": f"detectors/{detectors.detector_folder(one).name}/metrics.jsonl",
                }
                for one, detector_config in zip(contenders, configs, strict=True)
            ],
            "pictures": drawings,
            "warnings": data_warnings(row for rows in results.values() for row in rows),
            "versions": {**versions(), **libraries},
            "commit": commit(),
            "machine": device.describe(),
            "started": min(detector_config["started"] for detector_config in configs),
            "finished": now(),
        }
    )  # fmt: skip
    return description


def _title(detectors: Detectors, contenders: Sequence[Contender]) -> str:
    kind = "Mask R-CNN" if detectors.with_masks else "Faster R-CNN"
    count = len({contender.name for contender in contenders if not contender.untrained})
    return f"{plural(count, 'encoder')} in {kind} on {detectors.name}"
