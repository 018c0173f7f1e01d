"""A part of ``make faults``: kills, damage and mutated inputs, counted without a fault, in bounded time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def faults(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests" / "faults"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "only", "tries"),
    [("kills", "pretrain,features", 5), ("damage", "pretrain,evaluate", 20), ("fuzz", "study", 25)],
)
def test_no_fault_is_counted(parts, only, tries):
    done = faults(parts, "--only", only, "--tries", str(tries), "--seed", "7")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 3
    for row in rows:  # all that were tried were without a fault, and something was
        assert row[3] == row[4]
        assert int(row[3].replace(",", "")) > 0
        assert "differs" not in row[6]


@pytest.mark.slow
def test_a_fault_is_seen(tmp_path):
    """The harness must find one: an encoder file whose checksum is not compared gives other numbers in silence."""
    site = tmp_path / "sitecustomize.py"
    site.write_text(
        "import sys, importlib.abc\n"
        "class Unsealed(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'slmlp.encoders.encoder':\n"
        "            from slmlp.encoders import stored\n"
        "            stored._hash = lambda tensors, about: 'none'\n"
        "sys.meta_path.insert(0, Unsealed())\n"
    )
    import os

    words = [sys.executable, str(ROOT / "tests" / "faults"), "damage", "--only", "pretrain,evaluate", "--tries", "60"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', ROOT / 'src')}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "other numbers" in done.stdout
