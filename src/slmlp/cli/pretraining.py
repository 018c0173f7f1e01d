"""The command slmlp pretrain."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slmlp import config
from slmlp.cli import answer
from slmlp.cli.answer import Answer
from slmlp.config import recipes
from slmlp.config.flags import FLAT, argument, main
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say


@dataclass(frozen=True)
class Pretrain:
    """Pretrain one encoder on labelled images and save it without its projector.

    Example: `slmlp pretrain MY_IMAGES --method sl-mlp --encoder resnet50 --out my-run`;
    `slmlp pretrain --resume my-run` resumes a run that was stopped or killed.
    `--method NAME --help-all` shows that method's settings, `--recipe NAME --help-all` a recipe's.
    """

    data: str | None = field(
        default=None, metadata=argument("[DATA]", "images: folder of class folders, tar, .csv, .npz, emoji", "data")
    )
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str | None = field(default=None, metadata=main("folder of the run"))
    """Folder of the run; must be new."""
    dry_run: bool = field(default=False, metadata=main("say how long it would take, and write nothing"))
    """Check all settings, say how long the run would take and what it would write, and write nothing."""
    overwrite: bool = False
    """Remove another run in --out first: only files that a run wrote; a folder with any other file is refused."""
    method: str = field(
        default="sl-mlp",
        metadata={
            "help": f"{', '.join(f'`{name}`' for name in config.METHODS)}, or a class of yours, `FILE.py:CLASS`; see "
            "`slmlp methods`."
        }
        | main("slmlp methods lists them", "method"),
    )
    recipe: str | None = field(default=None, metadata=main("settings of a recipe; slmlp recipes lists them", "recipe"))
    """Settings by the name of a recipe (`slmlp recipes` lists them); what else is given here overrides them."""
    resume: str | None = field(default=None, metadata=main("resume the run in this folder", "run"))
    """Resume the run in this folder exactly where it was stopped; settings come from it, DATA only if it was moved."""
    split: str | None = field(
        default=None, metadata=main("train on the source classes of this split file only", "file")
    )
    """Split file: train on its source classes only. Without it all classes are trained on."""
    labels: Literal["class", "superclass"] = "class"
    """Labels used for pretraining: the classes, or the coarser superclasses they belong to."""
    seed: int = field(default=0, metadata=main("of weights, data order and augmentation"))
    """Seed of encoder weights, head weights, data order and augmentation (a generator each)."""
    validation_fraction: float = 0.0
    """Share of the training images held back."""
    training: config.Training = field(default_factory=config.Training, metadata=FLAT)
    """Training."""
    settings: config.MethodConfig = field(default=config.METHOD_CONFIGS["sl-mlp"], metadata=FLAT)
    """The method's own settings."""
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """Data."""
    given: Mapping[str, Any] = field(default_factory=dict, metadata={"hidden": True})
    """The options that were given, by flag."""

    @classmethod
    def defaults(cls, words: list[str]) -> Pretrain:
        """Return the command with the settings of the method, or recipe, that the words name as its defaults."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for flag in ("--method", "--recipe"):
            parser.add_argument(flag, nargs="?")
        named, _ = parser.parse_known_args(words)
        recipe = recipes.chosen(named.recipe, named.method)
        if recipe:
            return cls(method=recipe.method, training=recipe.training, settings=recipe.settings)
        method = named.method or "sl-mlp"
        return cls(method=method, settings=config.method_config(method))

    def run(self) -> Answer:
        """Pretrain or resume."""
        say("starting: loading libraries and images")
        from slmlp import api

        if self.resume is not None:
            changes = {k[2:].replace("-", "_"): v for k, v in self.given.items() if k not in ("[DATA]", "--resume")}
            run = api.resume(self.resume, self.data, **changes)
        else:
            if self.data is None or self.out is None:
                raise SlmlpError("slmlp pretrain needs DATA and --out RUN (or --resume RUN)")
            run = api.pretrain(
                self.data, self.out, method=self.method, recipe=self.recipe, settings=self.settings, split=self.split,
                labels=self.labels, seed=self.seed, training=self.training,
                options=self.options,
                validation_fraction=self.validation_fraction, overwrite=self.overwrite, dry_run=self.dry_run,
            )  # fmt: skip
        if self.dry_run:
            return answer.of_plan()
        encoder = Path(run.path) / "encoder.safetensors"
        if not processes.is_main():
            return Answer({})
        last = run.metrics()[-1:]
        document = {"run": run.path, "encoder": encoder, "last_step": last[0] if last else None}
        return Answer(document, lines=[str(encoder)])
