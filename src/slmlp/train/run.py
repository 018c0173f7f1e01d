"""A run's folder: settings (written before step 0), metrics, checkpoints, the finished encoder.

RUN/config.json            every setting resolved, versions, commit, device
RUN/command.yaml           the settings as --config takes them again
RUN/split.json             the class split it was trained under, where there is one
RUN/metrics.jsonl          one line every few steps
RUN/checkpoints/           the last two, all of the state
RUN/epochs/0010.safetensors  kept encoders (--save-every)
RUN/encoder.safetensors    the finished encoder, without projector
RUN/projector.safetensors  the projector, which no use of the encoder needs: for a look at the layers behind it
"""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train.log import LoggedStep

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit

KEPT_MINUTES = 5  # of training, less than which a corrected command may remove
STALL = 10  # times as long as the median step: the run was stopped from outside, not slow


class Resolved(TypedDict):
    """What a run's settings came to on its data and machine; further fields are for readers."""

    image_size: int
    method_settings: dict[str, Any]
    training_images: int
    classes: int
    steps: int
    peak_lr: float
    passes_per_image: float
    data_hash: str
    device: str
    precision: str


class SavedTraining(TypedDict):
    """What is read of a job's training before the rest is; ``Job.from_json`` reads the rest."""

    batch_size: int
    epochs: int


class SavedJob(TypedDict):
    """A job as ``Job.to_json`` writes it."""

    data: str
    method: str
    settings: dict[str, Any]
    training: SavedTraining
    options: dict[str, Any]
    labels: str
    seed: int
    validation_fraction: float
    validation_seed: int
    recipe: str | None
    plugin: NotRequired[config.Source | None]


class RunConfig(TypedDict):
    """The content of config.json."""

    schema: int
    identity: dict[str, str | None]
    job: SavedJob
    resolved: Resolved
    pixels: NotRequired[str]  # the mark of the decoded images, where they are cached
    class_names: list[str]
    versions: dict[str, str]
    commit: str | None
    machine: dict[str, Any]
    started: str


@dataclass(frozen=True)
class Run:
    """A run by its folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config(self) -> RunConfig:
        """The resolved settings."""
        file = self.path / "config.json"
        if not file.exists():
            raise SlmlpError(f"{self.path} holds no run (no config.json); expected a folder made by slmlp pretrain")
        fix = "restore it, or remove the run and train it again"
        content = json_files.read(file, dict[str, Any], fix)
        if not content.keys() & {"schema", "job", "resolved"}:
            raise SlmlpError(
                f"{self.path} is no run of slmlp: its config.json is another program's; weights of others are given by "
                f"the name of their network, as timm:NAME@{self.path}/model.safetensors"
            )
        return json_files.convert(content, RunConfig, str(file), fix)

    @property
    def split(self) -> ConceptSplit | None:
        """The class split the run was trained under."""
        from slmlp.data.splits.classes import ConceptSplit

        file = self.path / "split.json"
        return ConceptSplit.load(file) if file.exists() else None

    @property
    def finished(self) -> bool:
        """Whether training has ended."""
        return (self.path / "encoder.safetensors").exists()

    @property
    def worth_keeping(self) -> bool:
        """Whether it is finished, or minutes of training are saved: no command removes it unasked."""
        if self.finished:
            return True
        saved = any((self.path / "checkpoints").glob("*.ckpt"))
        return saved and (self.path / "config.json").exists() and 60 * self.hours >= KEPT_MINUTES

    def encoder(self, epoch: int | None = None) -> Encoder:
        """Return the finished encoder, or the one kept after ``epoch``."""
        if epoch is None:
            return Encoder.load(self.path)
        return Encoder.load(self.epoch_file(epoch))

    def epoch_file(self, epoch: int) -> Path:
        """Return the path of the encoder saved after ``epoch``."""
        return self.path / "epochs" / f"{epoch:04d}.safetensors"

    @property
    def kept_epochs(self) -> list[int]:
        """Epochs whose encoder was kept, in order."""
        return sorted(int(p.stem) for p in (self.path / "epochs").glob("*.safetensors"))

    def metrics(self) -> list[LoggedStep]:
        """Return the logged rows."""
        return json_files.read_lines(self.path / "metrics.jsonl", LoggedStep)

    @property
    def share(self) -> float:
        """How much of training is done, 0 to 1, by the last line of its log; 0 where that cannot be read."""
        if self.finished:
            return 1.0
        try:
            lines = (self.path / "metrics.jsonl").read_bytes().split(b"\n")  # the last may be written just now
            step = json_files.parse_object(lines[-2], "metrics.jsonl", "", "an object")["step"]
            return min(1.0, float(step) / max(1, self.config["resolved"]["steps"]))
        except (SlmlpError, OSError, LookupError, TypeError, ValueError):
            return 0.0

    @property
    def hours(self) -> float:
        """Hours of training, from the logged speeds, so that interruptions do not count.

        Where a run stood still (stopped with Ctrl-Z, a machine asleep), steps count as long as they usually took.
        """
        batch = int(self.config["job"]["training"]["batch_size"])
        rows = self.metrics()
        steps = [row["step"] - before for row, before in zip(rows, [0, *(row["step"] for row in rows)], strict=False)]
        took = [batch / row["images_per_second"] for row in rows]  # seconds per step
        usual = statistics.median_low(took) if took else 0.0
        seconds: float = sum(n * (t if t < STALL * usual else usual) for n, t in zip(steps, took, strict=True))
        return seconds / 3600


def now() -> str:
    """Return the time as files have it, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on."""
    names = ("slmlp", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
