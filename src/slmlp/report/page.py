"""The page: a single HTML file that loads nothing, for the screen, a phone and paper; a list of sections."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from slmlp.config.names import display
from slmlp.report import words
from slmlp.runtime.plain import plural

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "charts.js", "tables.js", "map.js")  # one script on the page; the first has what they share


ANSWER, WHY, WHERE, REST = "The answer", "Why", "Where", "How it was made"  # parts of a page, a sceptic's order


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it, each a macro of blocks.html.j2 filled in."""

    id: str
    title: str
    blocks: list[Markup]
    part: str = REST  # sections of one part stand together


@dataclass(frozen=True)
class Page:
    """All that a page shows."""

    title: str
    eyebrow: str  # the line above the title
    version: str | None
    sections: list[Section]

    @property
    def parts(self) -> list[tuple[str, list[Section]]]:
        """Return the sections by their part, for the table of contents."""
        return [(part, list(of)) for part, of in itertools.groupby(self.sections, lambda section: section.part)]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        name=display, tidy=words.tidy, opening=words.opening, breakable=words.breakable, halves=words.halves
    )
    return environment


def block(name: str, *values: Any, **more: Any) -> Markup:
    """Return one macro of blocks.html.j2 filled in; all text is escaped."""
    macro = getattr(_environment().get_template("blocks.html.j2").module, name)
    html: Markup = macro(*values, **more)  # a macro of a template that escapes returns Markup
    return html


def fold(summary: str, *blocks: Markup, is_open: bool = False) -> Markup:
    """Return blocks that are folded away under a line."""
    return block("fold", summary, Markup("\n").join(blocks), open=is_open)


def render(page: Page, *, served: bool = False) -> str:
    """Return the page as HTML: a file that loads nothing, or one of ``slmlp serve``, which asks its server for news."""
    style = (HERE / "page.css").read_text()
    script = _script(served)
    return _environment().get_template("page.html.j2").render(
        page=page,
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        policy=Markup(policy(served)),  # noqa: S704  our own words
        served=served,
    )  # fmt: skip


@functools.cache
def _script(served: bool) -> str:
    names = (*SCRIPTS, "served.js") if served else SCRIPTS
    return "".join((HERE / name).read_text() for name in names)


def policy(served: bool = False) -> str:
    """Return the Content-Security-Policy of a page: its own script runs, and nothing else; nothing is loaded."""
    digest = base64.b64encode(hashlib.sha256(_script(served).encode()).digest()).decode()
    rules = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'"
    )
    return rules + ("; form-action 'self'; connect-src 'self'" if served else "; form-action 'none'")


def warnings(sentences: Sequence[str]) -> list[Section]:
    """Return the section of what limits the numbers, where there is anything."""
    return [Section("warnings", "Warnings", [block("warnings", sentences)])] if sentences else []


def settings(values: dict[str, Any]) -> Section:
    """Return the section of every setting, folded away."""
    rows = list(words.flat(values))
    table = block("facts", rows, "Settings, as resolved before it began")
    return Section("settings", "Settings", [fold(f"Every setting: {len(rows)}", table)])


def machine(about: dict[str, Any]) -> Section:
    """Return the section of versions, machine, times and the command."""
    facts = about["machine"]
    cores, threads = facts.get("cores"), facts.get("threads", 1)
    processors = plural(threads, "thread") if cores is None else plural(cores, "core")
    rows = [
        ("device", facts.get("device")),
        ("processor", f"{facts.get('cpu', 'unknown')}, {processors}"),
        ("processes", facts["processes"] if facts.get("processes", 1) > 1 else None),
        ("precision", facts.get("precision")),
        ("started", words.day(about.get("started"))),
        ("finished", words.day(about.get("finished"))),
        *about["versions"].items(),
        ("commit", about.get("commit")),
    ]
    blocks = [block("facts", [(key, str(value)) for key, value in rows if value], "What it ran on")]
    if about.get("command"):
        blocks += [block("text", "Made by", "gap"), block("command", about["command"])]
    return Section("machine", "Versions and machine", blocks)
