"""The page of a detection: table, differences, pictures, loss, settings, versions; made from what is in the folder."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from slmlp.config.names import display
from slmlp.report import drawing, words
from slmlp.report.page import fill
from slmlp.results import records
from slmlp.results.records import Result
from slmlp.runtime import files

COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
HEADINGS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
QUALITY = 85  # of the pictures inside the page; the PNG files beside it lose nothing


def write(folder: Path) -> Path:
    """Write ``report.html`` from detect.json, verdict.json, results.jsonl and the pictures; return its path."""
    about, verdict = files.read_json(folder / "detect.json"), files.read_json(folder / "verdict.json")
    lines = [row for row in records.read(folder / "results.jsonl") if row.data == about["data"]]
    path = folder / "report.html"
    files.write_text(path, fill("detection.html.j2", _content(folder, about, verdict, lines)))
    return path


def _content(folder: Path, about: dict[str, Any], verdict: dict[str, Any], lines: list[Result]) -> dict[str, Any]:
    kinds = ("box", "mask") if about["masks"] else ("box",)
    return {
        "title": about["title"],
        "version": about["versions"].get("slmlp"),
        "about": about,
        "day": words.day(about["finished"]),
        "sentences": verdict["sentences"],
        "note": verdict["note"],
        "kinds": kinds,
        "tables": {kind: _table(kind, about, verdict, lines) for kind in kinds},
        "headings": HEADINGS,
        "comparisons": [
            {**c, "title": _metric(c["metric"])} for task in verdict["tasks"].values() for c in task["comparisons"]
        ],
        "others": _others(about, lines),
        "loss": _loss(folder, about),
        "pictures": [{**one, "uri": _uri(folder / "pictures" / one["file"])} for one in about["pictures"]],
        "settings": list(
            words.flat({**about["settings"], **{f"resolved {k}": v for k, v in about["resolved"].items()}})
        ),
        "data_rows": _data(about),
        "machine_rows": _machine(about),
        "limits": _limits(about),
    }


def _metric(name: str) -> str:
    kind, _, rest = name.partition("_")
    return f"{kind} {HEADINGS[COLUMNS.index(rest)]}"


def _table(kind: str, about: dict[str, Any], verdict: dict[str, Any], lines: list[Result]) -> list[dict[str, Any]]:
    """Return a row a name: means over its seeds in percent, the interval under AP and AP50."""
    rows = []
    for name in dict.fromkeys(row["name"] for row in about["rows"]):
        members = [row for row in about["rows"] if row["name"] == name]
        runs = {row["run"] for row in members}
        cells = []
        for column in COLUMNS:
            metric = f"{kind}_{column}"
            values = [
                x.value
                for x in lines
                if x.task == "detect" and x.epoch is None and x.run in runs and x.metric == metric
            ]
            mean = ((verdict["tasks"].get(f"detect {metric}") or {}).get("means") or {}).get(name)
            shown = words.number(100 * sum(values) / len(values)) if values else words.NOTHING
            cells.append((shown, words.span(mean["low"], mean["high"]) if mean else ""))
        note = "seed " + ", ".join(str(row["seed"]) for row in members) if not members[0]["control"] else "control"
        rows.append({"label": display(name), "note": note, "control": members[0]["control"], "cells": cells})
    return rows


def _others(about: dict[str, Any], lines: list[Result]) -> list[tuple[str, ...]]:
    """Return AP of other parts, and of before training, as (row, part, when, metric, value, images)."""
    runs = {row["run"] for row in about["rows"]}
    found = []
    for x in lines:
        other = x.task != "detect" or x.epoch is not None
        if other and x.run in runs and x.task.startswith("detect") and x.metric.split("_", 1)[1] in COLUMNS[:2]:
            when = "before training" if x.epoch == 0 else "after"
            found.append((x.run, x.extra["part"], when, _metric(x.metric), words.number(100 * x.value), f"{x.n:,}"))
    return sorted(found, key=lambda row: (row[0], row[1], row[3], row[2] == "after"))


def _loss(folder: Path, about: dict[str, Any]) -> Markup | None:
    """Return the loss along training, a line a run."""
    curves = []
    for row in about["rows"]:
        points = [(x["step"], x["loss"]) for x in files.read_json_lines(folder / row["metrics"])]
        if len(points) > 1:
            curves.append((row, points))
    if not curves:
        return None
    order = list(dict.fromkeys(row["name"] for row in about["rows"]))
    with drawing.style():
        figure = drawing.sheet(drawing.WIDE, 300)
        axes = drawing.axes_in(figure, 1, 1, 8, 48)
        for row, points in curves:
            i = order.index(row["name"]) % 6
            label = display(row["name"]) if row is next(r for r, _ in curves if r["name"] == row["name"]) else None
            axes.plot(
                *zip(*points, strict=True),
                color=drawing.METHOD[i],
                linestyle=drawing.DASHES[i],
                linewidth=1.6,
                label=label,
            )
        axes.set_xlabel("update")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="upper right")
        told = "; ".join(f"{display(r['name'])} seed {r['seed']}: {p[0][1]:.2f} to {p[-1][1]:.2f}" for r, p in curves)
        return drawing.to_svg(figure, "loss", f"Loss along training. {told}", "")


def _uri(path: Path) -> str:
    with Image.open(path) as image:
        packed = io.BytesIO()
        image.convert("RGB").save(packed, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def _data(about: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("name", about["data"]),
        *((line.split(":", 1)[0], line.split(":", 1)[1].strip()) for line in about["parts"]),
    ]
    rows += [(f"annotations, {part}", source) for part, source in about["sources"].items()]
    return rows + [(f"hash, {part}", value) for part, value in about["hashes"].items()]


def _machine(about: dict[str, Any]) -> list[tuple[str, str]]:
    machine = about["machine"]
    rows = [
        ("processor", f"{machine.get('cpu', 'unknown')}, {words.plural(machine.get('threads', 1), 'thread')}"),
        ("processes", str(machine.get("processes", 1))),
        ("started", words.day(about["started"])),
        ("finished", words.day(about["finished"])),
        *about["versions"].items(),
        ("commit", about["commit"]),
    ]
    return [(key, str(value)) for key, value in rows if value]


def _limits(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the page cannot tell, each as (lead, sentence)."""
    settings, resolved = about["settings"], about["resolved"]
    said = []
    seen = resolved["steps"] * settings["batch_size"]
    if seen < 1_000_000 or settings["short_side"] < 800:
        said.append(
            (
                "A short training.",
                f"{resolved['steps']:,} updates of {words.plural(settings['batch_size'], 'image')} at a short side of "
                f"up to {settings['short_side']} pixels; the published schedule shows 1,440,000 images at 640 to 800. "
                "Encoders that differ there can look alike here, and the reverse; AP here is no number to set beside "
                "published ones.",
            )
        )
    if about["images"] < 500:
        said.append(
            (
                "Few images.",
                f"AP is taken on {words.plural(about['images'], 'image')}; the intervals are wide for that reason"
                + (", and with so few images they are themselves only rough." if about["images"] < 50 else "."),
            )
        )
    if max(sum(r["name"] == row["name"] for r in about["rows"]) for row in about["rows"]) == 1:
        said.append(
            (
                "One training each.",
                "Intervals are over images; another seed of pretraining or of the detector moves AP by an amount not "
                "measured here.",
            )
        )
    said.append(("One detector.", "The answer holds for this data, detector, schedule and size of image."))
    return said
