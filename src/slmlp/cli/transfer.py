"""The commands slmlp evaluate and suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slmlp import config
from slmlp.cli import answer
from slmlp.cli.answer import Answer
from slmlp.cli.table import Table
from slmlp.config.flags import FLAT, argument, main
from slmlp.runtime.progress import say, warn

if TYPE_CHECKING:
    from slmlp.results.records import Result


@dataclass(frozen=True)
class Evaluate:
    """Evaluate an encoder's frozen features: on classes held out of pretraining, or on other data.

    Example: `slmlp evaluate my-run MY_IMAGES --task unseen`;
    `slmlp evaluate timm:resnet50@weights.safetensors OTHER_IMAGES --task linear knn fewshot`;
    `slmlp evaluate my-run --datasets DIR`
    """

    encoder: str = field(
        metadata=argument("ENCODER", "a run, timm:NAME[@FILE], torchvision:NAME[@FILE], .onnx, .npz", "encoder")
    )
    """A run's folder, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, an .onnx file, `module:function`, or an .npz file
    of features."""
    data: str | None = field(
        default=None, metadata=argument("[DATA]", "the images; a file of features needs none", "data")
    )
    """The images; a file of features needs none."""
    datasets: str | None = field(default=None, metadata=main("folder of data sets, each evaluated", "folder"))
    """Folder of data sets, each evaluated: folders or tars; known ones (`slmlp data list`) under their protocol."""
    task: tuple[str, ...] = field(
        default=(),
        metadata={"help": config.tasks_help("Default: `unseen` under a split, else `linear`.")}
        | main("unseen (default under a split), linear (else), knn ...", "task"),
    )
    split: str | None = field(default=None, metadata=main("split file; default: the run's own", "file"))
    """Split file; default: the run's own."""
    out: str | None = field(default=None, metadata=main("folder of results; default: RUN/evaluation"))
    """Folder of results.jsonl and predictions; default: RUN/evaluation, or NAME-evaluation for other encoders."""
    settings: config.TaskSettings = field(default_factory=config.TaskSettings, metadata=FLAT)
    """Settings of the tasks."""

    def run(self) -> Answer:
        """Evaluate."""
        from slmlp import api
        from slmlp.results.sentences import data_warnings, fit_warnings

        rows = api.evaluate(
            self.encoder, self.data, datasets=self.datasets, task=self.task, split=self.split, out=self.out,
            cfg=self.settings,
        )  # fmt: skip
        for line in fit_warnings(rows) + data_warnings(rows):
            warn(line)
        document = {"results": [dataclasses.asdict(row) for row in rows]}
        return Answer(document, [_for_readers(rows)], rows=_for_scripts(rows))


def _for_readers(rows: Sequence[Result]) -> Table:
    """Return accuracies in percent; the name says data and layer where they are not always the same."""
    from slmlp.results.sentences import metric_name

    several = len({row.data for row in rows}) > 1
    lines = []
    for row in rows:
        where = (f"{row.data}: " if several else "") + row.task + ("" if row.layer == "output" else f" {row.layer}")
        ends = f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}" if row.interval else ""
        lines.append((f"{where} {metric_name(row.metric)}", f"{100 * row.value:.2f}", ends, row.n))
    return Table(("task and number", "%", "95 % interval", "images"), lines)


def _for_scripts(rows: Sequence[Result]) -> Table:
    """Return the lines as results.jsonl has them: shares, 0 to 1."""
    columns = ("run", "method", "seed", "data", "task", "layer", "metric", "value", "low", "high", "n")
    return Table(columns, [
        (r.run, r.method, r.seed, r.data, r.task, r.layer, r.metric, r.value, *(r.interval or (None, None)), r.n)
        for r in rows
    ])  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """Many encoders on many data sets, untrained ones beside them: one results file, a verdict, a page. Resumable.

    Example: `slmlp suite runs/sl-seed* runs/sl-mlp-seed* --datasets DIR --out my-suite`;
    `slmlp suite sl=run-a mlp=run-b timm:resnet50 MY_IMAGES.tar ...` names encoders with NAME=.
    Runs of one method are its seeds; the first encoder named is the baseline of every difference.
    """

    encoders: tuple[str, ...] = field(
        metadata=argument("ENCODER...", "runs, timm:NAME[@FILE], .onnx ...; NAME=ENCODER names one", "encoder")
    )
    """A run's folder, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, an .onnx file, `module:function`; NAME=ENCODER."""
    out: str = field(metadata=main("folder of the suite; the same command resumes it"))
    """Folder of the suite; what it holds already is not done again."""
    datasets: str | None = field(default=None, metadata=main("folder of data sets: folders or tars", "folder"))
    """Folder of data sets: folders or tars of class folders; known ones (`slmlp data list`) under their protocol."""
    also: tuple[str, ...] = field(default=(), metadata=main("data sets beside those", "data"))
    """Data sets beside those: anything that DATA can be elsewhere, such as `torchvision:FashionMNIST`."""
    split: str | None = None
    """Split file, for the tasks that need one."""
    dry_run: bool = field(default=False, metadata=main("say what is left and how long it takes, and write nothing"))
    """Check all settings and inputs, say which numbers are done and which are left, how long those would take and what
    would be written, and write nothing."""
    suite: config.Suite = field(default_factory=config.Suite, metadata=FLAT)
    """Tasks and their settings."""

    def run(self) -> Answer:
        """Run the suite."""
        say("starting: loading libraries and images")
        from slmlp import api
        from slmlp.cli import pages

        page = api.suite(
            self.encoders, self.out, datasets=self.datasets, sources=self.also, split=self.split, cfg=self.suite,
            dry_run=self.dry_run,
        )  # fmt: skip
        return answer.of_plan() if self.dry_run else pages.answer(page)
