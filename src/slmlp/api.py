"""The functions behind the commands, one each: plain values in, the result out.

Nothing heavy is imported until a function is called. Each writes into the folder ``out`` that it is given and resumes
what that folder holds: calling it again with the same settings computes only what is missing. All raise SlmlpError,
one line that names the culprit and the fix, for bad input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmlp import config
from slmlp.config import recipes

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit
    from slmlp.exports import Exported
    from slmlp.probes.features import Features
    from slmlp.results.records import Result
    from slmlp.train.run import Run


def pretrain(
    data_source: str,
    out: str | Path,
    *,
    method: str | None = None,
    recipe: str | None = None,
    projector: Mapping[str, Any] | None = None,
    settings: config.MethodConfig | Mapping[str, Any] | None = None,
    split: str | Path | ConceptSplit | None = None,
    labels: str = "class",
    seed: int = 0,
    training: config.Training | None = None,
    options: config.DataOptions | None = None,
    validation_fraction: float = 0.0,
    progress: bool = True,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Run:
    """Pretrain one encoder into the folder ``out`` and return the run.

    Args:
        data_source: folder of class folders, tar, manifest, .npz, ``torchvision:NAME`` or ``emoji``.
        out: a new folder.
        method: one of ``config.METHOD_CONFIGS``; default: the recipe's, else ``sl-mlp``.
        recipe: name of a recipe (``slmlp.recipes``), whose settings are the defaults of those below.
        projector: settings of the method's projector to override, by name: ``{"depth": 2, "out": 256}``.
        settings: all settings of the method, or those to override, by name.
        split: only its source classes are trained on.
        labels: labels used for pretraining, ``class`` or ``superclass``.
        seed: of encoder weights, head weights, data order and augmentation.
        training: epochs, rate, augmentation and the rest; replaces the recipe's as a whole. Encoder, epochs, image and
            batch size that are None are chosen by the images and the machine.
        options: how the images are taken in.
        validation_fraction: share of the training images held back, 0 to below 1.
        progress: whether to show progress on stderr.
        overwrite: whether another run in ``out`` is removed.
        dry_run: whether only the plan is said, and nothing is written; the run that is returned does not exist then.

    Raises:
        SlmlpError: bad input, another run in ``out``, or training that diverges.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> small = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=1)
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", training=small, progress=False)
    >>> run.encoder().transform(x[:2]).shape
    (2, 256)
    """
    from slmlp.train import launch
    from slmlp.train.job import Job

    preset = recipes.chosen(recipe, method)
    method = preset.method if preset else method or "sl-mlp"
    base = preset.settings if preset else None
    if isinstance(settings, config.MethodConfig):
        base, settings = settings, None
    of_method = config.method_config(method, projector, base)
    job = Job(
        data=str(Path(data_source).resolve()) if Path(data_source).exists() else data_source,  # to resume from anywhere
        method=method, settings=dataclasses.replace(of_method, **(settings or {})), recipe=recipe, labels=labels,
        training=training or (preset.training if preset else config.Training()), seed=seed,
        options=options or config.DataOptions(), validation_fraction=validation_fraction,
    )  # fmt: skip
    return launch.start(job, Path(out), split, progress=progress, overwrite=overwrite, dry_run=dry_run)


def resume(run: str | Path, data_source: str | None = None, *, progress: bool = True, **changes: Any) -> Run:
    """Resume a run that was stopped; on a CPU its weights equal those of an uninterrupted run, bit for bit.

    Args:
        run: folder of the run.
        data_source: where the run's images are now, if they were moved; the same images, by their hash.
        progress: whether to show progress on stderr.
        changes: settings that decide no weights, in place of the run's: ``threads``, ``device``, ``workers``,
            ``checkpoint_minutes``, ``save_every``, ``memory_limit_gb``, ``device_memory_gb``, ``cache_dir``,
            ``allow_unreadable``.

    Raises:
        SlmlpError: ``run`` is no run, finished, or in use; other images; a setting that decides weights.
    """
    from slmlp.train import launch

    return launch.resume(Path(run), data_source, changes, progress=progress)


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
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", split=halves, training=small, progress=False)
    >>> [(row.metric, row.n) for row in evaluate(run.path, f"{folder}/images.npz")]
    [('accuracy', 36), ('mean_class_accuracy', 36)]
    """
    from slmlp.experiments import single

    tasks = (task,) if isinstance(task, str) else tuple(task)
    return single.evaluate(encoder, data_source, datasets, split, tasks, out, cfg or config.TaskSettings())


