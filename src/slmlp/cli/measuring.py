"""The commands slmlp split, features and measure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

from slmlp import config
from slmlp.config.flags import FLAT, argument
from slmlp.runtime import processes
from slmlp.runtime.progress import tell


@dataclass(frozen=True)
class Split:
    """Hold classes out and write which: source classes to pretrain on, unseen classes to measure transfer on.

    Example: `slmlp split MY_IMAGES --by random --unseen-fraction 0.3 --out split.json`
    """

    data: str = field(metadata=argument("DATA"))
    """Folder of class folders, tar, manifest (.csv, .tsv, .jsonl), .npz, `torchvision:NAME` or `emoji`."""
    out: str
    """The split file; another split is never overwritten."""
    split: config.Split = field(default_factory=config.Split, metadata=FLAT)
    """The rule."""
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """How the images are taken in."""

    def run(self) -> int:
        """Make, check for leaks, and save the split."""
        from slmlp import api

        split = api.split(self.data, self.out, self.split, self.options)
        tell(f"{self.out}: {len(split.source)} source classes, {len(split.unseen)} held out ({split.rule})")
        for name, sense in split.senses.items():
            tell(f"  {name}: {sense}")
        return 0


@dataclass(frozen=True)
class Features:
    """Write an encoder's features: y (N,), classes, ids, groups, parts to .npz, x (N, D) float32 to .npy beside it.

    Example: `slmlp features my-run MY_IMAGES --classes unseen --out features.npz`;
    `slmlp features timm:resnet50 MY_IMAGES --layer stage4 --out stage4.npz`
    """

    encoder: str = field(metadata=argument("ENCODER"))
    """A run's folder or encoder file, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, .onnx file, `module:function`."""
    data: str = field(metadata=argument("DATA"))
    """The images."""
    out: str
    """The .npz file; it and the .npy must be new."""
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
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """How the images are taken in."""

    def run(self) -> int:
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
        if processes.is_main():  # the other processes have no features
            images, dim = features.x.shape
            tell(f"{self.out}: {images} images, {dim} features, {len(features.classes)} classes")
        return 0


@dataclass(frozen=True)
class Measure:
    """The paper's measures of a feature space: discriminative ratio, redundancy, and mixtureness against another.

    Example: `slmlp measure source.npz --against unseen.npz`
    """

    features: str = field(metadata=argument("FEATURES"))
    """A features file, .npz with x (N, D) and y (N,): the classes pretrained on."""
    against: str | None = None
    """A features file of the held-out classes, for mixtureness and their own measures."""
    json: bool = False
    """Print JSON."""
    measures: config.Measures = field(default_factory=config.Measures, metadata=FLAT)
    """Settings of the measures."""

    def run(self) -> int:
        """Measure and print."""
        from slmlp import api

        values = api.measure(self.features, self.against, self.measures)
        if self.json:
            print(json.dumps({name: value if math.isfinite(value) else None for name, value in values.items()}))
        else:
            width = max(map(len, values))
            for name, value in values.items():
                tell(f"{name:<{width}}  {value:.6g}")
        return 0
