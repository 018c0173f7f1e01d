"""Features that the tests of the tasks share."""

from __future__ import annotations

import numpy as np

from slmlp.probes.features import Features


def blobs(
    n: int, d: int = 8, classes: int = 4, *, separation: float = 1.0, seed: int = 0, per_group: int = 1, start: int = 0
) -> Features:
    """Features of ``n`` images around class centres that every call shares; ids from ``start``, shuffled rows."""
    random = np.random.default_rng([seed, start])
    centres = np.random.default_rng(99).normal(size=(classes, d)) * separation
    y = (np.arange(n) // per_group) % classes
    x = (centres[y] + random.normal(size=(n, d))).astype(np.float32)
    ids = np.array([f"i{k + start:05d}" for k in range(n)])
    groups = ids if per_group == 1 else np.array([f"u{k // per_group + start:05d}" for k in range(n)])
    names = tuple(f"c{k}" for k in range(classes))
    return Features(x, y.astype(np.int64), names, ids, groups).select(random.permutation(n))
