"""The functions behind the commands, for Python: each takes plain values and returns what it made."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from slmlp import config, data
from slmlp.config import recipes
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import classes as concepts
from slmlp.data.splits import leaks
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.splits.other_data import warn_of_other_data
from slmlp.encoders import Encoder, layers
from slmlp.encoders.extract import extract
from slmlp.encoders.projector_file import load_projector
from slmlp.encoders.sources import open_encoder
from slmlp.probes.features import Features
from slmlp.results.records import Result
from slmlp.runtime import distributed, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.ranks import all_gather_object, assert_same, on_rank0, rank_by_rank
from slmlp.train.job import Job
from slmlp.train.pretrain import run_job
from slmlp.train.run import Run


def pretrain(
    data_source: str,
    out: str | Path,
    *,
    method: str | None = None,
    recipe: str | None = None,
    projector: config.ProjectorFlags | None = None,
    settings: dict[str, Any] | None = None,
    split: str | Path | ConceptSplit | None = None,
    labels: str = "class",
    seed: int = 0,
    training: config.Training | None = None,
    options: config.DataOptions | None = None,
    validation_fraction: float = 0.0,
    progress: bool = True,
) -> Run:
    """Pretrain one encoder into the folder ``out`` and return the run.

    Args:
        data_source: folder of class folders, tar, manifest, .npz, ``torchvision:NAME`` or ``emoji``.
        out: a new folder.
        method: one of ``config.METHOD_CONFIGS``; default: the recipe's, else ``sl-mlp``.
        recipe: name of a published row (``slmlp.config.recipes``), whose settings are the defaults of those below.
        projector: overrides of the method's projector.
        settings: overrides of the method's other settings, by name.
        split: only its source classes are trained on.
        labels: ``class`` or ``superclass``.
        seed: of encoder weights, head weights, data order and augmentation.
        training: epochs, rate, augmentation and the rest; in place of the recipe's as a whole.
        options: how the images are taken in.
        validation_fraction: share of the training images held back.
        progress: whether to show it on stderr.

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
    known = recipes.chosen(recipe, method)
    method = known.method if known else method or "sl-mlp"
    chosen = config.method_config(method, projector, known.settings if known else None)
    if settings:
        chosen = dataclasses.replace(chosen, **settings)
    training = training or (known.training if known else config.Training())
    job = Job(
        data=located(data_source), method=method, settings=chosen, training=training, recipe=recipe,
        options=options or config.DataOptions(), labels=labels, seed=seed, validation_fraction=validation_fraction,
    )  # fmt: skip
    with distributed.joined():
        held = rank_by_rank(lambda: _checked_split(split, job))
        return run_job(job, Path(out), split=held, progress=progress)


def _checked_split(split: str | Path | ConceptSplit | None, job: Job) -> ConceptSplit | None:
    """Return the split that a job is to be trained under, said where it was made for other files."""
    held = split if isinstance(split, ConceptSplit) or split is None else ConceptSplit.load(Path(split))
    if held is not None:
        warn_of_other_data(held, data.load(job.data, job.options, seed=held.seed))
    return held


