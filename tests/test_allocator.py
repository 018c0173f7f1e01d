"""Freed memory is kept for the next step: the same blocks cost no new pages, unless the environment decides."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WORK = """
import resource, sys
import numpy as np
from slmlp import config
from slmlp.runtime import device
from slmlp.runtime import allocator
from slmlp.encoders import build
print(allocator.keep() if sys.argv[1] == "keep" else None)
if sys.argv[1] == "choose":
    device.choose(build("resnet10", 16, "small"), "cpu")
def step():
    for _ in range(3):
        blocks = [np.ones(1_000_000) for _ in range(6)]
        del blocks
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[str, int]:
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, how], env={**theirs, **environment}, capture_output=True, text=True, check=True
    )
    told, count = done.stdout.split()
    return told, int(count)


def test_blocks_come_back_without_new_pages():
    told, kept = faults("keep")
    # another C library is left alone, and says so
    assert told == str(sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc")
    if told == "True":
        plain = faults("not")[1]
        assert plain > 50  # 48 MB three times, in pages of 4 kB or of up to 2 MB
        assert kept < plain / 10
        assert faults("choose")[1] < plain / 10  # what every computation on the CPU goes through


def test_the_environment_decides():
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        value = "1" if name == "MALLOC_ARENA_MAX" else "glibc.malloc.arena_max=1"
        assert faults("keep", **{name: value})[0] == "False"
