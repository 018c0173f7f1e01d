"""What a choice of l2 adds to a process of its own: ``python memory_alone.py FEATURES.npy CLASSES LIMIT_GB``.

Prints two numbers of bytes: what the choice added, and what an array of 256 MB added after it, which shows that the
thread sees memory at all. In the process of a test, memory that earlier tests have freed would be taken up unseen.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

from slmlp import config
from slmlp.probes.linear import choose_l2, fit

ARRAY = 32_000_000  # numbers of 8 bytes


class Peak(threading.Thread):
    """The most anonymous memory of this process while the thread ran, in bytes; mapped files do not count."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.looks, self.over = 0, 0, False

    @staticmethod
    def now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024

    def run(self):
        while not self.over:
            self.most = max(self.most, self.now())
            self.looks += 1
            time.sleep(0.001)

    def __enter__(self):
        self.before = self.now()
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join()


def main(file: str, classes: int, limit_gb: float) -> None:
    x = np.load(file, mmap_mode="r")
    y = np.arange(len(x)) % classes
    cfg = config.Probe(l2=(1.0, 0.1), tolerance=1e-3, memory_limit_gb=limit_gb)
    fit(x[:100], y[:100], classes, 1.0, tolerance=1e-3, max_iterations=5)  # libraries start their own memory
    with Peak() as peak:
        choose_l2(x, y, np.arange(len(x)).astype(np.str_), classes, cfg, ("test",))
    with Peak() as seen:
        there, looks = np.ones(ARRAY), seen.looks
        while seen.looks < looks + 2:  # on a busy machine the thread may have to wait for its turn
            time.sleep(0.001)
    assert there.all()
    print(peak.most - peak.before, seen.most - seen.before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
