"""slmlp split, evaluate, features, measure, compare."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slmlp import config
from slmlp.cli.pretraining import Flat
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError


@dataclass(frozen=True)
class SplitCommand:
    """Hold classes out and write which: source classes to pretrain on, unseen classes to measure transfer on.

    Example: `slmlp split MY_IMAGES --by random --unseen-fraction 0.3 --out split.json`
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str
    """The split file; another split is never overwritten."""
    split: Annotated[config.Split, Flat] = field(default_factory=config.Split)
    """The rule."""
    options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """How the images are taken in."""

    def run(self) -> int:
        """Make, check for leaks, and save the split."""
        from slmlp import api

        split = api.split(self.data, self.out, self.split, self.options)
        print(f"{self.out}: {len(split.source)} source classes, {len(split.unseen)} held out ({split.rule})")
        for name, sense in split.senses.items():
            print(f"  {name}: {sense}")
        return 0


@dataclass(frozen=True)
class FeaturesCommand:
    """Write an encoder's features to .npz: x (N, D) float32, y (N,), classes, ids, groups, parts.

    Example: `slmlp features my-run MY_IMAGES --classes unseen --out features.npz`;
    `slmlp features timm:resnet50 MY_IMAGES --layer stage4 --out stage4.npz`
    """

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """A run's folder or encoder file, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, .onnx file, `module:function`."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """The images."""
    out: str
    """The .npz file; must be new."""
    classes: Literal["source", "unseen", "all"] = "all"
    """Side of the split."""
    part: Literal["train", "test", "all"] = "all"
    """Part of the images."""
    split: str | None = None
    """Split file; default: the run's own."""
    layer: str = "output"
    """Where the features are taken: `output`, `stage1` to `stage5`, `block1` ..., `projector.hidden`,
    `projector.output`."""
    extraction: config.Extraction = field(default_factory=config.Extraction)
    """How features are computed."""
    preprocess: config.PreprocessFlags = field(default_factory=config.PreprocessFlags)
    """Overrides of the encoder's own preprocessing."""
    options: Annotated[config.DataOptions, Flat] = field(default_factory=config.DataOptions)
    """How the images are taken in."""

    def run(self) -> int:
        """Extract and save."""
        from slmlp import api

        if Path(self.out).exists():
            raise SlmlpError(f"{self.out} exists already; choose another --out")
        cfg = config.TaskSettings(data=self.options, extraction=self.extraction, preprocess=self.preprocess)
        features = api.features(
            self.encoder, self.data, classes=self.classes, part=self.part, split=self.split, layer=self.layer, cfg=cfg
        )
        if not processes.is_main():  # the first one has the features
            return 0
        features.save(Path(self.out))
        print(
            f"{self.out}: {features.x.shape[0]} images, {features.x.shape[1]} features, {len(features.classes)} classes"
        )
        return 0


@dataclass(frozen=True)
class Measure:
    """The paper's measures of a feature space: discriminative ratio, redundancy, and mixtureness against another.

    Example: `slmlp measure source.npz --against unseen.npz`
    """

    features: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES")]
    """An .npz file with x (N, D) and y (N,): the classes pretrained on."""
    against: str | None = None
    """An .npz file of the held-out classes, for mixtureness and their own measures."""
    json: bool = False
    """Print JSON."""
    measures: Annotated[config.Measures, Flat] = field(default_factory=config.Measures)
    """Settings of the measures."""

    def run(self) -> int:
        """Measure and print."""
        from slmlp.probes.features import Features
        from slmlp.probes.measures.measures import measure

        source = Features.load(Path(self.features))
        unseen = Features.load(Path(self.against)) if self.against else None
        values = measure(source, unseen, self.measures)
        if self.json:
            print(json.dumps({k: (v if v == v and abs(v) != float("inf") else None) for k, v in values.items()}))
        else:
            width = max(map(len, values))
            for name, value in values.items():
                print(f"{name:<{width}}  {value:.6g}")
        return 0


@dataclass(frozen=True)
class Compare:
    """Table, verdict and page over finished runs of one data set and split; runs of one method are its seeds.

    Example: `slmlp compare sl-0 sl-1 sl-mlp-0 sl-mlp-1 --out comparison`
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of finished runs; the first run's method is the baseline of every difference."""
    out: str
    """Folder of the comparison."""
    probe: config.Probe = field(default_factory=config.Probe)
    """The probe."""

    def run(self) -> int:
        """Compare and print where the page is."""
        from slmlp.cli.main_job import show
        from slmlp.experiments.compare import compare

        return show(compare(self.runs, self.out, probe=self.probe))
