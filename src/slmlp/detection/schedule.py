"""The learning rate of an update, as a pure function."""

from __future__ import annotations

from slmlp import config

WARMUP_FROM = 0.001  # of the peak
FALLS = (2 / 3, 8 / 9)  # shares of training after which the rate is a tenth: 60,000 and 80,000 of 90,000


def lr_at(step: int, total: int, cfg: config.Detection) -> float:
    """Return the rate of step 0..total-1: linear warm-up from a thousandth, then the peak, then a tenth twice.

    >>> cfg = config.Detection()
    >>> [round(lr_at(step, 90_000, cfg), 6) for step in (0, 500, 1000, 59_999, 60_000, 80_000)]
    [2e-05, 0.01001, 0.02, 0.02, 0.002, 0.0002]
    """
    rate = cfg.peak_lr * 0.1 ** sum(step >= round(share * total) for share in FALLS)
    warmup = cfg.warmup_steps(total)
    if step < warmup:
        rate *= WARMUP_FROM + (1 - WARMUP_FROM) * step / warmup
    return rate
