"""The images, split, settings and contenders of a study, and the engine that evaluates them."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from slmlp import config, data
from slmlp.config import adapt
from slmlp.config.tasks import LAYERWISE
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.splits import classes as concepts
from slmlp.data.splits import leaks
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.targets import check_one_label
from slmlp.encoders import Encoder, layers
from slmlp.encoders.projector_file import load_projector
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.evaluation.tasks.common import check_gallery
from slmlp.experiments.study import owner
from slmlp.experiments.study.specs import Spec, candidates, check_training, parse_all, variants
from slmlp.results.store import Subject
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import absolute
from slmlp.runtime.progress import say
from slmlp.train.job import Job, check_plugin
from slmlp.train.measure import cache_of, sample
from slmlp.train.prepare import adapted, prepare, size_and_interpolation, training_images
from slmlp.train.pretrain import check, run_job
from slmlp.train.run import Run
from slmlp.train.tracking import trackers

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
    chosen: dict[str, str] = dataclasses.field(default_factory=dict)  # what nobody gave -> value and reason
    inner: ConceptSplit | None = None  # of the source classes, with --select unseen-inner

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of final encoders and baselines."""
        return (*TASKS, *self.asked)

    @property
    def asked(self) -> tuple[str, ...]:
        """The tasks beside those of every study."""
        return config.load_tasks(self.cfg.tasks)

    @property
    def candidates(self) -> tuple[Spec, ...]:
        """The contenders at every combination of the settings that are varied."""
        return tuple(one for spec in self.specs for one in self.variants(spec))

    def variants(self, spec: Spec) -> tuple[Spec, ...]:
        """Return a contender at every combination of the settings that are varied, one that was chosen by itself."""
        return (spec,) if spec.variant_of else variants(spec, self.cfg.vary)

    def spec(self, name: str) -> Spec:
        """Return the contender of a name."""
        return next(spec for spec in (*self.specs, *self.candidates) if spec.name == name)

    def job(self, spec: Spec, base_lr: float, seed: int, *, validation: bool = False) -> Job:
        """Return the job of one run."""
        return _job(self.source, self.cfg, spec, base_lr, seed, validation)

    def run(self, spec: Spec, seed: int) -> Run:
        """Return the final run of a contender, done or not."""
        return Run(self.folder / "runs" / spec.run(seed))

    def features(self, encoder: Encoder, projector: nn.Module | None = None) -> EncoderSource:
        """Return the source of an encoder's features, and of those behind its run's projector."""
        return EncoderSource(self.data, encoder, EXTRACTION, projector)

    def pretrain(self, run: Run, job: Job, split: ConceptSplit | None = None) -> None:
        """Train a run, or go on with it, under the study's split or another one."""
        run_job(job, run.path, split=split or self.split, image_cache=self.image_cache, store=self.folder)

    def finish(self, spec: Spec, rate: float, seed: int) -> None:
        """Train a final run and evaluate its last encoder, whose numbers count, and those saved on the way."""
        run, job = self.run(spec, seed), self.job(spec, rate, seed)
        self.pretrain(run, job)
        for subject, source in self._sources(run, spec, rate, seed):
            asked = self.tasks_of(subject, source.encoder)
            self.engine.run(subject, source, asked)
            tracked = trackers(run, job, self.folder, 0) if subject.epoch is None else None
            if tracked is not None:
                rows = self.engine.lines(self.engine.keys(subject, source, asked))
                tracked.results({f"{row.task} {row.metric}": row.value for row in rows if row.layer == "output"})
                tracked.close()

    def done(self, spec: Spec, rate: float, seed: int) -> bool:
        """Return whether ``finish`` would do nothing."""
        run = self.run(spec, seed)
        return self.trained(run, self.job(spec, rate, seed)) and all(
            not self.engine.store.missing(self.engine.keys(subject, source, self.tasks_of(subject, source.encoder)))
            for subject, source in self._sources(run, spec, rate, seed)
        )

    def tasks_of(self, subject: Subject, encoder: Encoder) -> tuple[str, ...]:
        """Return the tasks of an encoder, whose stages may be unknown: then it is not probed at every layer."""
        if subject.epoch is not None:
            return TASKS
        inside = subject.seed < self.cfg.layer_seeds and len(layers.names(encoder)) > 1
        return (*self.tasks, *(LAYERWISE if inside else ()))

    def trained(self, run: Run, job: Job, split: ConceptSplit | None = None) -> bool:
        """Return whether a run is finished and was trained for ``job`` under the study's split, or another one."""
        if not run.finished:
            return False
        identity = run.config.get("identity", {})
        return (identity.get("job"), identity.get("split")) == (job.hash(), (split or self.split).hash())

    def _sources(self, run: Run, spec: Spec, rate: float, seed: int) -> Iterator[tuple[Subject, EncoderSource]]:
        """Yield the last encoder of a final run and those saved on the way, each with the subject of its numbers.

        Only the last one's projector is kept.
        """
        subject = Subject(run.name, spec.name, self.cfg.training.network, seed, "final", None, rate, self.cfg.labels)
        for epoch in (None, *run.kept_epochs):
            encoder = run.encoder(epoch)
            if epoch is None:
                yield subject, self.features(encoder, load_projector(run.path, encoder.dim))
            else:
                yield dataclasses.replace(subject, role="curve", epoch=epoch), self.features(encoder)


