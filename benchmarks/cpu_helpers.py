"""Gain of the allocator (runtime/allocator.py): ``python benchmarks/cpu_helpers.py [--rounds 15] [--threads 1]``.

The training loop of benchmarks/training.py runs with the helpers and without each, in processes of their own that take
turns; who goes first changes every round. A gain is time without a helper by time with it, of the same round: above 1,
the helper is worth its lines. Printed are the median over rounds with its exact 95 % interval (order statistics), for
wall time and for CPU time, user and user with system, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from unittest import mock

import scipy.stats
import torch

import training
import turns
from slmlp import config
from slmlp.encoders import build
from slmlp.runtime import allocator, device

ALL = "all"
LEFT_OUT = {"allocator": (allocator, "keep")}
CLOCKS = ("wall", "user CPU", "user and system CPU")


def main() -> None:
    """Take turns and print a line for each helper and clock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8, help="training steps in a turn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--encoder", default="resnet10")
    parser.add_argument("--side", choices=(ALL, *LEFT_OUT), help=argparse.SUPPRESS)  # take turns as one of them
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.side:
        _take_turns(given)
        return
    seconds: dict[str, list[list[float]]] = {name: [] for name in (ALL, *LEFT_OUT)}
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(turns.Side(__file__, name)) for name in seconds}
        print(sides[ALL].says)
        for side in sides.values():
            side.ask(["run", 3])  # warm-up
        for turn in range(given.rounds):
            for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
                seconds[name].append(side.ask(["run", given.steps]))
    for name in LEFT_OUT:
        for k, clock in enumerate(CLOCKS):
            pairs = zip(seconds[name], seconds[ALL], strict=True)
            print(f"{name:12} {clock:20} {gain([without[k] / with_[k] for without, with_ in pairs])}")


def gain(ratios: Sequence[float]) -> str:
    """Return the median of the rounds' ratios with its 95 % interval, as text."""
    interval = scipy.stats.quantile_test(ratios, p=0.5).confidence_interval(0.95)
    return f"{statistics.median(ratios):.3f} ({interval.low:.3f} to {interval.high:.3f}, {len(ratios)} rounds)"


def _take_turns(given: argparse.Namespace) -> None:
    """Be a side: the loop with all helpers, or with one left out."""
    with contextlib.ExitStack() as stack:
        if given.side != ALL:
            stack.enter_context(mock.patch.object(*LEFT_OUT[given.side], return_value=0))
        cfg = config.Training(
            encoder=given.encoder, image_size=training.SIZE, batch_size=given.batch_size, epochs=1000, base_lr=0.05,
            augment="moco-v2",
        )  # fmt: skip
        compute = device.choose(build(cfg.network, training.SIZE, "small"), "cpu", cfg.precision)
        loop = training.loop(training.load_images(), cfg, compute)
        says = f"torch {torch.__version__}, {device.describe()['cpu']}, {given.threads} threads, {compute.precision}, "
        says += f"{cfg.encoder}, {training.SIZE} px, batch {cfg.batch_size}"
        turns.take(says, {"run": lambda steps: _timed(lambda: loop(steps))})


def _timed(run: Callable[[], object]) -> list[float]:
    """Return the seconds of a run by each clock; CPU time is that of all threads."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return [wall, user, user + system]


if __name__ == "__main__":
    main()
