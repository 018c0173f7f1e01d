"""Who takes part: encoders as the user names them, the seeds of one method together, and untrained ones beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders import Encoder, build
from slmlp.encoders.sources import kind, open_encoder
from slmlp.errors import SlmlpError
from slmlp.job import Job
from slmlp.ledger import Subject
from slmlp.run import Run
from slmlp.seeds import seeded

RANDOM = "random-init"
NAMED = re.compile(r"([\w. +-]+)=(.+)")  # NAME=ENCODER


@dataclass(frozen=True)
class Contestant:
    """One encoder of the suite."""

    name: str  # its method in tables; encoders of one name are its seeds
    run: str  # its name in the results file
    source: str
    seed: int = 0
    role: str = "final"
    labels: str = "class"
    base_lr: float | None = None
    untrained: bool = False  # the network of ``source`` with random weights

    def open(self, overrides: PreprocessFlags) -> Encoder:
        """Return the encoder; an untrained one still needs BatchNorm statistics (``features.calibrate_norms``)."""
        if not self.untrained:
            return open_encoder(self.source, overrides=overrides, seed=self.seed)
        where = kind(self.source)
        if where != "run":
            return open_encoder(f"{self.source.partition('@')[0]}@random", overrides=overrides, seed=self.seed)
        trained = open_encoder(self.source, overrides=overrides)
        with seeded(self.seed, "encoder"):
            encoder = build(trained.spec.name, trained.spec.image_size, trained.spec.stem)
        encoder.preprocess = trained.preprocess
        return encoder.eval()

    def subject(self, encoder: Encoder) -> Subject:
        """Return what all lines of this encoder share."""
        name = encoder.spec.name
        return Subject(self.run, self.name, name, self.seed, self.role, None, self.base_lr, self.labels)


def contestants(words: Sequence[str]) -> tuple[Contestant, ...]:
    """Return the encoders that ``words`` name: a source each, or NAME=SOURCE; runs of one method are its seeds.

    Raises SlmlpError for two encoders of one name and seed.
    """
    found: list[Contestant] = []
    for word in words:
        match = NAMED.fullmatch(word)
        name, source = (match[1], match[2]) if match and not Path(word).exists() else (None, word)
        found.append(_contestant(name, source))
    by_settings = {c.name for c in found}
    for name in by_settings:
        seeds = [c.seed for c in found if c.name == name]
        double = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if double:
            sources = [c.source for c in found if c.name == name and c.seed == double[0]]
            raise SlmlpError(
                f"{' and '.join(sources)} are both {name} with seed {double[0]}: give them names of their own, as "
                f"first={sources[0]} second={sources[1]}"
            )
    return tuple(found)


def _contestant(name: str | None, source: str) -> Contestant:
    if kind(source) != "run":
        shown = name or source
        return Contestant(shown, shown, source)
    path = Path(source)
    if not (path / "config.json").exists():  # an encoder file
        shown = name or path.stem
        return Contestant(shown, shown, source)
    job = Job.from_json(Run(path).config["job"], str(path / "config.json"))
    shown = name or job.method
    run = f"{shown}-seed{job.seed}" if name else path.resolve().name
    return Contestant(shown, run, source, job.seed, "final", job.labels, job.training.base_lr)


def untrained(found: Sequence[Contestant], overrides: PreprocessFlags) -> tuple[Contestant, ...]:
    """Return one encoder with random weights for every network among the contestants that can be built without.

    Networks of one architecture and preprocessing share it. ONNX files and functions have no untrained form.
    """
    rows: dict[tuple[str, str, str], Contestant] = {}
    for contestant in found:
        if kind(contestant.source) in ("onnx", "function"):
            continue
        encoder = contestant.open(overrides)
        key = (encoder.spec.name, encoder.spec.stem, encoder.preprocess.id)
        rows.setdefault(key, Contestant(RANDOM, RANDOM, contestant.source, role="baseline", untrained=True))
    if len(rows) < 2:
        return tuple(rows.values())
    named = []
    for number, ((name, _, _), row) in enumerate(rows.items(), start=1):
        same = sum(other == name for other, _, _ in rows) > 1
        full = f"{RANDOM}:{name}" + (f" {number}" if same else "")
        named.append(dataclasses.replace(row, name=full, run=full))
    return tuple(named)
