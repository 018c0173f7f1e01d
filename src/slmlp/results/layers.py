"""Accuracy by layer of one encoder, and the share of its best layer's accuracy that it keeps at its output.

What an encoder loses between its best layer and its output on classes that it was not trained on is the length of its
tunnel (Masarczyk et al. 2023, arXiv 2305.19753; Harun et al. 2024, arXiv 2405.15018).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from slmlp.config.names import display
from slmlp.results.records import Result
from slmlp.results.sentences import points

UNSEEN, SOURCE = "unseen-layerwise", "source-layerwise"
OUTPUT, BEHIND = "output", "projector."


@dataclass(frozen=True)
class Layers:
    """The accuracies of one encoder, layer -> line, from the stem to behind its projector."""

    lines: Mapping[str, Result]

    @property
    def best(self) -> str:
        """The layer of the encoder itself with the highest accuracy; of equal ones the last."""
        return max((v.value, i, name) for i, (name, v) in enumerate(self.lines.items()) if not behind(name))[2]

    @property
    def kept(self) -> float:
        """The accuracy at the output over that of the best layer, 0 to 1."""
        return self.lines[OUTPUT].value / self.lines[self.best].value if self.lines[self.best].value else 1.0

    @property
    def lost(self) -> float:
        """The accuracy of the best layer minus that at the output, 0 to 1."""
        return self.lines[self.best].value - self.lines[OUTPUT].value


def behind(layer: str) -> bool:
    """Return whether a layer is one of the projector's."""
    return layer.startswith(BEHIND)


def of_runs(rows: Sequence[Result], task: str = UNSEEN) -> dict[str, dict[int, Layers]]:
    """Return method -> seed -> accuracies by layer, of final encoders and baselines."""
    found: dict[str, dict[int, dict[str, Result]]] = {}
    for row in rows:
        if (row.task, row.metric) == (task, "accuracy") and row.role in ("final", "baseline"):
            found.setdefault(row.method, {}).setdefault(row.seed, {})[row.layer] = row
    return {
        method: {seed: Layers(lines) for seed, lines in by_seed.items() if OUTPUT in lines}
        for method, by_seed in found.items()
    }


def lost_by_two(rows: Sequence[Result], a: str, b: str) -> str | None:
    """Return what two encoders lose in their last layers, in words, means over seeds.

    None where one was not probed, and where ``a`` loses nothing: its output is its best layer.
    """
    depths = of_runs(rows)
    if not depths.get(a) or not depths.get(b):
        return None
    of_a, of_b = (points(100 * fmean(one.lost for one in depths[name].values())) for name in (a, b))
    if float(of_a) == 0:
        return None
    best = " or ".join(dict.fromkeys(one.best for one in depths[a].values()))
    inner = [name for name in next(iter(depths[a].values())).lines if name != OUTPUT and not behind(name)]
    less = "nothing" if float(of_b) == 0 else f"{of_b} points"
    stage = re.sub(r"(?<=[a-z])(?=[0-9])", " ", best)
    return (
        f"accuracy by layer shows where: the encoder of {display(a)} tells unseen classes apart best at {stage} of "
        f"{len(inner)}, and {of_a} points worse at its output; that of {display(b)} loses {less} there"
    )