def open_study(
    source: str, folder: Path, cfg: config.Study, *, quiet: bool = False, overwrite: bool = False,
    trial_of: Path | None = None,
) -> Context:  # fmt: skip
    """Load, split and decode the data, choose what nobody gave, and make sure that the folder belongs to this study.

    All that can be checked is, before the first file is written. With ``trial_of``, the folder of the study, the one
    opened is for a look only: the images are those that a plan is measured on.
    """
    specs = parse_all(cfg.methods)
    every = candidates(cfg)
    check_one_label(cfg.data)
    images = data.load(source, cfg.data, seed=cfg.split.seed, senses=cfg.split.senses)
    place = owner.find(trial_of or folder, cfg, images, overwrite=overwrite)
    split = ConceptSplit.load(place.split) if place.split else concepts.make(images, cfg.split)
    images = concepts.apply(split, images)
    inner = _inner(split, images, cfg)
    _check_galleries(cfg, images.of_classes(split.unseen))
    cfg, resize, chosen = _settle(source, cfg, every, images, inner or split, place, quiet=quiet)
    if trial_of is not None:
        few = sample(prepare(_job(source, cfg, specs[0], cfg.grid[0], 0, False), images, split), cfg.training.batch)
        held = cache_of(few, cfg.data, folder, resize)
        opened = ImageData(images.name, images, held, folder, split)
        return Context(source, folder, cfg, specs, images, split, held, opened, Engine(folder, cfg), chosen, inner)
    cache = Path(cfg.data.cache_dir) if cfg.data.cache_dir else folder / "cache"
    image_cache = ImageCache(images, cfg.data, cache, resize, progress=not quiet)
    chosen = owner.claim(place, cfg, images, split, chosen, image_cache.mark)
    images = image_cache.images
    if not (folder / "split.json").exists():
        split = leaks.check(split, image_cache, images)
        split.save(folder / "split.json")
    if inner is not None:
        inner.save(folder / "inner-split.json")
    if not quiet:
        data.announce(images, folder)
        say(f"split: {len(split.source)} source classes, {len(split.unseen)} held out ({split.rule})")
        if split.senses:  # a wrong sense puts a class on the wrong side: worth a look before hours of training
            say("senses: " + "; ".join(f"{name} = {sense}" for name, sense in split.senses.items()))
    opened = ImageData(images.name, images, image_cache, folder / "cache" / "features", split)
    return Context(source, folder, cfg, specs, images, split, image_cache, opened, Engine(folder, cfg), chosen, inner)


