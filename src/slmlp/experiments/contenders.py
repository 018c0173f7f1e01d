"""Contenders of a comparison, as the user names them: a source each, or NAME=SOURCE."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.names import named
from slmlp.config.sources import encoder_kind
from slmlp.encoders import Encoder
from slmlp.encoders.projector_file import load_projector
from slmlp.encoders.sources import open_encoder, open_untrained
from slmlp.results.store import Subject, slug
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import short_name
from slmlp.train.job import Job
from slmlp.train.run import Run

RANDOM = "random-init"


@dataclass(frozen=True)
class Contender:
    """One encoder of a suite or of a detection comparison."""

    name: str  # its method in tables; encoders of one name are its seeds
    run: str  # its name in the results file, and in those of its predictions
    source: str
    seed: int = 0  # of its pretraining, or of its random weights
    role: str = "final"
    labels: str = "class"
    base_lr: float | None = None
    untrained: bool = False  # the network of ``source`` with random weights
    freeze: bool = False  # in a detector: its backbone stays as it is, whatever the settings say

    def open(self, overrides: PreprocessFlags | None = None) -> Encoder:
        """Return the encoder; an untrained one still needs BatchNorm statistics (``calibrate_norms``)."""
        opener = open_untrained if self.untrained else open_encoder
        return opener(self.source, overrides=overrides, seed=self.seed)

    def projector(self, encoder: Encoder) -> nn.Module | None:
        """Return the projector that a run has kept behind its encoder, or None."""
        return None if self.untrained else load_projector(Path(self.source), encoder.dim)

    def subject(self, encoder: Encoder, epoch: int | None = None) -> Subject:
        """Return what all lines of this encoder share; those of an epoch are a curve's."""
        role = self.role if epoch is None else "curve"
        return Subject(self.run, self.name, encoder.spec.name, self.seed, role, epoch, self.base_lr, self.labels)


def contenders(words: Sequence[str]) -> tuple[Contender, ...]:
    """Return the encoders that ``words`` name; runs of one method, or of one contender of a study, are its seeds.

    Raises SlmlpError for two encoders of one name and seed, and for two whose predictions would bear one file name.
    """
    opened = [_contender_of_word(word) for word in words]
    seen: dict[tuple[str, int], Contender] = {}
    files: dict[str, Contender] = {}
    for contender in opened:
        earlier = seen.setdefault((contender.name, contender.seed), contender)
        what = f"are both {contender.name} with seed {contender.seed}"
        if earlier is contender:
            earlier, what = files.setdefault(slug(contender.run), contender), f"are both called {contender.run}"
        if earlier is not contender:
            raise SlmlpError(
                f"{earlier.source} and {contender.source} {what}: give them names of their own, as "
                f"first={earlier.source} second={contender.source}"
            )
    return tuple(opened)


def _contender_of_word(word: str) -> Contender:
    name, source = (None, word) if Path(word).exists() else named(word)
    if encoder_kind(source) != "run":
        title = name or _without_folders(source)
        return Contender(title, title, source)
    path = Path(source)
    if not (path / "config.json").exists():  # an encoder file
        return Contender(name or path.stem, name or path.stem, source)
    job = Job.from_json(Run(path).config["job"], str(path / "config.json"))
    title = name or _contender(path.resolve()) or short_name(job.method)
    run = f"{title}-seed{job.seed}" if name else path.resolve().name
    return Contender(title, run, source, job.seed, "final", job.labels, job.training.rate)


def _contender(run: Path) -> str | None:
    """Return what the study that a run belongs to calls its contender: several may be of one method."""
    from slmlp.experiments.study.specs import contender_of  # brings all that a study needs

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, SlmlpError):
        about = json_files.read(run.parents[1] / "study.json", dict[str, Any])
        return contender_of(run.name, about["contenders"])
    return None


def _without_folders(source: str) -> str:
    """Return ``timm:NAME@a/b.safetensors`` as ``timm:NAME@b.safetensors``: a place on one machine is no name."""
    before, at, file = source.rpartition("@")
    place, mark, part = (file, "", "") if Path(file).is_file() else file.partition("#")
    return f"{before}{at}{Path(place).name}{mark}{part}" if Path(place).is_file() else source
