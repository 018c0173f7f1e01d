"""Two checkouts in turn, to see that a change costs nothing: ``python benchmarks/checkouts.py OLD NEW [--rounds 7]``.

- ``training``: the training loop of each checkout's benchmarks/training.py (its contender ``loop``), images per second;
- ``probe``: the sweep of each checkout's benchmarks/probe.py (its contender ``ours``), seconds;
- ``reading``: ``data.load`` of a folder of 100,000 images in 1,000 class folders, seconds.

Each turn runs in a process of one checkout; who goes first changes every round. Printed are medians and the ratio
new to old, with the lowest and highest of the rounds; above 1, NEW is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import probe
import turns


def main() -> None:
    """Run both parts and print their lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="training steps in a turn")
    parser.add_argument("--files", type=int, default=100_000, help="images in the folder that is read")
    parser.add_argument("--only", choices=["training", "probe", "reading"], help="one part alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sweep", type=int, nargs=3, default=[8000, 2048, 100], metavar=("IMAGES", "FEATURES", "CLS"))
    given = parser.parse_args()
    checkouts = [given.old.resolve(), given.new.resolve()]
    if given.only in (None, "training"):
        _print("training", "images/s", _training(checkouts, given), faster=1)
    if given.only in (None, "probe"):
        _print("probe", "s", _probe(checkouts, given), faster=-1)
    if given.only in (None, "reading"):
        _print("reading", "s", _reading(checkouts, given), faster=-1)


def _training(checkouts: Sequence[Path], given: argparse.Namespace) -> list[list[float]]:
    """Return the speeds of each checkout's training loop, a value per round."""
    speeds: list[list[float]] = [[] for _ in checkouts]
    with contextlib.ExitStack() as stack:
        sides = []
        for checkout in checkouts:
            os.environ["PYTHONPATH"] = str(checkout / "src")
            script, words = str(checkout / "benchmarks" / "training.py"), ["--threads", str(given.threads)]
            sides.append(stack.enter_context(turns.Side(script, "loop", words)))
        for side in sides:
            side.run("run", 3)  # warm-up
        for i in range(given.rounds):
            for k in (0, 1) if i % 2 else (1, 0):
                speeds[k].append(sides[k].run("run", given.steps))
    return speeds


def _probe(checkouts: Sequence[Path], given: argparse.Namespace) -> list[list[float]]:
    """Return the seconds of each checkout's sweep of the probe, a value per round."""
    seconds: list[list[float]] = [[] for _ in checkouts]
    with tempfile.TemporaryDirectory() as folder:
        images, features, classes = given.sweep
        probe.make(Path(folder), images * 5 // 4, features, classes)
        settings = {
            "who": "ours", "folder": folder, "threads": given.threads, "penalties": probe.SWEEP, "tolerance": 1e-4,
            "choose": True, "iterations": 100,
        }  # fmt: skip
        for i in range(given.rounds):
            for k in (0, 1) if i % 2 else (1, 0):
                environment = {**os.environ, "PYTHONPATH": str(checkouts[k] / "src")}
                environment.update(dict.fromkeys(probe.THREADS, str(given.threads)))
                command = [
                    sys.executable,
                    str(checkouts[k] / "benchmarks" / "probe.py"),
                    "--turn",
                    json.dumps(settings),
                ]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
                seconds[k].append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    return seconds


READ = """
import sys, time
from slmlp import data
began = time.perf_counter()
images = data.load(sys.argv[1])
print(len(images), time.perf_counter() - began)
"""


def _reading(checkouts: Sequence[Path], given: argparse.Namespace) -> list[list[float]]:
    """Return the seconds in which each checkout reads a folder of small images, a value per round."""
    seconds: list[list[float]] = [[] for _ in checkouts]
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        for i in range(given.files):
            place = Path(folder, f"class {i % 1000:03d}")
            place.mkdir(exist_ok=True)
            (place / f"{i}.png").write_bytes(buffer.getvalue() + bytes(i % 50))
        for i in range(-1, given.rounds):  # the first turn warms the system's cache
            for k in (0, 1) if i % 2 else (1, 0):
                environment = {**os.environ, "PYTHONPATH": str(checkouts[k] / "src")}
                done = subprocess.run(
                    [sys.executable, "-c", READ, folder], stdout=subprocess.PIPE, text=True, env=environment, check=True
                )
                count, taken = done.stdout.split()
                assert int(count) == given.files
                if i >= 0:
                    seconds[k].append(float(taken))
    return seconds


def _print(name: str, unit: str, values: Sequence[Sequence[float]], faster: int) -> None:
    old, new = values
    ratios = [(b / a) ** faster for a, b in zip(old, new, strict=True)]
    print(
        f"{name:9} old {statistics.median(old):.2f} {unit}, new {statistics.median(new):.2f} {unit}, "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds)",
        flush=True,
    )


if __name__ == "__main__":
    main()