def located(source: str) -> str:
    """Return a path as an absolute one, so that a run can be resumed from any folder; names stay as they are."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def resume(run: str | Path, *, threads: int | None = None, progress: bool = True) -> Run:
    """Go on with a run that was stopped; on a CPU it ends with the weights of the run that was not, bit for bit."""
    with distributed.joined():
        stopped = Run(Path(run))
        job, held = on_rank0(lambda: _stopped(stopped))
        if threads is not None:
            job = dataclasses.replace(job, training=dataclasses.replace(job.training, threads=threads))
        return run_job(job, stopped.path, split=held, resume=True, progress=progress)


def _stopped(run: Run) -> tuple[Job, ConceptSplit | None]:
    """Return the job and the split of a run that is not finished."""
    job = Job.from_json(run.config["job"], str(run.path / "config.json"))
    if run.finished:
        raise SlmlpError(f"{run.path} is finished already: its encoder is {run.path / 'encoder.safetensors'}")
    return job, run.split


def split(
    data_source: str, out: str | Path, rule: config.Split | None = None, options: config.DataOptions | None = None
) -> ConceptSplit:
    """Hold classes out by ``rule``, look for near-identical images between the sides, and save the split file.

    Raises:
        SlmlpError: bad input, or ``out`` holds another split.
    """
    options, rule = options or config.DataOptions(), rule or config.Split()
    images = data.load(data_source, options, seed=rule.seed)
    made = concepts.make(images, rule)
    with tempfile.TemporaryDirectory() as folder:
        image_cache = ImageCache(images, options, Path(options.cache_dir or folder), leaks.SIDE, progress=True)
        made = leaks.check(made, image_cache, concepts.apply(made, image_cache.images))
    made.save(Path(out))
    return made


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
    """Evaluate an encoder on tasks and return the result lines, which are also added to ``out/results.jsonl``.

    Args:
        encoder: a run's folder, ``timm:NAME[@FILE]``, ``torchvision:NAME[@FILE]``, an ONNX file, ``module:function``,
            or an .npz file of features, which needs no data.
        data_source: the images.
        task: one or several of ``config.OFFERED``; default ``unseen`` under a split (5-fold cross-validation on
            the held-out classes), else ``linear``.
        datasets: a folder of data sets, each evaluated.
        split: default: the run's own, for the tasks that need one.
        out: default ``RUN/evaluation``, or ``NAME-evaluation`` here.
        cfg: the tasks' settings; its ``tasks`` are not read.

    Raises:
        SlmlpError: bad input.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> held = split(f"{folder}/images.npz", f"{folder}/s.json", config.Split(by="random", unseen_fraction=0.5))
    >>> small = config.Training(encoder="resnet10", image_size=16, batch_size=12, epochs=1)
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", split=held, training=small, progress=False)
    >>> [(row.metric, row.n) for row in evaluate(run.path, f"{folder}/images.npz")]
    [('accuracy', 36), ('mean_class_accuracy', 36)]
    """
    from slmlp.experiments import single

    tasks = (task,) if isinstance(task, str) else tuple(task)
    return single.evaluate(encoder, data_source, datasets, split, tasks, out, cfg or config.TaskSettings())


def _decoded(images: ImageSet, encoder: Encoder, cache: Path, options: config.DataOptions) -> ImageCache:
    """Return the images as the encoder is evaluated on them, decoded once on each machine."""
    return rank_by_rank(
        lambda: ImageCache.of_small(images, shared_memory(options), cache, encoder.preprocess.square, True)
    )


def features(
    encoder: str | Path,
    data_source: str,
    *,
    classes: str = "all",
    part: str = "all",
    split: str | Path | None = None,
    layer: str = "output",
    cfg: config.TaskSettings | None = None,
) -> Features:
    """Return an encoder's features of the images of one side of a split and one part.

    ``encoder`` is what ``evaluate`` takes, or an encoder file; ``layer`` is one of ``encoders.layers.names``; of
    ``cfg`` the settings of data, preprocessing and extraction are read. Several processes share the work; the first
    returns all features, the others those of no image.
    """
    cfg = cfg or config.TaskSettings()
    with distributed.joined(), tempfile.TemporaryDirectory() as folder:
        opened, projector, images = rank_by_rank(
            lambda: _asked(str(encoder), data_source, classes, part, split, layer, cfg)
        )
        assert_same({"encoder": opened.hash(), "data": images.hash()})
        # decoded once on each machine, by the first process there, whose folder the others read
        cache = Path(all_gather_object(folder)[processes.rank() - processes.local_rank()])
        image_cache = _decoded(images, opened, cache, cfg.data)
        asked = cfg.extraction
        return extract(
            opened, image_cache, image_cache.images, None, asked.device, layer=layer, precision=asked.precision,
            projector=projector, batch_size=asked.batch_size, together=True,
        )  # fmt: skip


def _asked(
    source: str,
    data_source: str,
    classes: str,
    part: str,
    split: str | Path | None,
    layer: str,
    cfg: config.TaskSettings,
) -> tuple[Encoder, nn.Module | None, ImageSet]:
    """Return an encoder, the projector that its run has kept, and the images whose features are wanted."""
    encoder = open_encoder(source, overrides=cfg.preprocess)
    projector = load_projector(Path(source), encoder.dim)
    layers.check(encoder, [layer], projector)
    held = ConceptSplit.load(Path(split)) if split else Run(Path(source)).split if Path(source).is_dir() else None
    images = data.load(data_source, cfg.data, seed=held.seed if held else 0)
    if held is not None:
        warn_of_other_data(held, images)
        images = concepts.apply(held, images)
    if classes != "all":
        if held is None:
            raise SlmlpError(f"--classes {classes} needs a split, and {source} has none; give --split FILE")
        images = images.of_classes(held.source if classes == "source" else held.unseen)
    images = images.of_part(part)
    if not len(images):
        raise SlmlpError(f"{data_source} has no images in the {part} part")
    return encoder, projector, images
