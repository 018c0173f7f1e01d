"""The images, split, settings and contenders of a study, and the engine that evaluates them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from slmlp import config, data
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.splits import classes as concepts
from slmlp.data.splits import leaks
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.targets import refuse_several
from slmlp.encoders import Encoder
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.evaluation.tasks.common import check_gallery
from slmlp.experiments.study.specs import Spec, check_training, parse_all
from slmlp.results.store import Subject
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.train.job import Job
from slmlp.train.pretrain import run_job, size_and_interpolation
from slmlp.train.run import Run

TASKS = ("unseen", "source", "measures")  # of every study, and of every encoder kept on the way
EXTRACTION = config.Extraction(device="cpu", precision="float32")


@dataclass(frozen=True)
class Context:
    """An open study: everything that its runs share."""

    source: str
    folder: Path
    cfg: config.Study
    specs: tuple[Spec, ...]
    images: ImageSet
    split: ConceptSplit
    image_cache: ImageCache
    data: ImageData
    engine: Engine

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of final encoders and baselines."""
        return (*TASKS, *dict.fromkeys(self.cfg.tasks))

    def job(self, spec: Spec, base_lr: float, seed: int, *, validation: bool = False) -> Job:
        """Return the job of one run; all that differs between methods is the method."""
        keep = self.cfg.training.save_every if seed < self.cfg.curve_seeds and not validation else 0
        training = dataclasses.replace(self.cfg.training, **spec.training, base_lr=base_lr, save_every=keep)
        return Job(
            data=self.source,
            method=spec.method,
            settings=spec.settings,
            training=training,
            options=self.cfg.data,
            labels=self.cfg.labels,
            seed=seed,
            validation_fraction=self.cfg.validation_fraction if validation else 0.0,
            validation_seed=self.cfg.split.seed,
        )

    def run(self, spec: Spec, seed: int) -> Run:
        """Return the final run of a contender, done or not."""
        return Run(self.folder / "runs" / spec.run(seed))

    def features(self, encoder: Encoder) -> EncoderSource:
        """Return the source of an encoder's features."""
        return EncoderSource(self.data, encoder, EXTRACTION)

    def pretrain(self, run: Run, job: Job) -> None:
        """Train a run, or go on with it."""
        run_job(job, run.path, split=self.split, image_cache=self.image_cache)

    def finish(self, spec: Spec, rate: float, seed: int) -> None:
        """Train a final run and evaluate its last encoder, whose numbers count, and those saved on the way."""
        run = self.run(spec, seed)
        self.pretrain(run, self.job(spec, rate, seed))
        for subject, encoder in self._encoders(run, spec, rate, seed):
            self.engine.run(subject, self.features(encoder), self._of(subject))

    def done(self, spec: Spec, rate: float, seed: int) -> bool:
        """Return whether ``finish`` would do nothing."""
        run = self.run(spec, seed)
        return self.trained(run, self.job(spec, rate, seed)) and all(
            not self.engine.store.missing(self.engine.keys(subject, self.features(encoder), self._of(subject)))
            for subject, encoder in self._encoders(run, spec, rate, seed)
        )

    def _of(self, subject: Subject) -> tuple[str, ...]:
        return self.tasks if subject.epoch is None else TASKS

    def trained(self, run: Run, job: Job) -> bool:
        """Return whether a run is finished and was trained for ``job`` under this split."""
        if not run.finished:
            return False
        identity = run.config.get("identity", {})
        return (identity.get("job"), identity.get("split")) == (job.hash(), self.split.hash())

    def _encoders(self, run: Run, spec: Spec, rate: float, seed: int) -> Iterator[tuple[Subject, Encoder]]:
        """Yield the last encoder of a final run and those saved on the way, each with the subject of its numbers."""
        subject = Subject(run.name, spec.name, self.cfg.training.encoder, seed, "final", None, rate, self.cfg.labels)
        for epoch in (None, *run.kept_epochs):
            yield (
                subject if epoch is None else dataclasses.replace(subject, role="curve", epoch=epoch),
                run.encoder(epoch),
            )


