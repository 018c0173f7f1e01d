"""Run a suite: every encoder on every data set, resumable, then verdict and page."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmlp import config, data, report
from slmlp.config import command_file
from slmlp.config.sources import absolute
from slmlp.data import published
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.sources.folder import stem
from slmlp.data.splits import classes as concepts
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.encoders.cost import cost
from slmlp.encoders.sources import describe
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.evaluation.tasks import check_tasks
from slmlp.experiments.contenders import Contender, contenders
from slmlp.experiments.planning import MINUTE, Speed
from slmlp.experiments.suite import plan, summary
from slmlp.experiments.suite.untrained import untrained
from slmlp.results.store import slug
from slmlp.runtime import json_files, plugins, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import locked
from slmlp.runtime.progress import plan as dry
from slmlp.runtime.progress import say, warn
from slmlp.train.run import now


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Images of the suite, not opened yet."""

    name: str
    source: str  # as the user gave it
    found: published.FoundDataset | None = None  # where it was found in a folder of data sets

    def open(self, options: config.DataOptions) -> ImageSet:
        """Return the images with a training and a test part, not decoded."""
        if self.found is not None:
            return published.open_found(self.found, options)
        images = data.load(self.source, options)
        if images.several(options.label_separator) and not images.has_test_part:
            raise SlmlpError(
                f"{self.source}: images of several labels need parts in the data, as a column part of train and test"
            )
        return data.ensure_test_part(images, published.TEST_SHARE, 0)