def _inner(split: ConceptSplit, images: ImageSet, cfg: config.Study) -> ConceptSplit | None:
    """Return the split of the source classes that choices are made on, with ``--select unseen-inner``."""
    if cfg.select == "source":
        return None
    try:
        return concepts.inner(split, images, cfg.split)
    except SlmlpError as error:
        raise SlmlpError(
            f"--select unseen-inner splits the {len(split.source)} source classes again: {error}"
        ) from error


def _check_galleries(cfg: config.Study, unseen: ImageSet) -> None:
    """Raise SlmlpError where an image would have fewer neighbours than a task asks for, before anything is trained."""
    for task, flag, k in (
        ("unseen-knn", "--knn.neighbours", cfg.knn.neighbours),
        ("unseen-retrieval", "--retrieval.recall-at", max(cfg.retrieval.recall_at)),
    ):
        if task in cfg.tasks:
            check_gallery(task, flag, k, unseen.groups, unseen.groups, own_group=False)


def _settle(
    source: str, cfg: config.Study, specs: Sequence[Spec], images: ImageSet, split: ConceptSplit, place: owner.Place,
    *, quiet: bool,
) -> tuple[config.Study, Resize, dict[str, str]]:  # fmt: skip
    """Return the settings with what nobody gave, as the folder has it or chosen now, and how images are resized.

    ``split`` is that of the runs with the fewest images.

    Raises:
        SlmlpError: what the first run of a contender would stop with.
    """
    held_back = cfg.selects and cfg.select == "source"
    smallest, _ = training_images(_job(source, cfg, specs[0], cfg.grid[0], 0, held_back), images, split)
    why: dict[str, str] = {}
    if place.owner is not None:
        training = adapt.as_before(cfg.training, place.owner["settings"]["training"])
    else:
        training, why = adapted(cfg.training, images.of_part("train"), len(smallest))
        if why and not quiet:
            say(adapt.sentence(why))
    size, interpolation = size_and_interpolation(training, images.of_part("train"))
    cfg = dataclasses.replace(cfg, training=dataclasses.replace(training, image_size=size))
    check_training(specs, cfg)
    for spec in specs if not quiet and place.owner is not None else ():
        _check_plugin(place.folder / "runs", spec)
    for spec in specs if not quiet else ():
        if place.owner is None or not Run(place.folder / "runs" / spec.run(0)).path.exists():
            try:
                check(_job(source, cfg, spec, cfg.grid[0], 0, held_back), images, split)
            except SlmlpError as error:
                if ":" not in spec.text:
                    raise
                raise SlmlpError(f"--methods {spec.text}: {error}") from error
    return cfg, Resize(training_side(size), interpolation), why


def _check_plugin(runs: Path, spec: Spec) -> None:
    """Raise SlmlpError where a contender has runs of another text of its code, before anything else is trained."""
    for path in [*runs.glob(f"{glob.escape(spec.folder)}-rate*"), *runs.glob(f"{glob.escape(spec.folder)}-seed*")]:
        if (path / "config.json").exists():
            saved = Job.from_json(Run(path).config["job"], str(path / "config.json")).plugin
            if saved is not None:
                check_plugin(spec.method, saved, str(path))


def _job(source: str, cfg: config.Study, spec: Spec, base_lr: float, seed: int, validation: bool) -> Job:
    """Return the job of one run; all that differs between methods is the method."""
    keep = cfg.training.save_every if seed < cfg.curve_seeds and not validation else 0
    training = dataclasses.replace(cfg.training, **spec.training, base_lr=base_lr, save_every=keep)
    return Job(
        data=source,
        method=absolute(spec.method),
        plugin=config.method_source(spec.method),
        settings=spec.settings,
        training=training,
        options=cfg.data,
        labels=cfg.labels,
        seed=seed,
        validation_fraction=cfg.validation_fraction if validation else 0.0,
        validation_seed=cfg.split.seed,
    )
