"""What is done with one encoder: splits, features, evaluation, measures, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slmlp import config

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit
    from slmlp.exports import Exported
    from slmlp.probes.features import Features
    from slmlp.results.records import Result


def split(
    data_source: str, out: str | Path, rule: config.Split | None = None, options: config.DataOptions | None = None
) -> ConceptSplit:
    """Hold classes out by a rule, find near-identical images on both sides, and save the split file.

    Args:
        data_source: the images, as ``pretrain`` takes them.
        out: the split file (JSON).
        rule: which classes are held out; default: by superclass where the data has them, else at random.
        options: how the images are taken in.

    Raises:
        SlmlpError: bad input, or ``out`` holds another split.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> halves = split(f"{folder}/images.npz", f"{folder}/s.json", config.Split(by="random", unseen_fraction=0.5))
    >>> len(halves.source), len(halves.unseen)
    (3, 3)
    """
    from slmlp.experiments import features as of_encoder

    return of_encoder.split(data_source, Path(out), rule or config.Split(), options or config.DataOptions())


def features(
    encoder: str | Path,
    data_source: str,
    *,
    classes: str = "all",
    part: str = "all",
    split: str | Path | None = None,
    layer: str = "output",
    cfg: config.TaskSettings | None = None,
    out: str | Path | None = None,
) -> Features:
    """Return an encoder's features: x (N, D) float32, y (N,) with class names, ids, groups and parts.

    Several processes share the work; the first returns all features, the others those of no image.

    Args:
        encoder: as ``evaluate`` takes it, or an encoder file.
        data_source: the images, as ``pretrain`` takes them.
        classes: ``source``, ``unseen`` or ``all``: side of the split.
        part: ``train``, ``test`` or ``all``.
        split: split file; default: the run's own.
        layer: one of ``encoders.layers.names``: ``output``, ``stage4``, ``block6``, ``projector.output`` ...
        cfg: settings, of which data, preprocessing and extraction are used.
        out: a new file, as ``features.npz``, that they are saved to; ``features.data.json`` and, where files were
            unreadable, ``features.unreadable.txt`` beside it say which images were read.

    Raises:
        SlmlpError: bad input, no image left, features that are not finite, or a file that exists.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8), np.repeat(np.arange(2), 6)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> features("timm:test_resnet@random", f"{folder}/images.npz").x.shape
    (12, 96)
    """
    from slmlp.experiments import features as of_encoder

    settings = cfg or config.TaskSettings()
    place = None if out is None else Path(out)
    return of_encoder.features(str(encoder), data_source, classes, part, split, layer, settings, place)


def evaluate(
    encoder: str | Path,
    data_source: str | None = None,
    *,
    task: str | Sequence[str] = (),
    datasets: str | None = None,
    split: str | Path | ConceptSplit | None = None,
    out: str | Path | None = None,
    cfg: config.TaskSettings | None = None,
) -> list[Result]:
    """Evaluate an encoder's frozen features; the results are returned and appended to ``out/results.jsonl``.

    Args:
        encoder: a run's folder, ``timm:NAME[@FILE]``, ``torchvision:NAME[@FILE]``, an ONNX file, ``module:function``,
            or an .npz file of features, which needs no data.
        data_source: the images, as ``pretrain`` takes them.
        task: one or several of ``config.OFFERED``; default ``unseen`` under a split (5-fold cross-validation on the
            held-out classes), else ``linear``.
        datasets: a folder of data sets, each evaluated.
        split: default: the run's own, for the tasks that need one.
        out: default ``RUN/evaluation``, or ``NAME-evaluation`` here.
        cfg: the tasks' settings.

    Returns:
        One record per metric: ``value`` and ``interval`` are shares, 0 to 1.

    Raises:
        SlmlpError: bad input.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> halves = split(f"{folder}/images.npz", f"{folder}/s.json", config.Split(by="random", unseen_fraction=0.5))
    >>> small = config.Training(encoder="resnet10", image_size=16, batch_size=12, epochs=1)
    >>> from slmlp.api import pretrain
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", split=halves, training=small, progress=False)
    >>> [(row.metric, row.n) for row in evaluate(run.path, f"{folder}/images.npz")]
    [('accuracy', 36), ('mean_class_accuracy', 36)]
    """
    from slmlp.experiments import single

    tasks = (task,) if isinstance(task, str) else tuple(task)
    return single.evaluate(encoder, data_source, datasets, split, tasks, out, cfg or config.TaskSettings())


def measure(
    source: str | Path | Features, unseen: str | Path | Features | None = None, cfg: config.Measures | None = None
) -> dict[str, float]:
    """Return the paper's measures of a feature space by name; docs/measures.md explains each.

    Args:
        source: features of the classes pretrained on, of images that were not trained on: a value, or an .npz file
            with x (N, D) and y (N,).
        unseen: features of held-out classes, for mixtureness and their own measures.
        cfg: neighbours, distance, images per class.

    Raises:
        SlmlpError: a file that holds no features, features that are not finite, or too few classes or images.

    >>> import numpy as np, tempfile
    >>> x, y = np.random.default_rng(0).normal(size=(60, 8)), np.repeat(np.arange(3), 20)
    >>> np.savez(file := f"{tempfile.mkdtemp()}/f.npz", x=x + y[:, None], y=y)
    >>> measure(file)["n_per_class"]
    20.0
    """
    from slmlp.probes.features import Features
    from slmlp.probes.measures import measures

    opened = [Features.load(Path(given)) if isinstance(given, str | Path) else given for given in (source, unseen)]
    return measures.measure(opened[0], opened[1], cfg or config.Measures())


def export(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    data: str = "emoji",
    images: int = 16,
    with_projector: bool = False,
    classifier: int | None = None,
    license: str = "unknown",
    opset: int = 18,
) -> Exported:
    """Write an encoder for another tool, load it there, and compare features on real images.

    Args:
        run: a finished run's folder, or an encoder file.
        to: one of ``exports.TARGETS``.
        out: the new file, or the new folder for ``hf``.
        data: the images that features are compared on, as ``pretrain`` takes them.
        images: how many of them.
        with_projector: whether the run's projector is exported too.
        classifier: classes of a fresh, untrained classifier, for targets whose networks have one; None for none.
        license: of the weights, as the Hugging Face hub names licences.
        opset: of ONNX.

    Raises:
        SlmlpError: a target that cannot hold the encoder, a file that exists, a key that is missing or left over, or
            features that differ; nothing is left behind.

    Example: ``slmlp.export("my-run", "onnx", "encoder.onnx").differences``.
    """
    from slmlp import exports

    return exports.export(
        run, to, out, data=data, images=images, with_projector=with_projector, classifier=classifier, license=license,
        opset=opset,
    )  # fmt: skip
