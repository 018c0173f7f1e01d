"""slmlp evaluate, suite."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from slmlp import config
from slmlp.cli.pretraining import Flat


@dataclass(frozen=True)
class TaskSettings(config.TaskSettings):
    """Those of ``evaluate``, whose data options have flags of their own."""

    data: tyro.conf.Suppress[config.DataOptions] = field(default_factory=config.DataOptions)


@dataclass(frozen=True)
class Suite(config.Suite):
    """Those of ``suite``, whose data options have flags of their own."""

    tasks: Annotated[
        tuple[str, ...], tyro.conf.arg(help=config.tasks_help("The first is the headline of the verdict."))
    ] = config.Suite.tasks
    data: tyro.conf.Suppress[config.DataOptions] = field(default_factory=config.DataOptions)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate an encoder: on classes that were held out of pretraining, or on other data.

    Example: `slmlp evaluate my-run MY_IMAGES --task unseen`;
    `slmlp evaluate timm:resnet50@weights.safetensors OTHER_IMAGES --task linear knn fewshot`;
    `slmlp evaluate my-run --datasets DIR`
    """

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """A run's folder, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, an .onnx file, `module:function`, or an .npz file
    of features."""
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """The images; a file of features needs none."""
    datasets: str | None = None
    """Folder of data sets, each evaluated: folders or tars; known ones (`slmlp data list`) under their protocol."""
    task: Annotated[
        tuple[str, ...], tyro.conf.arg(help=config.tasks_help("Default: `unseen` under a split, else `linear`."))
    ] = ()
    split: str | None = None
    """Split file; default: the run's own."""
    out: str | None = None
    """Folder of results.jsonl and predictions; default: RUN/evaluation, or NAME-evaluation for other encoders."""
    settings: Annotated[TaskSettings, Flat] = field(default_factory=TaskSettings)
    """Settings of the tasks."""
    options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """How the images are taken in."""

    def run(self) -> int:
        """Evaluate and print the numbers."""
        from slmlp import api
        from slmlp.runtime import processes

        rows = api.evaluate(
            self.encoder, self.data, datasets=self.datasets, task=self.task, split=self.split, out=self.out,
            cfg=dataclasses.replace(self.settings, data=self.options),
        )  # fmt: skip
        several = len({row.data for row in rows}) > 1
        for row in rows if processes.is_main() else []:
            interval = f" (95 % CI {100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f})" if row.interval else ""
            where = (f"{row.data}: " if several else "") + row.task + ("" if row.layer == "output" else f" {row.layer}")
            print(f"{where} {row.metric}: {100 * row.value:.2f} %{interval}, {row.n:,} images")
            if row.extra.get("at_grid_edge") and row.metric == "accuracy":
                what = "--finetune.rates" if row.task == "finetune" else "--probe.l2"
                print(f"warning: a value at the edge of the grid was chosen; widen {what}")
        return 0


@dataclass(frozen=True)
class SuiteCommand:
    """Many encoders on many data sets, untrained ones beside them: one results file, a verdict, a page. Resumable.

    Example: `slmlp suite runs/sl-seed* runs/sl-mlp-seed* --datasets DIR --out my-suite`;
    `slmlp suite sl=run-a mlp=run-b timm:resnet50 MY_IMAGES.tar ...` names encoders with NAME=.
    Runs of one method are its seeds; the first encoder named is the baseline of every difference.
    """

    encoders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """A run's folder, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, an .onnx file, `module:function`; NAME=ENCODER."""
    out: str
    """Folder of the suite; what it holds already is not done again."""
    datasets: str | None = None
    """Folder of data sets: folders or tars of class folders; known ones (`slmlp data list`) under their protocol."""
    also: tuple[str, ...] = ()
    """Data sets beside those: anything that DATA can be elsewhere, such as `torchvision:FashionMNIST`."""
    split: str | None = None
    """Split file, for the tasks that need one."""
    suite: Annotated[Suite, Flat] = field(default_factory=Suite)
    """Tasks and their settings."""
    options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """How the images are taken in."""

    def run(self) -> int:
        """Do the suite and print table, verdict and the page's name."""
        from slmlp.runtime.progress import say

        say("starting: loading libraries and images")
        from pathlib import Path

        from slmlp.experiments import suite
        from slmlp.report.suite_tables import print_tables
        from slmlp.runtime import files

        cfg = dataclasses.replace(self.suite, data=self.options)
        page = suite.suite(
            self.encoders, self.out, datasets=self.datasets, sources=self.also, split=self.split, cfg=cfg
        )
        print_tables(Path(self.out))
        for sentence in files.read_json(Path(self.out) / "verdict.json")["sentences"]:
            print(sentence)
        print(f"report: {page}")
        return 0
