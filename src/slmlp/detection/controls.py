"""Control contenders of a detection comparison: the same networks with random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slmlp.experiments.contenders import RANDOM, Contender

NAMES = {"random": RANDOM, "random-frozen": "random-frozen"}  # control -> its name in results


def controls_of(contenders: Sequence[Contender], controls: Sequence[str]) -> tuple[Contender, ...]:
    """Return each of the named controls for every network and seed among the contenders."""
    if not controls:
        return ()
    networks: dict[tuple[str, str, str], dict[int, Contender]] = {}
    for contender in contenders:
        encoder = contender.open()
        key = (encoder.spec.name, encoder.spec.stem, encoder.preprocess.id)
        networks.setdefault(key, {}).setdefault(contender.seed, contender)
    result = []
    for number, ((network, _, _), by_seed) in enumerate(networks.items(), start=1):
        for control in controls:
            name = NAMES[control] + ("" if len(networks) == 1 else f":{network} {number}")
            for seed, contender in by_seed.items():
                run = f"{name}-seed{seed}" if len(by_seed) > 1 else name
                result.append(
                    dataclasses.replace(
                        contender, name=name, run=run, role="baseline", base_lr=None, labels="class", untrained=True,
                        freeze=control == "random-frozen",
                    )
                )  # fmt: skip
    return tuple(result)
