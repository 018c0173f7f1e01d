"""Who is put into a detector: encoders as the user names them, and random ones beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmlp.encoders import Encoder
from slmlp.encoders.sources import open_encoder, open_untrained
from slmlp.errors import SlmlpError
from slmlp.job import Job
from slmlp.ledger import Subject, slug
from slmlp.run import Run

RANDOM = {"random": "random-init", "random-frozen": "random-frozen"}  # control -> its name in results
NAMED = re.compile(r"([\w. +-]+)=(.+)")  # NAME=ENCODER


@dataclass(frozen=True)
class Entrant:
    """One encoder, to be put into a detector."""

    name: str  # its method in tables; encoders of one name are its seeds
    run: str  # its name in the results file
    source: str
    seed: int = 0  # of its pretraining, or of its random weights
    role: str = "final"
    base_lr: float | None = None
    labels: str = "class"
    random: bool = False  # the network of ``source`` with random weights
    freeze: bool = False  # this one's backbone stays as it is, whatever the settings say

    def open(self) -> Encoder:
        """Return the encoder; a random one still needs BatchNorm statistics where they stay as they are."""
        return (open_untrained if self.random else open_encoder)(self.source, seed=self.seed)

    def subject(self, encoder: Encoder, epoch: int | None = None) -> Subject:
        """Return what all lines of this encoder share."""
        role = self.role if epoch is None else "curve"
        return Subject(self.run, self.name, encoder.spec.name, self.seed, role, epoch, self.base_lr, self.labels)


def entrants(words: Sequence[str], controls: Sequence[str]) -> tuple[Entrant, ...]:
    """Return the encoders that ``words`` name, then the controls: one for every network and seed among them."""
    if not words:
        raise SlmlpError("slmlp detect needs an encoder (a run's folder, timm:NAME, torchvision:NAME ...), then DATA")
    found = [_entrant(word) for word in words]
    for attribute, what in (("run", "name"), ("key", "name and seed")):
        seen: dict[object, Entrant] = {}
        for one in found:
            key = slug(one.run) if attribute == "run" else (one.name, one.seed)
            if key in seen:
                raise SlmlpError(
                    f"{seen[key].source} and {one.source} have one {what} ({one.run}): give them names of "
                    f"their own, as first={seen[key].source} second={one.source}"
                )
            seen[key] = one
    return (*found, *_controls(found, controls))


def _entrant(word: str) -> Entrant:
    match = NAMED.fullmatch(word)
    name, source = (match[1], match[2]) if match and not Path(word).exists() else (None, word)
    path = Path(source)
    if not (path / "config.json").exists():
        shown = name or (path.stem if path.exists() else source)
        return Entrant(shown, shown, source)
    job = Job.from_json(Run(path).config["job"], str(path / "config.json"))
    shown = name or job.method
    run = f"{shown}-seed{job.seed}" if name else path.resolve().name
    return Entrant(shown, run, source, job.seed, "final", job.training.base_lr, job.labels)


def _controls(found: Sequence[Entrant], controls: Sequence[str]) -> list[Entrant]:
    if not controls:
        return []
    networks: dict[tuple[str, str, str], dict[int, Entrant]] = {}
    for one in found:
        encoder = one.open()
        key = (encoder.spec.name, encoder.spec.stem, encoder.preprocess.id)
        networks.setdefault(key, {}).setdefault(one.seed, one)
    made = []
    for number, ((network, _, _), by_seed) in enumerate(networks.items(), start=1):
        for control in controls:
            name = RANDOM[control] + ("" if len(networks) == 1 else f":{network} {number}")
            for seed, like in by_seed.items():
                run = f"{name}-seed{seed}" if len(by_seed) > 1 else name
                made.append(
                    dataclasses.replace(
                        like, name=name, run=run, role="baseline", base_lr=None, labels="class", random=True,
                        freeze=control == "random-frozen",
                    )
                )  # fmt: skip
    return made
