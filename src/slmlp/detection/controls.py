"""What encoders are held against in a detector: random ones of the same networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slmlp.experiments.contenders import RANDOM, Contender

NAMES = {"random": RANDOM, "random-frozen": "random-frozen"}  # control -> its name in results


def controls_of(found: Sequence[Contender], controls: Sequence[str]) -> tuple[Contender, ...]:
    """Return the controls of a contest: one for every network and seed among the contenders."""
    if not controls:
        return ()
    networks: dict[tuple[str, str, str], dict[int, Contender]] = {}
    for one in found:
        encoder = one.open()
        key = (encoder.spec.name, encoder.spec.stem, encoder.preprocess.id)
        networks.setdefault(key, {}).setdefault(one.seed, one)
    made = []
    for number, ((network, _, _), by_seed) in enumerate(networks.items(), start=1):
        for control in controls:
            name = NAMES[control] + ("" if len(networks) == 1 else f":{network} {number}")
            for seed, like in by_seed.items():
                run = f"{name}-seed{seed}" if len(by_seed) > 1 else name
                made.append(
                    dataclasses.replace(
                        like, name=name, run=run, role="baseline", base_lr=None, labels="class", untrained=True,
                        freeze=control == "random-frozen",
                    )
                )  # fmt: skip
    return tuple(made)
