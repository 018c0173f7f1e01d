"""The commands slmlp study, demo and compare."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

from slmlp import config
from slmlp.cli import answer
from slmlp.cli.answer import Answer
from slmlp.config.flags import FLAT, argument, main
from slmlp.config.training import RATES
from slmlp.runtime.progress import say


@dataclass(frozen=True)
class Study:
    """Which pretraining transfers, on your own images: the verdict with its interval, and one page.

    Holds classes out, chooses each method's learning rate by source validation, pretrains every method over seeds,
    freezes the encoders, and measures how well a linear classifier on their features tells the held-out classes apart.
    Example: `slmlp study MY_IMAGES --methods sl,sl-mlp --seeds 5 --out my-study`; the same command resumes a study
    that was stopped, and adds seeds to one that is finished.
    """

    data: str = field(metadata=argument("DATA", "images: folder of class folders, tar, .csv, .npz, emoji", "data"))
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str = field(metadata=main("folder of the study; the same command resumes it"))
    """Folder of the study."""
    preset: Literal["quick", "standard", "thorough"] = field(
        default="standard", metadata=main("quick, standard or thorough")
    )
    """How much is tried: `quick` is one seed at one rate, `thorough` ten seeds and six rates; other flags override."""
    dry_run: bool = field(default=False, metadata=main("say how long it would take, and write nothing"))
    """Check all settings, say how long the study would take and what it would write, and write nothing."""
    overwrite: bool = False
    """Remove another study in --out first: only files that a study wrote; a folder with any other file is refused."""
    study: config.Study = field(default_factory=config.Study, metadata=FLAT)
    """Settings."""

    @classmethod
    def defaults(cls, words: list[str]) -> Study | type[Study]:
        """Return the command with the settings of the preset that the words name as its defaults."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for flag, usual in (("--preset", "standard"), ("--optimizer", "sgd")):
            parser.add_argument(flag, nargs="?", default=usual)
        named, _ = parser.parse_known_args([word.replace("_", "-") if word[:2] == "--" else word for word in words])
        if named.preset not in config.PRESETS or named.optimizer not in RATES:
            return cls  # told with what is expected when the words are read
        required: Any = MISSING
        return cls(required, required, study=config.preset(named.preset, named.optimizer))

    def check(self) -> None:
        """Check the names and settings of the contenders."""
        from slmlp.experiments.study import specs

        specs.candidates(self.study)

    def run(self) -> Answer:
        """Run the study."""
        say("starting: loading libraries and images")
        from slmlp import api
        from slmlp.cli import pages

        page = api.study(self.data, self.out, self.study, overwrite=self.overwrite, dry_run=self.dry_run)
        return answer.of_plan() if self.dry_run else pages.answer(page)


@dataclass(frozen=True)
class Demo:
    """When does the MLP projector pay? Two losses, each without and with it, on the embedded images, in minutes.

    The plain softmax and a cosine softmax, one seed, on two CPU cores; ends with a verdict and a page.
    Example: `slmlp demo --out my-demo`
    One seed shows how a study reads, not which method is better; `slmlp demo --seeds 5` gives the real answer.
    """

    seeds: int = config.DEMO.seeds
    """Seeds per method."""
    out: str = "demo"
    """Folder of the study."""
    labels: Literal["class", "superclass"] = config.DEMO.labels
    """Labels used for pretraining: Unicode's subgroups, or its coarser categories."""
    parallel: int | None = None
    """Runs trained side by side; default: two on CPUs of two cores and more."""

    def run(self) -> Answer:
        """Run the demo."""
        say("starting: loading libraries and images")
        from slmlp import api
        from slmlp.cli import pages

        cfg = dataclasses.replace(config.DEMO, seeds=self.seeds, labels=self.labels, parallel=self.parallel)
        return pages.answer(api.study("emoji", self.out, cfg, demo=True))


@dataclass(frozen=True)
class Compare:
    """Table, verdict and page over finished runs of one data set and split; runs of one method are its seeds.

    Example: `slmlp compare sl-0 sl-1 sl-mlp-0 sl-mlp-1 --out comparison`
    """

    runs: tuple[str, ...] = field(
        metadata=argument("RUN...", "folders of finished runs; runs of one method are its seeds", "run")
    )
    """Folders of finished runs; the first run's method is the baseline of every difference."""
    out: str = field(metadata=main("folder of the comparison"))
    """Folder of the comparison."""
    probe: config.Probe = field(default_factory=config.Probe)
    """The probe."""

    def run(self) -> Answer:
        """Compare."""
        from slmlp import api
        from slmlp.cli import pages

        return pages.answer(api.compare(self.runs, self.out, probe=self.probe))
