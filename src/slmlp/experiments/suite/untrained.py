"""The untrained encoders of a suite, one per network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.sources import encoder_kind
from slmlp.experiments.contenders import RANDOM, Contender


def untrained(found: Sequence[Contender], overrides: PreprocessFlags) -> tuple[Contender, ...]:
    """Return one encoder with random weights for every network among the contenders that can be built without.

    Networks of one architecture and preprocessing share it. ONNX files and functions have no untrained form.
    """
    rows: dict[tuple[str, str, str], Contender] = {}
    for contender in found:
        if encoder_kind(contender.source) in ("onnx", "function"):
            continue
        encoder = contender.open(overrides)
        key = (encoder.spec.name, encoder.spec.stem, encoder.preprocess.id)
        rows.setdefault(key, Contender(RANDOM, RANDOM, contender.source, role="baseline", untrained=True))
    if len(rows) < 2:
        return tuple(rows.values())
    named = []
    for number, ((name, _, _), row) in enumerate(rows.items(), start=1):
        same = sum(other == name for other, _, _ in rows) > 1
        full = f"{RANDOM}:{name}" + (f" {number}" if same else "")
        named.append(dataclasses.replace(row, name=full, run=full))
    return tuple(named)
