"""A part of ``make faults``: kills, damage and mutated inputs, counted without a fault, in bounded time."""

from __future__ import annotations

import os
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
    words = [sys.executable, str(ROOT / "tests" / "faults"), "damage", "--only", "pretrain,evaluate", "--tries", "30"]
    words += ["--harm", "a flipped bit"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', ROOT / 'src')}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "other numbers" in done.stdout


PLANTED = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fuzz
from readers import Reader
from world import World

fuzz.SECONDS, fuzz.PATIENCE, fuzz.GIGABYTES, fuzz.SLOW = 1, 3, 0.05, "slow"

def read(world, path):
    content = path.read_bytes()
    if sys.argv[2] == "key":
        {"a": 1}["a" if b"," in content else "b"]
    elif 5 <= len(content) < 25:
        acts = {"dead": os.abort, "slow": lambda: time.sleep(99), "busy": lambda: sum(iter(int, 1)),
                "large": lambda: b"x" * (1 << 27),
                "outside": lambda: (path.parent.parent / "x").write_text(""), "ran": lambda: Path("EXECUTED").touch()}
        acts[sys.argv[2]]()

world = World(Path(sys.argv[3]))
reader = Reader("planted", lambda w: [b'{"a": [1, 2], "b": {"c": 3}}'], "x.json", read)
count = fuzz.counted(world, reader, int(sys.argv[4]), 0)
bad = count.tries - sum(count.outcomes[name] for name in fuzz.GOOD)
print(count.tries, len(count.faults), bad, count.control)
print(*count.faults, sep=chr(10))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "inputs", "words"),
    [
        ("key", 200, "KeyError at <string>, line 14: \"'b'\"; 0 bytes: python tests/faults --input planted /"),
        ("dead", 50, "died with -6; "),
        ("slow", 12, "slow; "),
        ("busy", 12, "slow; "),
        ("large", 12, "more than 0.05 GB; "),
        ("outside", 50, "wrote outside: x; "),
        ("ran", 50, "ran code; "),
    ],
    ids=["key", "dead", "slow", "busy", "large", "outside", "ran"],
)
def test_a_planted_fault_of_a_reader_is_found_and_made_smaller(planted, inputs, words, tmp_path):
    (tmp_path / "world").mkdir()
    command = [sys.executable, "-c", PLANTED, str(ROOT / "tests" / "faults"), planted]
    command += [str(tmp_path / "world"), str(inputs)]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    numbers, first, *_ = done.stdout.splitlines()
    tries, faults, bad, control = numbers.split(" ", 3)
    assert (tries, control) == (str(inputs), "read"), done.stdout
    assert int(faults) == int(bad) > 0
    assert first.startswith(words)
    kept = len(Path(first.rpartition(" ")[2]).read_bytes())
    assert kept == 0 if planted == "key" else 5 <= kept < 25