def open_study(source: str, folder: Path, cfg: config.Study, *, quiet: bool = False) -> Context:
    """Load, split and decode the data, and make sure that the folder belongs to this study."""
    specs = parse_all(cfg.methods)
    check_training(specs, cfg)
    refuse_several(cfg.data)
    images = data.load(source, cfg.data, seed=cfg.split.seed, senses=cfg.split.senses)
    split_file = folder / "split.json"
    split = ConceptSplit.load(split_file) if split_file.exists() else concepts.make(images, cfg.split)
    images = concepts.apply(split, images)
    size, interpolation = size_and_interpolation(cfg.training, images.of_part("train"))
    cfg = dataclasses.replace(cfg, training=dataclasses.replace(cfg.training, image_size=size))
    claim(folder, cfg, images, split)
    cache = Path(cfg.data.cache_dir) if cfg.data.cache_dir else folder / "cache"
    resize = Resize(training_side(size), interpolation)
    image_cache = ImageCache(images, cfg.data, cache, resize, progress=not quiet)
    images = image_cache.images
    if not split_file.exists():
        split = leaks.check(split, image_cache, images)
        split.save(split_file)
    _check_galleries(cfg, images.of_classes(split.unseen))
    if not quiet:
        data.announce(images, folder)
        say(f"split: {len(split.source)} source classes, {len(split.unseen)} held out ({split.rule})")
        if split.senses:  # a wrong sense puts a class on the wrong side: worth a look before hours of training
            say("senses: " + "; ".join(f"{name} = {sense}" for name, sense in split.senses.items()))
    opened = ImageData(images.name, images, image_cache, folder / "cache" / "features", split)
    return Context(source, folder, cfg, specs, images, split, image_cache, opened, Engine(folder, cfg))


def _check_galleries(cfg: config.Study, unseen: ImageSet) -> None:
    """Raise SlmlpError where an image would have fewer neighbours than a task asks for, before anything is trained."""
    for task, flag, k in (
        ("unseen-knn", "--knn.neighbours", cfg.knn.neighbours),
        ("unseen-retrieval", "--retrieval.recall-at", max(cfg.retrieval.recall_at)),
    ):
        if task in cfg.tasks:
            check_gallery(task, flag, k, unseen.groups, unseen.groups, own_group=False)


class Owner(TypedDict):
    """The content of owner.json: what a study's folder belongs to."""

    schema: int
    data: str
    source_hash: str
    settings: dict[str, Any]


def claim(folder: Path, cfg: config.Study, images: ImageSet, split: ConceptSplit) -> None:
    """Record the study that a folder belongs to, or refuse a folder of other data or settings.

    Raises:
        SlmlpError: the folder belongs to another study, or is not empty and belongs to none.
    """
    file = folder / "owner.json"
    owner = files.as_json(
        {"schema": 1, "data": images.hash(), "source_hash": split.source_hash, "settings": identity(cfg)}
    )
    if file.exists():
        saved_owner = json_files.read(file, Owner)
        if saved_owner != owner:
            differing = sorted(
                {key for key in owner["settings"] if saved_owner["settings"].get(key) != owner["settings"][key]}
                | {key for key in ("data", "source_hash") if saved_owner.get(key) != owner[key]}
            )
            raise SlmlpError(
                f"{folder} holds another study (it differs in {', '.join(differing)}); choose another --out"
            )
        return
    json_files.write(file, owner, seal=True)


def identity(cfg: config.Study) -> dict[str, Any]:
    """Return the settings that must not change when a study goes on; methods, seeds and tasks may be added."""
    values = dataclasses.asdict(cfg) | {"rates": cfg.grid}
    for key in ("methods", "seeds", "curve_seeds", "parallel", "tasks", "knn", "retrieval"):
        values.pop(key)
    values["training"] = config.identity(cfg.training)
    for key in ("threads", "device", "checkpoint_minutes"):
        values["training"].pop(key)
    values["probe"].pop("memory_limit_gb")
    for key in ("memory_limit_gb", "device_memory_gb", "stream_above_gb", "workers", "cache_dir", "label_separator"):
        values["data"].pop(key)
    return values
