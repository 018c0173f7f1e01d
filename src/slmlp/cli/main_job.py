"""slmlp study and slmlp demo."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slmlp import config
from slmlp.cli.pretraining import Flat


@dataclass(frozen=True)
class StudyTraining(config.StudyTraining):
    """Training, the same for every method; the rate is the study's to choose."""

    base_lr: tyro.conf.Suppress[float] = config.StudyTraining.base_lr
    """Chosen from `--rates`."""


@dataclass(frozen=True)
class StudyCommand:
    """Which pretraining transfers, on your own images: the verdict with its interval, and one page.

    Holds classes out, chooses each method's learning rate by source validation, pretrains every method over seeds,
    freezes the encoders, and measures how well a linear classifier on their features tells the held-out classes apart.
    Example: `slmlp study MY_IMAGES --methods sl,sl-mlp --seeds 5 --out my-study`; the same command goes on
    where it was stopped, and more seeds may be asked for.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str
    """Folder of the study."""
    methods: tuple[str, ...] = config.Study.methods
    """Methods compared, by commas or spaces; the first is the baseline. `sl-mlp:projector.out=256` overrides."""
    seeds: int = config.Study.seeds
    """Seeds a method; the interval is over seeds and images. One seed gives images only."""
    rates: tuple[float, ...] = config.Study.rates
    """Base learning rates tried, per 256 images, the same for every method; a single one is taken as it is."""
    labels: Literal["class", "superclass"] = "class"
    """What pretraining is told: classes, or the coarser superclasses they belong to."""
    curve_seeds: int = config.Study.curve_seeds
    """Seeds whose kept epochs are evaluated for the curves."""
    parallel: int | None = None
    """Runs trained side by side, each on its share of the CPU; default: two on CPUs of two cores and more, else one."""
    validation_fraction: float = config.Study.validation_fraction
    """Share of the source training images held back while rates are chosen."""
    training: Annotated[StudyTraining, Flat] = field(default_factory=StudyTraining)
    """Training, the same for every method."""
    data_options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """How the images are taken in."""
    split: config.Split = field(default_factory=config.Split)
    """Held-out classes."""
    probe: config.Probe = field(default_factory=config.Probe)
    """The linear probe."""
    measures: config.Measures = field(default_factory=config.Measures)
    """The paper's measures."""

    def study(self) -> config.Study:
        """Return the settings of the study."""
        return config.Study(
            methods=self.methods, seeds=self.seeds, curve_seeds=self.curve_seeds, rates=self.rates,
            validation_fraction=self.validation_fraction, labels=self.labels, training=self.training,
            parallel=self.parallel, split=self.split, data=self.data_options, probe=self.probe, measures=self.measures,
        )  # fmt: skip

    def run(self) -> int:
        """Do the study and print where the page is."""
        return _report(self.data, self.out, self.study(), demo=False)


@dataclass(frozen=True)
class Demo:
    """The main job on the embedded images, in minutes on two cores: SL against SL-MLP, one seed, and the page.

    One seed shows how a study reads, not which method is better; `slmlp demo --seeds 5` gives the real answer.
    """

    seeds: int = config.DEMO.seeds
    """Seeds a method."""
    out: str = "demo"
    """Folder of the study."""
    labels: Literal["class", "superclass"] = config.DEMO.labels
    """What pretraining is told: Unicode's subgroups, or its coarser categories."""
    parallel: int | None = None
    """Runs trained side by side; default: two on CPUs of two cores and more."""

    def run(self) -> int:
        """Do the demo and print where the page is."""
        cfg = dataclasses.replace(config.DEMO, seeds=self.seeds, labels=self.labels, parallel=self.parallel)
        return _report("emoji", self.out, cfg, demo=True)


def _report(data: str, out: str, cfg: config.Study, *, demo: bool) -> int:
    from slmlp.runtime.progress import say

    say("starting: loading libraries and images")
    from slmlp.experiments.study import study

    return show(study(data, out, cfg, demo=demo))


def show(page: Path) -> int:
    """Print the table, the verdict and the page's name."""
    from rich.console import Console

    from slmlp import report
    from slmlp.runtime import files

    console = Console()
    if not console.is_terminal:  # a file or pipe has no width of its own
        console = Console(width=140)
    console.print(report.table_text(page.parent))
    for sentence in files.read_json(page.parent / "verdict.json")["sentences"]:
        print(sentence)
    print(f"report: {page}")
    return 0
