"""One run of a study in a process of its own, its task as JSON on stdin.

Small encoders leave most of a machine idle when one run is spread over all cores, so a study trains several runs side
by side, each on its share of the threads. A run's result does not depend on what runs beside it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.errors import SlmlpError


@dataclass(frozen=True)
class Task:
    """One run to do: a rate to try (``grid``) or a seed to finish (``final``)."""

    kind: str
    spec: str
    rate: float
    seed: int

    @property
    def words(self) -> str:
        """The task in a line of progress."""
        return f"{self.spec} at rate {self.rate:g}" + (f", seed {self.seed}" if self.kind == "final" else "")


def perform(source: str, folder: Path, cfg: config.Study, task: Task) -> None:
    """Train and evaluate one run; its numbers are in the study's results file afterwards."""
    import torch

    from slmlp.studies import context, rates
    from slmlp.studies.specs import parse

    if cfg.training.threads:
        torch.set_num_threads(cfg.training.threads)
    opened = context.open_study(source, folder, cfg, quiet=True)
    if task.kind == "grid":
        rates.train_and_score(opened, parse(task.spec), task.rate)
    else:
        opened.finish(parse(task.spec), task.rate, task.seed)


def main() -> int:
    """Do the task on stdin; an error goes to stdout as one line of JSON."""
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        cfg = config.from_dict(config.Study, asked["study"])
        perform(asked["source"], Path(asked["folder"]), cfg, Task(**asked["task"]))
    except SlmlpError as error:
        print(json.dumps({"error": str(error)}))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
