"""The one page of a study: a single HTML file that loads nothing, for the screen, a phone and paper."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import tables, words
from slmlp.report.inputs import Inputs, read
from slmlp.runtime import files

HERE = Path(__file__).parent


def write(folder: Path) -> Path:
    """Write ``report.html`` from what the study left in ``folder``; return its path."""
    path = folder / "report.html"
    files.write_text(path, render(read(folder)))
    return path


def render(inputs: Inputs) -> str:
    """Return the page as HTML."""
    return fill("page.html.j2", _content(inputs))


def fill(template: str, content: dict[str, Any]) -> str:
    """Return a template of this folder filled in; all text of the content is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        name=display,
        tidy=words.tidy,
        opening=words.opening,
        breakable=words.breakable,
        signed=words.signed,
        number=words.number,
        signed_span=words.signed_span,
        p_value=words.p_value,
    )
    style, script = ((HERE / f"page.{kind}").read_text() for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        **content,
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_hash=f"sha256-{digest}",  # the only script the page's own policy lets run
    )


def _content(inputs: Inputs) -> dict[str, Any]:
    """Return everything the template shows, in the order of the page."""
    # matplotlib takes a second to load, for which the terminal's table need not wait
    from slmlp.report import drawing, figures, maps

    study = inputs.study
    widths = (drawing.WIDE, drawing.NARROW)
    labels, numbers = tables.every_number(inputs)
    return {
        "study": study,
        "title": study["title"],
        "version": study["versions"].get("slmlp"),
        "sentences": inputs.verdict.get("sentences") or ["No verdict was written for this study."],
        "note": inputs.verdict.get("note"),
        "warnings": study.get("warnings") or [],
        "comparisons": inputs.comparisons,
        "forest": [figures.forest(inputs, w, f"forest-{w}", inputs.comparisons) for w in widths],
        "mlp": inputs.task.get("pairs") or [],
        "mlp_forest": [figures.forest(inputs, w, f"mlp-{w}", inputs.task.get("pairs") or []) for w in widths],
        "how": _how(inputs),
        "table": tables.grid(inputs),
        "number_labels": labels,
        "numbers": numbers,
        "methods": [(display(m), i) for i, m in enumerate(inputs.methods)],
        "epochs": figures.epochs(inputs),
        "curve_seeds": len({r.seed for r in inputs.rows if r.role == "curve"}),
        "unseen_images": inputs.images("unseen", "accuracy"),
        "source_images": inputs.images("source", "accuracy"),
        "rates": figures.rates(inputs),
        "rate_seeds": sorted({r.seed for r in inputs.rows if r.role == "grid"}),
        "rates_failed": [
            f"{display(method)} could not be trained at {rate}: {reason}"
            for method, reasons in ((study.get("rates") or {}).get("failed") or {}).items()
            for rate, reason in reasons.items()
        ],
        "grid": (study.get("rates") or {}).get("grid") or [],
        "validation_images": inputs.images("validation", "accuracy", "grid"),
        "grid_images": inputs.images("unseen", "accuracy", "grid"),
        "maps": maps.maps(inputs),
        "data_rows": _data(inputs.data),
        "split_rows": _split(study["split"]),
        "settings": list(words.flat(study["settings"])),
        "machine_rows": machine_rows(study),
        "limits": words.limits(inputs),
        "winners": [display(m) for m in inputs.methods if m in inputs.better()],
        "day": words.day(study.get("finished") or study.get("started")),
    }


def _how(inputs: Inputs) -> str:
    """Return in one line how the answer was found."""
    split, seeds, machine = inputs.study["split"], inputs.study["seeds"], inputs.study["machine"]
    device = machine.get("device") or "cpu"
    on = words.plural(machine.get("cores", 1), "CPU core") if device == "cpu" else device
    told = (
        f"Found with a linear probe on the frozen encoder: {inputs.images('unseen', 'accuracy')} images of "
        f"{words.plural(len(split['unseen']), 'class', 'classes')} held out of pretraining, "
        f"{words.plural(len(split['source']), 'class', 'classes')} pretrained on, "
        f"{words.plural(seeds, 'seed')} a method"
    )
    if inputs.study.get("labels") == "superclass":
        told += ", pretrained on superclasses instead of classes"
    return f"{told}, {words.hours(inputs.study.get('hours'))} of runs on {on}."


def _data(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the data as (name, value)."""
    parts = ", ".join(f"{n:,} {part}" for part, n in (data.get("parts") or {}).items())
    sizes = data.get("per_class") or {}
    rows = [
        ("name", data.get("name")),
        ("source", data.get("source")),
        ("images", f"{data['images']:,}" + (f" ({parts})" if parts else "")),
        (
            "classes",
            f"{data['classes']:,}"
            + (
                f" in {words.plural(data['superclasses'], 'superclass', 'superclasses')}"
                if data.get("superclasses")
                else ""
            ),
        ),
        ("images a class", ", ".join(f"{key} {value:,g}" for key, value in sizes.items())),
        *((key, f"{data[key]:,}") for key in ("unreadable", "duplicates", "ignored") if data.get(key) is not None),
        ("hash", data.get("hash")),
    ]
    return [(key, str(value)) for key, value in rows if value]


def _split(split: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the split as (name, value)."""
    leaks = split.get("leaks")
    rows = [
        ("rule", split.get("rule")),
        ("seed", split.get("seed")),
        ("held-out superclasses", ", ".join(split.get("held_out_superclasses") or [])),
        ("leaks", None if leaks is None else f"{leaks:,}" if leaks else "none found"),
        ("hash of the source classes", split.get("source_hash")),
        ("hash of the unseen classes", split.get("unseen_hash")),
    ]
    return [(key, str(value)) for key, value in rows if value not in (None, "")]


def machine_rows(study: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the study ran on as (name, value)."""
    machine = study["machine"]
    processor = f"{machine.get('cpu', 'unknown')}, {words.plural(machine.get('cores', 1), 'core')}"
    rows = [
        ("device", machine.get("device")),
        ("processor", processor),
        ("precision", machine.get("precision")),
        ("started", words.day(study.get("started"))),
        ("finished", words.day(study.get("finished"))),
        *study["versions"].items(),
        ("commit", study.get("commit")),
    ]
    return [(key, str(value)) for key, value in rows if value]
