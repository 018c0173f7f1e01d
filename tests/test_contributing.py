"""The worked examples of CONTRIBUTING.md and docs/extending.md, in a copy of the package, pass the contracts."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def blocks(title: str) -> list[str]:
    """Return the Python of a section of the guide, block by block."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def copy(tmp_path):
    for folder in ("src", "tests", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "reference"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if (ROOT / ".mypy_cache").exists():  # of the check before the tests: only what is new is checked again
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / ".mypy_cache")
    return tmp_path


def replaced(file: Path, before: str, after: str) -> None:
    """Replace a text that stands once in a file."""
    text = file.read_text()
    assert text.count(before) == 1, before
    file.write_text(text.replace(before, after))


def run(copy: Path, *words: str) -> int:
    """Run pytest in the copy and return the number of tests that passed; all must."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    return int(passed[1]) if passed else 0


def of_extending(first: str) -> str:
    """Return the block of docs/extending.md that begins with these words."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.S)
    (block,) = [text for text in found if text.startswith(first)]
    return block


def parts(code: str, names: tuple[str, ...]) -> tuple[str, str]:
    """Return the definitions of the names, and the module without them."""
    lines, held = code.splitlines(), []
    for node in ast.parse(code).body:
        target = node.targets[0].id if isinstance(node, ast.Assign) else getattr(node, "name", None)
        if target in names:
            start = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) - 1
            held.append("\n".join(lines[start : node.end_lineno]))
            lines[start : node.end_lineno] = [""] * (node.end_lineno - start)
    return "\n\n\n".join(held), "\n".join(lines)


def formatted(copy: Path) -> None:
    for words in (["ruff", "check", "--fix"], ["ruff", "format"], ["ruff", "check"], ["mypy"]):
        done = subprocess.run(
            [sys.executable, "-m", *words, "src"], cwd=copy, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_method_of_the_guide_passes_the_contract(copy):
    entry, imported = blocks("Add a method")
    settings, method = parts(of_extending('"""Barlow Twins'), ("BARLOW_MLP", "Settings"))
    method = method.replace("    settings = Settings()\n", "").replace(
        "from slmlp.encoders import", imported + "from slmlp.encoders import"
    )
    (copy / "src/slmlp/methods/barlow_twins.py").write_text(method)
    settings = settings.replace("class Settings", "class BarlowTwins")
    table, described = "METHODS: dict[str, MethodEntry] = {\n", "@dataclass(frozen=True)\nclass MethodEntry:"
    replaced(copy / "src/slmlp/config/methods.py", described, settings + "\n\n\n" + described)
    replaced(copy / "src/slmlp/config/methods.py", table, table + entry)
    losses = copy / "tests/test_losses.py"
    test = of_extending("import numpy").replace("from my_method", "from slmlp.methods.barlow_twins")
    losses.write_text(losses.read_text() + "\n\n" + test)
    formatted(copy)
    assert run(copy, "-k", "barlow", "tests/test_methods.py", "tests/test_losses.py", "tests/test_method_runs.py") > 10
    every = "every_method or every_published or help or listed or numbers_are and methods"
    assert run(copy, "-k", every, "tests/test_methods.py", "tests/test_recipes.py", "tests/test_golden.py") > 3


def test_the_task_of_the_guide_passes_the_contract(copy):
    entry, body, test = blocks("Add a task")
    _, module = parts(of_extending('"""Linear discriminant'), ("Settings", "Discriminant"))
    table = "TASKS: dict[str, Task] = {\n"
    replaced(copy / "src/slmlp/config/tasks.py", table, table + entry)
    (copy / "src/slmlp/evaluation/tasks/discriminant.py").write_text(module + body)
    (copy / "tests/test_tasks_discriminant.py").write_text(test)
    formatted(copy)
    assert run(copy, "tests/test_tasks_discriminant.py") == 2
    assert run(
        copy, "-k", "registry or every_setting_of_a_task", "tests/test_tasks_neighbours.py", "tests/test_suite.py"
    )
    code = f"""import numpy as np, slmlp
x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
parts = np.repeat(["train", "test"], 30)
np.savez(r"{copy}/features.npz", x=x, y=np.arange(60) % 3, parts=parts)
rows = slmlp.evaluate(r"{copy}/features.npz", task="discriminant", out=r"{copy}/out")
print(sorted(row.metric for row in rows))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
    )
    assert "['accuracy', 'mean_class_accuracy']" in done.stdout, done.stderr[-2000:]


def test_the_data_set_of_the_guide_passes_the_contract(copy):
    entry, registered, miniature = blocks("Add a benchmark data set")
    (copy / "src/slmlp/data/published/uc_merced.py").write_text(entry)
    line = "ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (*ISLAM2021, *ERICSSON2021_TREX)}\n"
    replaced(copy / "src/slmlp/data/published/registry.py", line, registered)
    miniatures = copy / "tests/dataset_miniatures.py"
    miniatures.write_text(miniatures.read_text() + "\n\n" + miniature)
    assert run(copy, "-k", "UCMerced", "tests/test_datasets.py") >= 4
