"""The identities of mixtures (docs/measures.md) on real features; see theorem.py.

Of an encoder: M the means of the source classes (training images), D their mean squared distance, v the mean variance
inside them; P_j the shares of unseen class j's images at each source class, an image being given to the nearest of M.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders import Encoder
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.probes.measures.ratio import class_means, within_variances
from slmlp.train.run import Run

Array = npt.NDArray[np.float64]
EXTRACTION = config.Extraction(device="cpu", precision="float32")


def tables(study: Path, source: str = "emoji") -> None:
    """Print what the identities say of every final encoder of a study and of those kept on the way, and what is."""
    rows: list[tuple[str, tuple[float, ...]]] = []
    options = config.DataOptions()
    with tempfile.TemporaryDirectory() as folder:
        images = data.load(source, options)
        runs = [Run(path) for path in sorted((study / "runs").iterdir()) if Run(path).finished]
        cache = ImageCache(images, options, Path(folder), runs[0].config["resolved"]["image_size"], progress=False)
        held = ImageData(source, images, cache, Path(folder), ConceptSplit.load(study / "split.json"))
        for run in runs:
            last = run.config["job"]["training"]["epochs"]
            for epoch in (*(e for e in run.kept_epochs if e < last), None):
                name = f"{run.name}, {f'epoch {epoch}' if epoch else 'end'}"
                rows.append((name, identities(held, run.encoder(epoch))))
    columns = (
        "encoder", "phi on source", "phi on unseen: measured", "by mixtures",
        "squared distances: measured / by mixtures", "Spearman over pairs", "variances: measured / by mixtures",
        "in the space of source means", "source classes that an unseen one spreads over",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, numbers in rows:
        print(f"| {name} | " + " | ".join(f"{n:.2f}" for n in numbers) + " |")
    print(f"\nSpearman of phi on unseen, measured and by mixtures, over {len(rows)} encoders: "
          f"{spearmanr([n[1] for _, n in rows], [n[2] for _, n in rows]).statistic:.2f}")  # fmt: skip


def identities(held: ImageData, encoder: Encoder) -> tuple[float, ...]:
    """Return the columns of the table."""
    (before, of_before), (new, of_new) = (_features(held, encoder, name) for name in ("source train", "unseen"))
    means, variances = class_means(before, of_before)[0], within_variances(before, of_before)
    unseen, inside = class_means(new, of_new)[0], within_variances(new, of_new)
    distance, variance = _pairs(means).mean(), variances.mean()
    nearest = ((new[:, None, :] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.stack([np.bincount(nearest[of_new == j], minlength=len(means)) for j in range(len(unseen))])
    shares = shares / shares.sum(axis=1, keepdims=True)
    apart, expected = _pairs(unseen), distance / 2 * _pairs(shares)
    spread = variance + distance / 2 * (1 - (shares**2).sum(axis=1))
    basis = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][: len(means) - 1]
    within = _pairs(unseen @ basis.T).sum() / apart.sum()
    over = (1 / (shares**2).sum(axis=1)).mean()
    order = spearmanr(apart, expected).statistic
    return (
        distance / variance, apart.mean() / inside.mean(), expected.mean() / spread.mean(),
        apart.mean() / expected.mean(), order, inside.mean() / spread.mean(), within, over,
    )  # fmt: skip


def _features(held: ImageData, encoder: Encoder, name: str) -> tuple[Array, npt.NDArray[np.int64]]:
    images: ImageSet = held.of(name)
    x = EncoderSource(held, encoder, EXTRACTION).extract(config.TASKS["unseen"], images)["output"].x
    return np.asarray(x, dtype=np.float64), np.unique(images.labels, return_inverse=True)[1]


def _pairs(x: Array) -> Array:
    """Return the squared distance of every two rows."""
    i, j = np.triu_indices(len(x), 1)
    squared: Array = ((x[i] - x[j]) ** 2).sum(axis=1)
    return squared
