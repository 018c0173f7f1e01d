"""Benchmark data sets under their published protocols.

``find`` lists what a folder of data sets holds, ``open_found`` opens one of them.
"""

from __future__ import annotations

from slmlp.data.published.entry import Draw, Entry
from slmlp.data.published.registry import ENTRIES, get, known
from slmlp.data.published.suite import TEST_SHARE, FoundDataset, find, missing, open_found

__all__ = [
    "ENTRIES",
    "TEST_SHARE",
    "Draw",
    "Entry",
    "FoundDataset",
    "find",
    "get",
    "known",
    "missing",
    "open_found",
]
