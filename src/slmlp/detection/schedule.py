"""Compute the learning rate of an update: Detectron2's schedule as a pure function."""

from __future__ import annotations

from slmlp import config

WARMUP_FROM = 0.001  # of the peak
MILESTONES = (2 / 3, 8 / 9)  # shares of training at which the rate is divided by 10: 60,000 and 80,000 of 90,000


def lr_at(step: int, total: int, cfg: config.Detection) -> float:
    """Return the rate of step 0..total-1: linear warm-up from a thousandth of the peak, then two drops to a tenth.

    >>> cfg = config.Detection()
    >>> [round(lr_at(step, 90_000, cfg), 6) for step in (0, 500, 1000, 59_999, 60_000, 80_000)]
    [2e-05, 0.01001, 0.02, 0.02, 0.002, 0.0002]
    """
    rate = cfg.peak_lr * 0.1 ** sum(step >= round(share * total) for share in MILESTONES)
    warmup = cfg.warmup_steps(total)
    if step < warmup:
        rate *= WARMUP_FROM + (1 - WARMUP_FROM) * step / warmup
    return rate
