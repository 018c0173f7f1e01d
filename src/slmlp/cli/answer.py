"""What a command answers: tables and sentences for readers, rows for scripts, one JSON document on request."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from slmlp.cli.table import Table
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plain, plain_json
from slmlp.runtime.progress import QUIET, USUAL, VERBOSE, kept, say, tell


@dataclass(frozen=True)
class Answer:
    """The answer of a command."""

    document: Mapping[str, Any]
    """What ``--json`` prints; names of fields as in results.jsonl and verdict.json."""
    tables: Sequence[Table] = ()
    """For readers."""
    sentences: Sequence[str] = ()
    """Below the tables."""
    lines: Sequence[str] = ()
    """Below the sentences; files and commands, never broken so that they can be copied."""
    rows: Table | None = None
    """For scripts, where stdout is no terminal; without it the first table."""
    code: int = 0
    """Exit code."""


@dataclass(frozen=True)
class Output:
    """How a command speaks: flags that all commands have."""

    json: bool = False
    """Print one JSON document to stdout."""
    wide: bool = False
    """Print all columns of tables."""
    quiet: bool = field(default=False, metadata={"short": "-q"})
    """Print the answer, warnings and errors only."""
    verbose: bool = field(default=False, metadata={"short": "-v"})
    """Say more: each file that is written, and what was chosen."""

    @classmethod
    def taken_from(cls, words: Sequence[str]) -> tuple[Output, list[str]]:
        """Return what the words say of it, and the other words.

        >>> Output.taken_from(["x", "-q", "--wide"])
        (Output(json=False, wide=True, quiet=True, verbose=False), ['x'])
        """
        flags = {flag: entry.name for entry in fields(cls) for flag in spelled(entry)}
        given = {flags[word] for word in words if word in flags}
        if {"quiet", "verbose"} <= given:
            raise SlmlpError("-q and -v contradict each other: give one of them")
        return cls(**dict.fromkeys(given, True)), [word for word in words if word not in flags]

    @property
    def verbosity(self) -> str:
        """How much is said on stderr."""
        return QUIET if self.quiet else VERBOSE if self.verbose else USUAL


def spelled(entry: Field[Any]) -> tuple[str, ...]:
    """Return the flags of a field of Output.

    >>> [spelled(entry) for entry in fields(Output)][:3]
    [('--json',), ('--wide',), ('-q', '--quiet')]
    """
    short = entry.metadata.get("short")
    return (*([short] if short else []), f"--{entry.name}")


def show(answer: Answer, command: str, output: Output) -> None:
    """Print an answer to stdout: as JSON, or as it is read best where stdout leads."""
    if not processes.is_main():
        return
    if output.json:
        document = {"command": command, **answer.document}
        document["warnings"] = list(dict.fromkeys([*document.get("warnings", ()), *kept("warnings")]))
        print(plain_json(json.dumps(finite(document), ensure_ascii=False, indent=2, allow_nan=False)))
    elif sys.stdout.isatty():
        _to_reader(answer, output.wide)
    else:
        _to_script(answer)


def _to_reader(answer: Answer, wide: bool) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for table in answer.tables:
        parts, left_out = table.fitting(console.width, wide)
        for part in parts:
            console.print(part.rich())
        more = f"{left_out} more {'column' if left_out == 1 else 'columns'}: --wide" if left_out else ""
        for text in filter(None, (table.note, more)):
            console.print(plain(text), style="dim")
        console.print()
    for line in answer.sentences:
        console.print(plain(line))
    for line in answer.lines:
        console.print(plain(line), soft_wrap=True)


def _to_script(answer: Answer) -> None:
    """Print one table to stdout, and what is said beside it to stderr; sentences alone are the answer."""
    rows = answer.rows or next(iter(answer.tables), None)
    if rows is not None:
        print(rows.tsv())
    for line in (*answer.sentences, *answer.lines):
        (tell if rows is None else say)(line)


def of_plan() -> Answer:
    """Return the answer of a dry run, whose plan has been said."""
    return Answer({"dry_run": True, "plan": kept("plan")})


def finite(value: Any) -> Any:
    """Return a value of JSON whose numbers that are not finite are null, and whose paths are texts.

    >>> finite({"a": (1.5, float("nan"))})
    {'a': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
