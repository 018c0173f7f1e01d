"""What tests of suites share: runs of two methods and two seeds, two data sets, and the suite of all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from conftest import CLASSES, draw
from slmlp import api, config
from slmlp.experiments import suite

TRAINING = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=2, augment="crop", precision="float32", base_lr=0.05
)

QUICK = config.Suite(
    tasks=("linear", "knn", "fewshot", "centroid", "label-efficiency", "layerwise", "retrieval"),
    probe=config.Probe(l2=(1e-3, 1e-1)),
    knn=config.Knn(neighbours=5),
    fewshot=config.FewShot(ways=3, shots=2, queries=4, episodes=20),
    label_efficiency=config.LabelEfficiency(fractions=(0.1, 1.0), shots=(1, 4), draws=2),
    extraction=config.Extraction(precision="float32"),
)


def trained(shapes: Path, once: Callable[..., Path]) -> list[str]:
    """Return the folders of the runs, trained by the first test process that asks."""
    names = [(method, seed) for method in ("sl", "sl-mlp") for seed in (0, 1)]

    def make(folder: Path) -> None:
        for method, seed in names:
            out = folder / f"{method}-seed{seed}"
            api.pretrain(str(shapes), out, method=method, seed=seed, training=TRAINING, progress=False)

    folder = once("suite-runs", make)
    return [str(folder / f"{method}-seed{seed}") for method, seed in names]


def data_sets(once: Callable[..., Path]) -> Path:
    """Return a folder of two data sets of a user's own: one with parts, one without."""

    def make(root: Path) -> None:
        rng = np.random.default_rng(1)
        for name, parts in (("grey-shapes", ("train", "test")), ("plain", ("",))):
            for part in parts:
                for label in CLASSES[:4]:
                    folder = root / name / part / label
                    folder.mkdir(parents=True)
                    for i in range(12):
                        image = draw(label, rng)
                        (image.convert("L") if name == "grey-shapes" else image).save(folder / f"{i}.png")

    return once("suite-datasets", make)


def finished(shapes: Path, once: Callable[..., Path]) -> Path:
    """Return the folder of the suite of the runs, and of a network of timm's, on both data sets."""
    runs, sets = trained(shapes, once), data_sets(once)

    def make(out: Path) -> None:
        page = suite.suite([*runs, "timm:test_resnet@random"], out, datasets=str(sets), cfg=QUICK)
        assert page == out / "report.html"

    return once("suite", make)
