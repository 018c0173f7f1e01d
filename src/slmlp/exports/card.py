"""The model card: what the weights are, what they were trained on, results, and the parity check."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from slmlp.config.names import display
from slmlp.exports.bundle import Bundle
from slmlp.exports.parity import TOLERANCE, Difference
from slmlp.results import records
from slmlp.results.records import Result
from slmlp.train.run import versions

SPECIAL = re.compile(r"([\\`*_{}\[\]()#|~!$])")  # what Markdown would read as more than a letter
LEFT_OUT = ("threads", "device", "checkpoint_minutes", "cache_dir")  # what decides no weight, or tells of a machine
PROPORTIONS = ("accuracy", "mean_class_accuracy", "recall", "map", "error")


def text(value: Any) -> str:
    """Return anything as one line of Markdown that shows just its letters.

    >>> print(text("3 < 4").replace("&", "and "))
    3 and lt; 4
    """
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def card(
    bundle: Bundle, name: str, target: str, loader: str, usage: str, differences: Sequence[Difference], images: str, *,
    front_matter: bool,
) -> str:  # fmt: skip
    """Return the card of an export called ``name``; ``images`` describes the images of the parity check."""
    spec, prepared = bundle.encoder.spec, bundle.encoder.preprocess
    lines = _front_matter(bundle) if front_matter else []
    lines += [
        f"# {text(name)}",
        "",
        f"An image encoder: normalised RGB images (N, 3, {prepared.size}, {prepared.size}) to features "
        f"(N, {bundle.encoder.dim}). Written by slmlp for {text(target)}.",
        "",
        *_table(
            [
                ("encoder", f"{spec.name}, {spec.stem} stem"),
                ("width", bundle.encoder.dim),
                ("parameters", f"{sum(p.numel() for p in bundle.encoder.parameters()):,}"),
                ("licence", bundle.license if bundle.license != "unknown" else "not stated"),
                (
                    "projector",
                    "travels with it" if bundle.projector is not None else "left behind, as it is meant to be",
                ),
                ("classifier", f"fresh, untrained, {bundle.classes} classes" if bundle.classes else "none"),
                ("encoder hash", bundle.encoder.hash()),
            ]
        ),
        "",
        "## Use",
        "",
        "```",
        usage,
        "```",
        "",
        f"Images: {_preparing(bundle)}.",
        "",
        "## Where it comes from",
        "",
        *_origin(bundle),
        "## Results",
        "",
        *_results(bundle),
        "## Parity check",
        "",
        f"Loaded again by {text(loader)} and compared with the encoder on {text(images)}. "
        f"Refused above {TOLERANCE:g} of the largest value, and at any missing or unexpected key.",
        "",
        "| output | shape | largest difference | relative to the largest value |",
        "| --- | --- | --- | --- |",
        *(f"| {d.output} | {d.shape} | {d.largest:.3g} | {d.relative:.3g} |" for d in differences),
        "",
        "Written with " + ", ".join(f"{k} {v}" for k, v in versions().items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _front_matter(bundle: Bundle) -> list[str]:
    """Return the YAML that the Hugging Face hub reads; JSON texts are YAML texts, whatever is in them."""
    return [
        "---",
        f"license: {json.dumps(bundle.license)}",
        "library_name: timm",
        "pipeline_tag: image-feature-extraction",
        "tags: [timm, image-feature-extraction, slmlp]",
        "---",
    ]


def _table(rows: Iterable[tuple[str, Any]]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {text(key)} | {text(value)} |" for key, value in rows)]


def _preparing(bundle: Bundle) -> str:
    prepared = bundle.encoder.preprocess
    how = "stretched to" if prepared.squash else "short side resized to"
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (prepared.mean, prepared.std))
    return (
        f"{how} {prepared.side} px ({prepared.interpolation}, antialiased), centre {prepared.size} px, RGB in 0 to 1, "
        f"less {mean}, divided by {std}"
    )


def _origin(bundle: Bundle) -> list[str]:
    """Return data, split, method, settings, seeds and versions from the run's ``config.json``."""
    if bundle.run is None:
        return ["An encoder file without its run's folder, so that its data, settings and seed are not known here.", ""]
    about = bundle.run.config
    job, resolved, identity = about["job"], about["resolved"], about["identity"]
    split = bundle.run.split
    rows: list[tuple[str, Any]] = [
        ("data", _name(job["data"])),
        ("training images", f"{resolved['training_images']:,} of {resolved['classes']} classes"),
        ("labels", job["labels"]),
        ("data hash", resolved["data_hash"]),
        ("split", f"{split.rule}; {len(split.source)} source and {len(split.unseen)} held-out classes" if split else
         "none: all classes were trained on"),
        ("split hash", identity["split"] or "none"),
        ("method", display(job["method"])),
        ("recipe", job.get("recipe") or "none"),
        ("seed", job["seed"]),
        ("epoch", bundle.epoch if bundle.epoch is not None else job["training"]["epochs"]),
        ("peak learning rate", f"{resolved['peak_lr']:.4g}"),
        ("steps", f"{resolved['steps']:,}"),
        ("trained with", ", ".join(f"{k} {v}" for k, v in about["versions"].items())),
        ("slmlp's commit", about.get("commit") or "installed"),
    ]  # fmt: skip
    settings = {f"training.{k}": v for k, v in job["training"].items() if k not in LEFT_OUT}
    settings["training.init"] = _name(str(settings["training.init"]))
    settings |= {f"method.{k}": v for k, v in resolved["method_settings"].items()}
    full = _table((k, json.dumps(v, sort_keys=True)) for k, v in sorted(settings.items()))
    return [*_table(rows), "", "Every setting:", "", *full, ""]


def _name(source: str) -> str:
    """Return a data source or a weights source without the folders it lies in, which are nobody's business."""
    return source if "/" not in source else Path(source).name


def _results(bundle: Bundle) -> list[str]:
    """Return the numbers that slmlp has of these very weights."""
    rows = _known(bundle)
    if not rows:
        return ["None are kept beside the run: `slmlp evaluate RUN DATA` makes some.", ""]
    lines = ["| data | task | layer | metric | value | 95 % interval | images |", "| --- " * 7 + "|"]
    for row in rows:
        interval = " to ".join(_number(row.metric, v) for v in row.interval) if row.interval else ""
        cells = (
            _name(row.data),
            row.task,
            row.layer,
            row.metric,
            _number(row.metric, row.value),
            interval,
            f"{row.n:,}",
        )
        lines.append("| " + " | ".join(text(cell) for cell in cells) + " |")
    return [*lines, "", "Intervals are over the images of the test, for this one run.", ""]


def _known(bundle: Bundle) -> list[Result]:
    """Return result lines whose encoder hash is this encoder's: of the run's evaluation, and of its study."""
    if bundle.run is None:
        return []
    files = [bundle.run.path / "evaluation" / "results.jsonl"]
    if bundle.run.path.resolve().parent.name == "runs":
        files.append(bundle.run.path.resolve().parent.parent / "results.jsonl")
    mine = bundle.encoder.hash()
    rows = [row for file in files if file.is_file() for row in records.read(file)]
    return [row for row in rows if row.hashes.get("encoder") == mine and row.task != "measures" and row.role != "grid"]


def _number(metric: str, value: float) -> str:
    return f"{100 * value:.1f} %" if metric in PROPORTIONS else f"{value:.4g}"
