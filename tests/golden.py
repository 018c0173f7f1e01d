"""Numbers that no change of structure may move: kept in golden.json, checked by test_golden.py.

``python tests/golden.py [PART ...]`` computes them and prints the largest deviation of each part from golden.json and
whether it is exact; with ``--write`` it also writes them there. When a module, a flag or a field of the package gets
another name, golden_parts.py is what to change; golden.json stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as conftest.py, before NumPy and torch are loaded

import numpy as np
import torch

import golden_parts as of
from golden_parts import Numbers

# part -> what computes it in an empty folder
PARTS: dict[str, Callable[[Path], Numbers]] = {
    "study": of.study,
    "methods": of.methods,
    "suite": of.suite,
    "several labels": of.several_labels,
    "detection": of.detect,
    "detection statistics": of.detection_statistics,
    "loop": of.loop,
    "statistics": of.statistics,
}
FLOAT64 = ("methods", "detection statistics", "statistics")
SAME = 1e-9  # relative deviation of what is the same number
OTHER_CPU = 1e-3  # and of float32 on another CPU than that of the file
FILE = Path(__file__).with_name("golden.json")


class Deviation(NamedTuple):
    """Of one number from the one that is kept."""

    gap: float  # absolute
    size: float  # of the number that is kept
    key: str
    index: int
    words: str


def machine() -> str:
    """Return what decides how floats are rounded: the CPU, what is used of it, and the versions of the libraries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    used = torch.backends.cpu.get_cpu_capability()
    return f"{cpu}, {used}, torch {torch.__version__}, numpy {np.__version__}"


def compute(part: str, folder: Path) -> Numbers:
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        numbers = PARTS[part](folder)
    return {key: [None if v is None else float(v) for v in values] for key, values in numbers.items()}


def load() -> dict:
    """Return ``machine`` and ``parts`` of the file."""
    return json.loads(FILE.read_text())


def deviations(found: Numbers, expected: Numbers) -> list[Deviation]:
    """Return the deviation of every expected number, the largest first; infinite where one is missing or None.

    Numbers that are new, as those of a method that was added, are not compared.
    """
    all_: list[Deviation] = []
    for key in expected:
        new, old = found.get(key), expected.get(key)
        if new is None or old is None or len(new) != len(old):
            all_.append(Deviation(math.inf, 0.0, key, 0, f"{key}: {new} in place of {old}"))
            continue
        for i, (a, b) in enumerate(zip(new, old, strict=True)):
            gap = 0.0 if a == b else math.inf if a is None or b is None else abs(a - b)
            gap = math.inf if math.isnan(gap) else gap
            all_.append(Deviation(gap, abs(b or 0.0), key, i, f"{key} [{i}]: {a!r} in place of {b!r}"))
    return sorted(all_, key=lambda one: one.gap, reverse=True)


def beyond(part: str, found: Numbers, expected: Numbers, where: str) -> list[str]:
    """Return what deviates by more than may be from numbers that were written on the machine ``where``.

    On that machine, and of float64 everywhere, nothing but the last digits. Another CPU rounds float32 otherwise, and
    training multiplies that: there all keys must be the same, but of the values only those are held that hardly depend
    on steps of training (the first losses, the rates, and what untrained encoders reach).
    """
    here = part in FLOAT64 or where == machine()
    limit = SAME if here else OTHER_CPU
    return [
        d.words
        for d in deviations(found, expected)
        if d.gap > limit * (d.size if here else 1 + d.size) and (here or portable(part, d))
    ]


def portable(part: str, d: Deviation) -> bool:
    """Return whether a number hardly depends on steps of training, or is not there."""
    untrained = part == "several labels" or " baseline " in d.key or d.key.endswith(" rate")
    return untrained or math.isinf(d.gap) or ("loss" in d.key and d.index < 2)


def main(words: list[str]) -> int:
    torch.set_num_threads(1)
    write, asked = "--write" in words, [w for w in words if w != "--write"] or list(PARTS)
    held = load() if FILE.exists() else {"machine": "", "parts": {}}
    rows, failed = [], False
    for part in asked:
        with tempfile.TemporaryDirectory() as folder:
            found = compute(part, Path(folder))
        expected = held["parts"].get(part, {})
        most = deviations(found, expected)[0]
        wrong = beyond(part, found, expected, held["machine"])
        failed = failed or bool(wrong)
        count = sum(map(len, found.values()))
        rows.append(f"{part}: {count} numbers, exact: {'no' if most.gap else 'yes'}, beyond tolerance: {len(wrong)}")
        if most.gap:
            rows.append(f"  largest deviation {most.gap:.3g}: {most.words}")
        if write:
            held["parts"][part] = found
    print("\n".join(rows))
    if write:
        held["machine"] = machine()
        lines = [
            f"  {json.dumps(part)}: {{\n    "
            + ",\n    ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(numbers.items()))
            + "\n  }"
            for part, numbers in held["parts"].items()
        ]
        FILE.write_text(f'{{"machine": {json.dumps(held["machine"])}, "parts": {{\n' + ",\n".join(lines) + "\n}}\n")
    return int(failed and not write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
