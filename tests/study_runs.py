"""The study that several test files read, made once by a real second process, and what they ask of studies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from slmlp import cli
from slmlp.results import records
from slmlp.runtime import json_files

PROBE = "--probe.folds 3 --probe.l2 1e-3 1e-2 1e-1"
FLAGS = (
    "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 4 --augment weak --save-every 2 --seeds 2 "
    f"--rates 0.1 0.2 --split.by random --split.unseen-fraction 0.5 {PROBE}"
)


def slmlp(*words: object, **keywords: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slmlp", *(w for word in words for w in str(word).split(" "))]
    return subprocess.run(command, capture_output=True, text=True, check=False, **keywords)


def here(*words: object) -> int:
    """Run a command in this process, which saves the seconds in which another one starts; return its exit code."""
    return cli.main([w for word in words for w in str(word).split(" ")])


def task(folder: Path) -> dict:
    """Return the verdict on the held-out classes."""
    return json_files.read(folder / "verdict.json", dict)["tasks"]["unseen accuracy"]


def rows(folder: Path, **wanted: object) -> list[records.Result]:
    return [r for r in records.read(folder / "results.jsonl") if all(getattr(r, k) == v for k, v in wanted.items())]


def finished(shapes: Path, once: Callable[..., Path]) -> Path:
    """Return the folder of a study of two methods, rates and seeds on the drawn shapes."""

    def make(folder: Path) -> None:
        made = slmlp("study", shapes, FLAGS, "--out", folder)
        assert made.returncode == 0, made.stderr
        assert f"report: {folder / 'report.html'}" in made.stderr
        assert made.stdout.startswith("method\tdata\ttask")
        assert "chosen by source validation" in made.stderr

    return once("study", make)
