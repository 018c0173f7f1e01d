"""Shared fixtures: one thread (tiny models run faster so), and small real images drawn once."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
