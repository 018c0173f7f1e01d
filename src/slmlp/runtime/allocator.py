"""Keep freed memory for the next step instead of returning it to the system."""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of glibc's malloc.h, and their numbers
KEPT = 2**31 - 1  # bytes; mallopt takes a C int
LARGEST = 2**30  # a block above this is mapped for itself, and returned at once
STRIDE = 2**26  # the heap grows in pieces of this


def keep() -> bool:
    """Make glibc keep up to 2 GB of freed memory; return whether that worked.

    Every step frees its activations and views and allocates as much again. By default glibc returns blocks of some
    megabytes to the system, and the kernel clears the pages it gets back. Without this, the training loop of resnet10
    (32 px, batch 128, torch 2.14.1, AMD EPYC; ``benchmarks/cpu_helpers.py``) takes more user and system CPU time, by
    medians with 95 % intervals: 1.036 times (1.028 to 1.060) on one thread, and measured again 1.026 (0.998 to 1.043);
    1.079 (1.035 to 1.143) on two, and again 1.027 (0.983 to 1.072), other work keeping the machine busy.

    Peak memory hardly changes. Nothing is done with another C library, or if the environment has ``MALLOC_*`` or
    ``GLIBC_TUNABLES``.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not hasattr(library, "gnu_get_libc_version"):  # others may have a mallopt of another meaning
        return False
    mallopt = library.mallopt
    results = [mallopt(MMAP_THRESHOLD, LARGEST), mallopt(TRIM_THRESHOLD, KEPT), mallopt(TOP_PAD, STRIDE)]
    return all(results)
