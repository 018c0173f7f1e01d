"""slmlp pretrain."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from slmlp import config
from slmlp.runtime.errors import SlmlpError

Flat = tyro.conf.arg(name="")  # flags of the nested settings stand without a prefix


@dataclass(frozen=True)
class Pretrain:
    """Pretrain one encoder on labelled images and save it without its projector.

    Example: `slmlp pretrain MY_IMAGES --method sl-mlp --encoder resnet50 --out my-run`;
    stopped or killed, it goes on with `slmlp pretrain --resume my-run`.
    `--method NAME --help` shows that method's settings, `--recipe NAME --help` a recipe's.
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str | None = None
    """Folder of the run; must be new."""
    method: str = "sl-mlp"
    """`sl`, `sl-mlp`, `supcon`, `simclr`, `moco-v1`, `moco-v2`, `byol`, `swav`, `t-rex-star` or `t-rex`; see `slmlp
    methods`."""
    recipe: str | None = None
    """Settings of a published row by name (`slmlp recipes` lists them); what else is given here overrides them."""
    resume: str | None = None
    """Go on with the run in this folder, exactly where it was stopped; every other setting comes from it."""
    split: str | None = None
    """Split file: train on its source classes only. Without it all classes are trained on."""
    labels: Literal["class", "superclass"] = "class"
    """What pretraining is told: classes, or the coarser superclasses they belong to."""
    seed: int = 0
    """Seed of encoder weights, head weights, data order and augmentation (a generator each)."""
    validation_fraction: float = 0.0
    """Share of the training images held back."""
    training: Annotated[config.Training, Flat] = field(default_factory=config.Training)
    """Training."""
    projector: config.ProjectorFlags = field(default_factory=config.ProjectorFlags)
    """Overrides of the method's projector."""
    options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """Data."""

    @classmethod
    def for_words(cls, words: list[str]) -> Any:
        """Return this dataclass with the settings of the method, or recipe, that the words name as its defaults."""
        from slmlp.config import recipes

        name = _value_of("--method", words)
        recipe = recipes.chosen(_value_of("--recipe", words), name)
        preset = recipe.settings if recipe else config.method_config(name or cls.method)
        # a subclass, so that the flags keep their help texts; the projector's have a superclass of their own
        settings = dataclasses.make_dataclass(
            "MethodSettings", [("projector", tyro.conf.Suppress[config.Projector])], bases=(type(preset),), frozen=True
        )
        default = settings(**{f.name: getattr(preset, f.name) for f in dataclasses.fields(preset)})
        fields: list[Any] = [("method_settings", Annotated[settings, Flat], field(default=default))]
        if recipe:
            fields.append(("method", str, field(default=recipe.method)))
            fields.append(("training", Annotated[config.Training, Flat], field(default=recipe.training)))
        return dataclasses.make_dataclass(
            "Pretrain", fields, bases=(cls,), frozen=True, namespace={"__doc__": cls.__doc__}
        )

    def run(self) -> int:
        """Pretrain or resume."""
        from slmlp.runtime.progress import say

        say("starting: loading libraries and images")
        from slmlp import api

        if self.resume is not None:
            run = api.resume(self.resume, threads=self.training.threads)
        else:
            if self.data is None or self.out is None:
                raise SlmlpError("slmlp pretrain needs DATA and --out RUN (or --resume RUN)")
            given = vars(self.method_settings)  # type: ignore[attr-defined]  # added by for_words
            values = {name: value for name, value in given.items() if name != "projector"}
            run = api.pretrain(
                self.data, self.out, method=self.method, recipe=self.recipe, projector=self.projector,
                settings=values, split=self.split, labels=self.labels, seed=self.seed, training=self.training,
                options=self.options, validation_fraction=self.validation_fraction,
            )  # fmt: skip
        print(Path(run.path) / "encoder.safetensors")
        return 0


def _value_of(flag: str, words: list[str]) -> str | None:
    """Return the last value that the words give a flag."""
    value = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value