def study(
    source: str, out: str | Path, cfg: config.Study | None = None, *, demo: bool = False, overwrite: bool = False,
    dry_run: bool = False,
) -> Path:  # fmt: skip
    """Compare pretraining methods on held-out classes; return the page, ``out/report.html``.

    Holds classes out, chooses each method's rate by source validation, pretrains every method over seeds, evaluates
    the encoders, and writes results, verdict and page. Called again in the same folder it resumes; ``seeds`` may be
    raised and ``methods`` changed.

    Args:
        source: the images, as ``pretrain`` takes them.
        out: folder of the study.
        cfg: methods, seeds, rates and all settings; default ``config.Study()``.
        demo: whether the page calls itself a demonstration.
        overwrite: whether another study in ``out`` is removed; one without a finished run always is.
        dry_run: whether only the plan is said, and nothing is written; there is no page then.

    Raises:
        SlmlpError: bad input, or a folder that holds a study of other data or settings.

    Example: ``slmlp.study("MY_IMAGES", "my-study", slmlp.Study(seeds=3))``.
    """
    from slmlp.experiments.study import main

    return main.study(source, out, cfg, demo=demo, overwrite=overwrite, dry_run=dry_run)


def suite(
    encoders: Sequence[str],
    out: str | Path,
    *,
    datasets: str | None = None,
    sources: Sequence[str] = (),
    split: str | Path | None = None,
    cfg: config.Suite | None = None,
) -> Path:
    """Evaluate encoders, and untrained ones of the same networks, on every data set; return the page's path.

    Args:
        encoders: each as ``evaluate`` takes it, or as NAME=ENCODER. Runs of one method are its seeds. The name of the
            first is the baseline of every difference.
        out: folder of results.jsonl, predictions, verdict.json and report.html; what it holds is not done again.
        datasets: folder of data sets: folders or tars, known ones under their protocol.
        sources: data sets beside those, each as ``pretrain`` takes it.
        split: split file, for the tasks that need one; data sets without its classes are refused.
        cfg: tasks and their settings.

    Raises:
        SlmlpError: bad input.

    Example: ``slmlp.suite(["sl-run", "mlp-run"], "my-suite", sources=["torchvision:FashionMNIST"])``.
    """
    from slmlp.experiments.suite import main

    return main.suite(encoders, out, datasets=datasets, sources=sources, split=split, cfg=cfg)


def compare(runs: Sequence[str | Path], out: str | Path, *, probe: config.Probe | None = None) -> Path:
    """Compare finished runs on the held-out classes of their split; return the page, ``out/report.html``.

    Args:
        runs: folders of runs of one data set and split. Runs of one method are its seeds; the first run's method is
            the baseline. Differences are paired over the seeds that all methods have.
        out: folder of the comparison.
        probe: settings of the linear probe.

    Raises:
        SlmlpError: runs of other data or splits, a run without a split, two runs of one method and seed, no common
            seed.

    Example: ``slmlp.compare(["sl-0", "sl-1", "mlp-0", "mlp-1"], "comparison")``.
    """
    from slmlp.experiments import compare as comparing

    return comparing.compare(runs, out, probe=probe)


def detect(
    encoders: Sequence[str],
    data: str | None,
    out: str | Path,
    *,
    given: Mapping[str, tuple[str | None, str | None]] | None = None,
    cfg: config.Detection | None = None,
) -> Path:
    """Train a detector on every encoder and its controls, compare their AP, and return the page's path.

    Args:
        encoders: runs' folders or encoder files, each also as NAME=ENCODER; encoders of one name are its seeds. The
            first name is the baseline of every difference.
        data: a folder or tar in COCO's layout (annotations/instances_train*.json, instances_val*.json and their
            images); None where ``given`` names the files.
        out: folder of results.jsonl, predictions, pictures, detectors and report.html; what it holds is not done
            again.
        given: part (``train``, ``val``, ``test``) -> (annotations file, folder of its images).
        cfg: settings.

    Raises:
        SlmlpError: bad input, or the extra ``detection`` is not installed; nothing is written then.

    Example: ``slmlp.detect(["sl-run", "mlp-run"], "COCO", "my-detection")``.
    """
    from slmlp.detection import main

    return main.detect(encoders, data, out, given=given, cfg=cfg)


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
