"""What the parser refuses, as one line that names the option, what it takes and what was found.

tyro explains a refusal on stderr, in a box of several lines, and exits with 2; nothing else of it is relied on. A box
that is worded in a way not known here becomes one line of its own words.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator

from slmlp.runtime.errors import SlmlpError

KINDS = {"INT": ("a whole number", "whole numbers"), "FLOAT": ("a number", "numbers"), "STR": ("a word", "words")}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.")
_VALUE = re.compile(r"Error parsing (\S+): (.*)")
_FOUND = re.compile(r"(?:base 10: |to float: |instantiated from |arguments: |^)(\['.*?'\]|'.*?')")
_QUOTED = r"'([^']*)'"
_NO_VALUE = re.compile(r"Missing value for argument '(.*)'")


@contextlib.contextmanager
def one_line(command: str) -> Iterator[None]:
    """Turn what the parser refuses in here into a SlmlpError; a help that it prints stays as it is."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as ended:
        if ended.code == 2:
            raise SlmlpError(f"{translated(said.getvalue(), command)}; slmlp {command} --help explains all") from None
        sys.stderr.write(said.getvalue())
        raise
    sys.stderr.write(said.getvalue())


def translated(box: str, command: str) -> str:
    """Return what a box says of one refusal, without a full stop: ``--optimizer must be lars or sgd, found 'adam'``."""
    blocks = _blocks(box)
    text = " ".join(line.strip() for line in blocks[0]).strip()
    if match := _CHOICE.match(text):
        choices = sorted(set(re.findall(_QUOTED, match[3])) - {"None"})  # tyro's order is that of a set
        return f"{match[2]} must be {_listed(choices)}, found {match[1]!r}"
    if match := _NO_VALUE.match(text):
        return f"{match[1]} needs a value"
    if text.startswith("Missing from "):
        names = [line.split()[0] for line in blocks[0][1:] if re.match(r" {4}\S", line)]
        return f"slmlp {command} needs {_listed([_listed(name.strip('{}').split(',')) for name in names], 'and')}"
    if match := _VALUE.match(text):
        flag, why = match[1], match[2].partition(" Got errors:")[0]
        found, kinds = _FOUND.search(why), _kinds(flag, blocks[1:])
        if found and kinds:
            return f"{flag} must be {kinds}, found {' '.join(re.findall(_QUOTED, found[1]))!r}"
        return f"{flag}: {why.rstrip('.')}"
    return text.rstrip(".")


def _blocks(box: str) -> list[list[str]]:
    """Return the lines of a box between its rules, without title and borders, indented as they were.

    Where the terminal knows ASCII alone there are no sides, and a rule below the title.
    """
    lines = _COLOURS.sub("", box).splitlines()
    sides = any(line.startswith("│") for line in lines)
    blocks: list[list[str]] = [[]]
    for line in lines:
        inside = line.strip("│")[1 if sides else 2 :].rstrip()
        if sides and not line.startswith("│"):
            continue
        if inside and not inside.strip("─-"):
            blocks.append([])
        else:
            blocks[-1].append(inside)
    found = blocks if sides else blocks[1:]
    return found if any(found) else [box.splitlines() or [""]]


def _kinds(flag: str, blocks: list[list[str]]) -> str:
    """Return in words what an option takes, from the line of the help that a box quotes: ``--out INT|{a,b}``."""
    for line in (line.strip() for block in blocks for line in block):
        name, _, kinds = line.partition(" ")
        if name == flag and kinds and kinds.count("{") == kinds.count("}"):  # a narrow terminal may cut them
            alternatives = [kinds] if "..." in kinds else re.findall(r"\{[^}]*\}|[^|]+", kinds)
            words = [word for one in alternatives for word in _words(one.strip("{}"))]
            return _listed([word for word in dict.fromkeys(words) if word != "None"])
    return ""


def _words(kind: str) -> list[str]:
    """Return in words one kind of value: ``INT``, ``sgd,lars``, ``FLOAT FLOAT`` or ``[FLOAT [FLOAT ...]]``."""
    parts = re.findall(r"[^\s\[\]]+", kind)
    if parts and parts[-1] == "...":
        return [KINDS[parts[0]][1]] if parts[0] in KINDS else parts[:1]
    if len(parts) > 1 and parts[0] in KINDS:
        return [f"{len(parts)} {KINDS[parts[0]][1]}"]
    return [KINDS[kind][0]] if kind in KINDS else kind.split(",")


def _listed(words: list[str], last: str = "or") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
