"""Seconds to ``--help`` of every command and to the first line of progress: ``python benchmarks/startup.py``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slmlp.cli import COMMANDS

ROUNDS = 5


def main() -> None:
    """Print a line per command, then the first line of progress of a run on the embedded images."""
    words = [sys.executable, "-m", "slmlp"]
    for command in COMMANDS:
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run([*words, command, "--help"], capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        spread = f"median of {ROUNDS}, {max(times):.2f} at most"
        print(f"slmlp {command} --help: {statistics.median(times):.2f} s ({spread}); aim 0.5")
    with tempfile.TemporaryDirectory() as folder:
        run = ["pretrain", "emoji", "--encoder", "resnet10", "--image-size", "32", "--out", str(Path(folder) / "run")]
        began = time.perf_counter()
        process = subprocess.Popen([*words, *run], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            print(f"after {time.perf_counter() - began:.1f} s: {line.strip()}")
            if "images/s" in line:
                break
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
