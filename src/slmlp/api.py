"""The functions behind the commands, for Python: each takes plain values and returns what it made."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from slmlp import config, data, dist, processes, recipes, results
from slmlp.agreement import by_first, exchange, in_turn, same
from slmlp.concepts import split as concepts
from slmlp.concepts.split import ConceptSplit
from slmlp.corpus import Corpus, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder
from slmlp.errors import SlmlpError
from slmlp.evaluation import Evaluation, encoder_hashes
from slmlp.features import Features, extract
from slmlp.job import Job
from slmlp.ledger import Subject
from slmlp.pretraining import run_job
from slmlp.progress import say
from slmlp.results import Result
from slmlp.run import Run
from slmlp.studies import leaks


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
        recipe: name of a published row (``slmlp.recipes``), whose settings are the defaults of those below.
        projector: overrides of the method's projector.
        settings: overrides of the method's other settings, by name.
        split: only its source classes are trained on.
        labels: ``class`` or ``class_group``.
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
    with dist.joined():
        held = in_turn(lambda: _checked_split(split, job))
        return run_job(job, Path(out), split=held, progress=progress)


def _checked_split(split: str | Path | ConceptSplit | None, job: Job) -> ConceptSplit | None:
    """Return the split that a job is to be trained under, said where it was made for other files."""
    held = split if isinstance(split, ConceptSplit) or split is None else ConceptSplit.load(Path(split))
    if held is not None:
        _warn_of_other_data(held, data.load(job.data, job.options, seed=held.seed))
    return held


def located(source: str) -> str:
    """Return a path as an absolute one, so that a run can be resumed from any folder; names stay as they are."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def resume(run: str | Path, *, threads: int | None = None, progress: bool = True) -> Run:
    """Go on with a run that was stopped; on a CPU it ends with the weights of the run that was not, bit for bit."""
    with dist.joined():
        stopped = Run(Path(run))
        job, held = by_first(lambda: _stopped(stopped))
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
        corpus = Corpus(images, options, Path(options.cache_dir or folder), leaks.SIDE, progress=True)
        made = leaks.check(made, corpus, concepts.apply(made, corpus.images))
    made.save(Path(out))
    return made


def evaluate(
    run: str | Path,
    data_source: str,
    *,
    split: str | Path | None = None,
    task: str = "unseen",
    out: str | Path | None = None,
    probe: config.Probe | None = None,
    options: config.DataOptions | None = None,
) -> list[Result]:
    """Probe a run's frozen features and return the result lines, which are also added to ``out/results.jsonl``.

    ``task`` is ``unseen`` (5-fold cross-fitting on the held-out classes) or ``source`` (train and test part of the
    source classes). ``out`` defaults to ``RUN/evaluation``.

    >>> import numpy as np, tempfile
    >>> folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    >>> x, y = rng.integers(0, 255, (72, 16, 16, 3), dtype=np.uint8), np.repeat(np.arange(6), 12)
    >>> np.savez(f"{folder}/images.npz", x=x, y=y)
    >>> held = split(f"{folder}/images.npz", f"{folder}/split.json", config.Split(by="random", unseen_fraction=0.5))
    >>> small = config.Training(encoder="resnet10", image_size=16, batch_size=12, epochs=1)
    >>> run = pretrain(f"{folder}/images.npz", f"{folder}/run", split=held, training=small, progress=False)
    >>> [(row.metric, row.n) for row in evaluate(run.path, f"{folder}/images.npz")]
    [('accuracy', 36), ('mean_class_accuracy', 36)]
    """
    opened = Run(Path(run))
    folder = Path(out) if out else opened.path / "evaluation"
    with dist.joined():
        encoder, (images, held) = in_turn(lambda: (opened.encoder(), _images(opened, data_source, split, options)))
        if held is None:
            raise SlmlpError(f"{run} was trained without a split: give one with --split, so that classes are held out")
        corpus = _decoded(images, encoder, folder / "cache", options)
        room = Evaluation(corpus, corpus.images, held, folder, probe or config.Probe(), config.Measures())
        hashes, transform = encoder_hashes(encoder)
        same({**hashes, "data": images.hash(), "split": held.hash()})
        if processes.many():  # the features are everybody's work, what is made of them the first one's
            for part in room.images_of(task):
                extract(encoder, corpus, part, room.features_cache, together=True)

        def probed() -> list[Result]:
            job = Job.from_json(opened.config["job"], str(opened.path / "config.json"))
            subject = Subject(
                opened.name, job.method, job.training.encoder, job.seed, "final", None, job.training.base_lr, job.labels
            )
            room.run(subject, room.extractor(encoder), hashes, (task,), transform)
            lines = results.read(room.results_file)
            return [line for line in lines if line.task == task and line.hashes["encoder"] == hashes["encoder"]]

        return by_first(probed)


def _decoded(images: ImageSet, encoder: Encoder, cache: Path, options: config.DataOptions | None) -> Corpus:
    """Return the images as the encoder is evaluated on them, decoded once on each machine."""
    taken = shared_memory(options or config.DataOptions())
    return in_turn(lambda: Corpus(images, taken, cache, encoder.preprocess.side, True))


def features(
    run: str | Path,
    data_source: str,
    *,
    classes: str = "all",
    part: str = "all",
    split: str | Path | None = None,
    options: config.DataOptions | None = None,
) -> Features:
    """Return the features of a run (or an encoder file) on images of one side of its split and one part.

    Several processes share the work; the first returns all features, the others those of no image.
    """
    path = Path(run)
    with dist.joined(), tempfile.TemporaryDirectory() as folder:
        encoder, images = in_turn(lambda: _asked(path, data_source, classes, part, split, options))
        same({"encoder": encoder.hash(), "data": images.hash()})
        # decoded once on each machine, by the first process there, whose folder the others read
        cache = Path(exchange(folder)[processes.rank() - processes.local_rank()])
        corpus = _decoded(images, encoder, cache, options)
        return extract(encoder, corpus, corpus.images, together=True)


def _asked(
    path: Path, data_source: str, classes: str, part: str, split: str | Path | None, options: config.DataOptions | None
) -> tuple[Encoder, ImageSet]:
    """Return an encoder and the images whose features are asked for."""
    encoder = Encoder.load(path)
    images, held = _images(Run(path), data_source, split, options)
    if classes != "all":
        if held is None:
            raise SlmlpError(f"--classes {classes} needs a split, and {path} has none; give --split FILE")
        images = images.of_classes(held.source if classes == "source" else held.unseen)
    images = images.of_part(part)
    if not len(images):
        raise SlmlpError(f"{data_source} has no images in the {part} part")
    return encoder, images


def _images(
    run: Run, source: str, split: str | Path | None, options: config.DataOptions | None
) -> tuple[ImageSet, ConceptSplit | None]:
    """Return the images under the given split, else the run's own, and that split."""
    held = ConceptSplit.load(Path(split)) if split else run.split if run.path.is_dir() else None
    images = data.load(source, options or config.DataOptions(), seed=held.seed if held else 0)
    if held is None:
        return images, None
    _warn_of_other_data(held, images)
    return concepts.apply(held, images), held


def _warn_of_other_data(held: ConceptSplit, images: ImageSet) -> None:
    """Say when a split's classes are there but not the very files it was made for; missing classes are an error."""
    held.check(images, strict=False)
    found = images.of_classes((*held.source, *held.unseen)).hash()
    if found != held.data_hash:
        say(
            f"warning: the split was made for data hash {held.data_hash[:12]}, {images.source} has {found[:12]}: the "
            "classes agree, the files do not; numbers pair only with runs on the same files"
        )
