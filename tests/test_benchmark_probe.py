"""The benchmark of the probe runs at smoke size: both sides, every part, and the variables it takes away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_part_runs_and_both_sides_agree():
    sizes = "--sweep 300 24 4 --few 400 16 4 --agree 400 16 4 --weak 400 16 4 --scale 4000 --scale-features 16 "
    sizes += "--scale-classes 4"
    command = [sys.executable, "benchmarks/probe.py", "--rounds", "1", *sizes.split(), "--memory-limits", "0.14"]
    environment = {**os.environ, "OPENBLAS_L2_SIZE": "no number", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    said = done.stdout
    assert len(re.findall(r"^(?:cold|warm) +ours [\d.]+ s.*ratio", said, re.MULTILINE)) == 3
    assert len(re.findall(r"chose \S+ an image", said)) == 3
    agreed = said.split("agreement at tolerance")[1].split("one fit from")[0]
    apart = [abs(float(value)) for value in re.findall(r"scikit-learn's (\S+) of it", agreed)]
    assert len(apart) == 5
    assert max(apart) <= 1e-4
    weak = re.findall(r"^from (.*?) +l2 (\S+): .*objective ([\d.]+), (\d+) passes", said, re.MULTILINE)
    assert len(weak) == 16
    assert len({way for way, *_ in weak}) == 4
    pinned = [float(objective) for _, l2, objective, _ in weak if l2 == "1e-02"]
    assert max(pinned) <= min(pinned) * 1.0001  # where the penalty is seen, all end in the same place
    peaks = [float(value) for value in re.findall(r"peak ([\d.]+) GB", said)]
    assert len(peaks) == 1
    assert max(peaks) < 0.14
