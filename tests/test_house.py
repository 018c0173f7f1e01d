"""The rooms of the package: which may import which, and what importing one loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "slmlp"

# Each room imports rooms to its left only; rooms of one group do not import each other.
ORDER = (
    ("runtime",), ("config",), ("data", "results"), ("probes",), ("encoders",), ("methods",), ("train",),
    ("evaluation", "exports"), ("report",), ("experiments", "serving"), ("detection",), ("api",), ("cli",),
)  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def rooms_of(path: Path) -> set[str]:
    """Return the rooms that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "slmlp":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("slmlp.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    upwards = {other for other in rooms_of(path) - {room} if FLOOR[other] >= FLOOR[room]}
    assert not upwards, f"{room} imports {', '.join(sorted(upwards))}"


def test_the_report_reads_written_numbers_only():
    assert set().union(*(rooms_of(path) for path in (SOURCE / "report").rglob("*.py"))) <= {
        "report", "results", "config", "runtime"
    }  # fmt: skip


def test_every_name_at_the_top_is_a_room():
    names = {path.stem for path in SOURCE.iterdir() if not path.name.startswith(("__", "py.typed"))}
    assert names == set(FLOOR)


@pytest.mark.slow
def test_probes_load_no_network():
    code = "import sys, slmlp.probes.linear, slmlp.probes.measures.measures\n"
    code += "print([m for m in ('timm', 'torchvision.models', 'slmlp.encoders') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_function_that_the_architecture_page_names_exists():
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    named = re.findall(r"`([a-z_0-9/]+\.py):([A-Za-z_.]+)`", page)
    assert len(named) > 30
    for file, name in named:
        nodes = ast.parse((SOURCE / file).read_text()).body
        for part in name.split("."):
            node = next((n for n in nodes if getattr(n, "name", None) == part), None)
            assert node is not None, f"{file} has no {name}"
            nodes = getattr(node, "body", [])
