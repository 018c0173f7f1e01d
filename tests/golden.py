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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as conftest.py, before NumPy and torch are loaded

import numpy as np
import torch

import golden_parts as of
from golden_parts import Numbers

# part -> (what computes it in an empty folder, the relative and absolute deviation that another CPU may cause)
PARTS: dict[str, tuple[Callable[[Path], Numbers], float, float]] = {
    "study": (of.study, 1e-3, 1e-3),
    "methods": (of.methods, 1e-9, 1e-12),
    "suite": (of.suite, 1e-3, 1e-3),
    "several labels": (of.several_labels, 1e-3, 1e-3),
    "detection": (of.detect, 1e-3, 1e-3),
    "detection statistics": (of.detection_statistics, 1e-9, 1e-12),
    "loop": (of.loop, 1e-3, 1e-3),
    "statistics": (of.statistics, 1e-9, 1e-12),
}
FILE = Path(__file__).with_name("golden.json")


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
        numbers = PARTS[part][0](folder)
    return {key: [None if v is None else float(v) for v in values] for key, values in numbers.items()}


def load() -> dict:
    """Return ``machine`` and ``parts`` of the file."""
    return json.loads(FILE.read_text())


def deviations(found: Numbers, expected: Numbers) -> list[tuple[float, float, str]]:
    """Return (absolute deviation, size, where) of each number, the largest first; infinite where it cannot be held."""
    all_: list[tuple[float, float, str]] = []
    for key in found.keys() | expected.keys():
        new, old = found.get(key), expected.get(key)
        if new is None or old is None or len(new) != len(old):
            all_.append((math.inf, 0.0, f"{key}: {new} in place of {old}"))
            continue
        for i, (a, b) in enumerate(zip(new, old, strict=True)):
            if a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b)):
                all_.append((0.0, abs(b or 0.0), key))
            else:
                gap = math.inf if a is None or b is None else abs(a - b)
                gap = math.inf if math.isnan(gap) else gap
                all_.append((gap, abs(b or 0.0), f"{key} [{i}]: {a!r} in place of {b!r}"))
    return sorted(all_, reverse=True)


def beyond(part: str, found: Numbers, expected: Numbers, where: str) -> list[str]:
    """Return what deviates by more than may be: on the machine that wrote the file nothing but the last digits."""
    relative, absolute = PARTS[part][1:] if where != machine() else (1e-9, 1e-12)
    return [words for gap, size, words in deviations(found, expected) if not gap <= absolute + relative * size]


def main(words: list[str]) -> int:
    torch.set_num_threads(1)
    write, asked = "--write" in words, [w for w in words if w != "--write"] or list(PARTS)
    held = load() if FILE.exists() else {"machine": "", "parts": {}}
    rows, failed = [], False
    for part in asked:
        with tempfile.TemporaryDirectory() as folder:
            found = compute(part, Path(folder))
        expected = held["parts"].get(part, {})
        gap, size, where = deviations(found, expected)[0]
        wrong = beyond(part, found, expected, held["machine"])
        failed = failed or bool(wrong)
        count = sum(map(len, found.values()))
        rows.append(f"{part}: {count} numbers, exact: {'yes' if gap == 0 else 'no'}, beyond tolerance: {len(wrong)}")
        if gap:
            rows.append(f"  largest deviation {gap:.3g} of a number of size {size:.3g}: {where}")
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