def suite(
    encoders: Sequence[str],
    out: str | Path,
    *,
    datasets: str | None = None,
    sources: Sequence[str] = (),
    split: str | Path | None = None,
    cfg: config.Suite | None = None,
    dry_run: bool = False,
) -> Path:
    """Run a suite; see ``api.suite``. What the folder holds already is not computed again."""
    processes.alone_only("a suite")
    plugins.forget()
    cfg = cfg or config.Suite()
    named = dataclasses.replace(cfg, tasks=check_tasks(cfg.tasks))
    if not encoders:
        raise SlmlpError("slmlp suite needs an encoder: a run's folder, timm:NAME, torchvision:NAME, an ONNX file ...")
    folder = Path(out)
    if dry_run:
        found = _open(encoders, datasets, sources, split, named).plan(named, folder)
        dry(found.words, *found.details)
        say("nothing was written")
        return folder / "report.html"
    with locked(folder, "suite", "results.jsonl"):
        opened = _open(encoders, datasets, sources, split, named)
        found = opened.plan(named, folder)
        if found.seconds > MINUTE:
            say(f"plan: {found.words}")
        values = {"encoders": [absolute(word) for word in encoders], "also": [absolute(word) for word in sources]}
        places = {"datasets": datasets, "split": split}
        command_file.write(
            folder, "suite",
            {**values, **{key: absolute(str(place)) for key, place in places.items() if place is not None}},
            dataclasses.replace(cfg, tasks=tuple(map(plugins.absolute, cfg.tasks))),
        )  # fmt: skip
        command = summary.suite_command(encoders, folder, datasets, sources, str(split) if split else None, cfg)
        return _run(opened, folder, named, command, found.speed)


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a suite is of, checked: nothing is decoded yet."""

    sets: list[tuple[DataSet, ImageSet]]
    missing: tuple[str, ...]  # data sets of Islam et al. 2021 that are not there
    everyone: tuple[Contender, ...]
    split: ConceptSplit | None

    def plan(self, cfg: config.Suite, folder: Path) -> plan.Plan:
        """Return what is left to do."""
        return plan.make([(one.name, images) for one, images in self.sets], self.everyone, cfg, self.split, folder)


def _open(
    encoders: Sequence[str], datasets: str | None, sources: Sequence[str], split: str | Path | None, cfg: config.Suite
) -> Opened:
    sets, missing = data_sets(datasets, sources, cfg.data)
    _check_split(cfg.tasks, split)
    class_split = ConceptSplit.load(Path(split)) if split else None
    trained = contenders(encoders)
    everyone = (*trained, *untrained(trained, cfg.preprocess))
    opened = [(one, one.open(cfg.data)) for one in sets]
    if class_split is not None:
        opened = [(one, concepts.apply(class_split, images)) for one, images in opened]
    return Opened(opened, missing, everyone, class_split)


def _run(opened: Opened, folder: Path, cfg: config.Suite, command: str, speed: Mapping[str, Speed]) -> Path:
    everyone = opened.everyone
    described: dict[str, dict[str, Any]] = {}
    engine = Engine(folder, cfg)
    speed = _speed_before(folder) | dict(speed)
    started = now()
    facts, keys = [], []
    for data_set, listed in opened.sets:
        # for the first encoder; images for others are resized when they are read
        resize = everyone[0].open(cfg.preprocess).preprocess.resize
        images = decoded(data_set.name, listed, cfg.data, folder, resize, opened.split)
        data.announce(images.images, folder / "data" / slug(data_set.name))
        facts.append(summary.data_facts(images))
        for contender in everyone:
            encoder = contender.open(cfg.preprocess)
            if contender.run not in described:
                described[contender.run] = {
                    "described": describe(encoder), **cost(encoder), **speed.get(contender.run, {})
                }  # fmt: skip
                say(f"{contender.run}: {described[contender.run]['described']}")
            if contender.untrained:  # BatchNorm statistics of this data set's training images
                calibrate_norms(encoder, images.image_cache, images.of("train"), images.features_cache)
            source = EncoderSource(images, encoder, cfg.extraction, contender.projector(encoder))
            engine.run(contender.subject(encoder), source, cfg.tasks)
            keys += engine.keys(contender.subject(encoder), source, cfg.tasks)
    engine.lines(keys)
    summary.write(folder, cfg, everyone, described, facts, opened.missing, started, command)
    return report.write(folder)


def _speed_before(folder: Path) -> dict[str, Speed]:
    """Return the speeds of encoders that the suite has measured before: those that are done are not measured again."""
    with contextlib.suppress(OSError, SlmlpError, KeyError, TypeError):
        about = json_files.read(folder / "suite.json", dict[str, Any])
        return {
            one["run"]: {"images_per_second": one["images_per_second"], "measured_on": one["measured_on"]}
            for one in about["encoders"]
        }
    return {}


def data_sets(
    folder: str | None, sources: Sequence[str], options: config.DataOptions
) -> tuple[list[DataSet], tuple[str, ...]]:
    """Return the data sets asked for, each under its own name, and the names of Islam et al. 2021 that are missing."""
    sets: list[DataSet] = []
    missing: tuple[str, ...] = ()
    if folder is not None:
        listed = published.find(folder, options)
        for dataset in listed:
            if dataset.problem is not None:
                warn(f"{dataset.name} is left out: {dataset.problem}")
            else:
                sets.append(DataSet(dataset.name, str(dataset.path), dataset))
        known = any(dataset.entry is not None for dataset in listed)
        missing = published.missing(listed) if known else ()
    sets += [DataSet(stem(Path(source)) if Path(source).exists() else source, source) for source in sources]
    if not sets:
        raise SlmlpError("no data set to evaluate on: give DATA, or --datasets and a folder of data sets")
    names = [data_set.name for data_set in sets]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        same = [data_set.source for data_set in sets if data_set.name == repeated[0]]
        raise SlmlpError(f"{' and '.join(same)} are both named {repeated[0]}: rename one of them")
    return sets, missing


def decoded(
    name: str, images: ImageSet, options: config.DataOptions, folder: Path, resize: Resize, split: ConceptSplit | None
) -> ImageData:
    """Return the images of a data set, decoded and resized for one encoder, in or below the folder of the results."""
    cache = Path(options.cache_dir) if options.cache_dir else folder / "cache"
    image_cache = ImageCache.of_small(images, shared_memory(options), cache, resize, progress=True)
    features = folder / "cache" / "features"
    return ImageData(name, image_cache.images, image_cache, features, split, options.label_separator)


def _check_split(tasks: Sequence[str], split: str | Path | None) -> None:
    wanting = [task for task in tasks if config.task_entry(task).needs_split]
    if wanting and split is None:
        raise SlmlpError(f"--tasks {' '.join(wanting)} need --split FILE: which classes pretraining has not seen")
