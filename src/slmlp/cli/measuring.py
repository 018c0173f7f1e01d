"""The commands slmlp split, features and measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from slmlp import config
from slmlp.cli.answer import Answer
from slmlp.cli.table import Table
from slmlp.config.flags import FLAT, argument, main


@dataclass(frozen=True)
class Split:
    """Hold classes out and write which: source classes to pretrain on, unseen classes to measure transfer on.

    Example: `slmlp split MY_IMAGES --by random --unseen-fraction 0.3 --out split.json`
    """

    data: str = field(metadata=argument("DATA", "images: folder of class folders, tar, .csv, .npz, emoji", "data"))
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str = field(metadata=main("the split file"))
    """The split file; another split is never overwritten."""
    split: config.Split = field(default_factory=config.Split, metadata=FLAT)
    """The rule."""
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """How the images are taken in."""

    def run(self) -> Answer:
        """Make, check for leaks, and save the split."""
        from slmlp import api

        split = api.split(self.data, self.out, self.split, self.options)
        lines = [f"{self.out}: {len(split.source)} source classes, {len(split.unseen)} held out ({split.rule})"]
        lines += [f"  {name}: {sense}" for name, sense in split.senses.items()]
        return Answer({"file": self.out, "split": split.to_json()}, lines=lines)


@dataclass(frozen=True)
class Features:
    """Write an encoder's features: y (N,), classes, ids, groups, parts to .npz, x (N, D) float32 to .npy beside it.

    Example: `slmlp features my-run MY_IMAGES --classes unseen --out features.npz`;
    `slmlp features timm:resnet50 MY_IMAGES --layer stage4 --out stage4.npz`
    """

    encoder: str = field(
        metadata=argument("ENCODER", "a run, timm:NAME[@FILE], torchvision:NAME[@FILE], .onnx", "encoder")
    )
    """A run's folder or encoder file, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, .onnx file, `module:function`."""
    data: str = field(metadata=argument("DATA", "images: folder of class folders, tar, .csv, .npz, emoji", "data"))
    """The images."""
    out: str = field(metadata=main("the .npz file; features in an .npy beside it"))
    """The .npz file; it and the .npy must be new."""
    classes: Literal["source", "unseen", "all"] = field(
        default="all", metadata=main("side of the split: source, unseen or all")
    )
    """Side of the split."""
    part: Literal["train", "test", "all"] = field(default="all", metadata=main("train, test or all"))
    """Part of the images."""
    split: str | None = field(default=None, metadata=main("split file; default: the run's own", "file"))
    """Split file; default: the run's own."""
    layer: str = field(default="output", metadata=main("output, stage1 ..., block1 ..., projector.output"))
    """Where the features are taken: `output`, `stage1` to `stage5`, `block1` ..., `projector.hidden`,
    `projector.output`."""
    extraction: config.Extraction = field(default_factory=config.Extraction)
    """How features are computed."""
    preprocess: config.PreprocessFlags = field(default_factory=config.PreprocessFlags)
    """Overrides of the encoder's own preprocessing."""
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """How the images are taken in."""

    def run(self) -> Answer:
        """Extract and save."""
        from slmlp import api

        cfg = config.TaskSettings(data=self.options, extraction=self.extraction, preprocess=self.preprocess)
        features = api.features(
            self.encoder,
            self.data,
            classes=self.classes,
            part=self.part,
            split=self.split,
            layer=self.layer,
            cfg=cfg,
            out=self.out,
        )
        images, dim = features.x.shape  # of the first process; the others have no images, and print nothing
        document = {
            "file": self.out, "images": images, "dim": dim, "classes": list(features.classes), "layer": self.layer,
        }  # fmt: skip
        return Answer(document, lines=[f"{self.out}: {images} images, {dim} features, {len(features.classes)} classes"])


@dataclass(frozen=True)
class Measure:
    """The paper's measures of a feature space: discriminative ratio, redundancy, and mixtureness against another.

    Example: `slmlp measure source.npz --against unseen.npz`
    """

    features: str = field(metadata=argument("FEATURES", takes="file"))
    """A features file, .npz with x (N, D) and y (N,): the classes pretrained on."""
    against: str | None = field(default=None, metadata={"takes": "file"})
    """A features file of the held-out classes, for mixtureness and their own measures."""
    measures: config.Measures = field(default_factory=config.Measures, metadata=FLAT)
    """Settings of the measures."""

    def run(self) -> Answer:
        """Measure."""
        from slmlp import api

        values = api.measure(self.features, self.against, self.measures)
        return Answer({"measures": values}, [Table(("metric", "value"), list(values.items()))])
