"""Run a suite: every encoder on every data set, resumable, then verdict and page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slmlp import config, data, report
from slmlp.data import published
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import classes as concepts
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders.calibrate import calibrate_norms
from slmlp.encoders.cost import cost
from slmlp.encoders.sources import describe
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.evaluation.tasks import check_tasks
from slmlp.experiments.contenders import Contender, contenders
from slmlp.experiments.suite import summary
from slmlp.experiments.suite.untrained import untrained
from slmlp.results.store import slug
from slmlp.runtime import plugins, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import locked
from slmlp.runtime.progress import say, warn


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Images of the suite, not opened yet."""

    name: str
    source: str  # as the user gave it
    found: published.FoundDataset | None = None  # where it was found in a folder of data sets

    def open(self, options: config.DataOptions) -> ImageSet:
        """Return the images with a training and a test part."""
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
) -> Path:
    """Run a suite; see ``api.suite``. What the folder holds already is not computed again."""
    processes.alone_only("a suite")
    plugins.forget()
    cfg = cfg or config.Suite()
    named = dataclasses.replace(cfg, tasks=check_tasks(cfg.tasks))
    if not encoders:
        raise SlmlpError("slmlp suite needs an encoder: a run's folder, timm:NAME, torchvision:NAME, an ONNX file ...")
    with locked(Path(out), "suite", "results.jsonl"):
        command = summary.suite_command(encoders, Path(out), datasets, sources, str(split) if split else None, cfg)
        return _suite(encoders, Path(out), datasets, sources, split, named, command)


def _suite(
    encoders: Sequence[str], folder: Path, datasets: str | None, sources: Sequence[str], split: str | Path | None,
    cfg: config.Suite, command: str,
) -> Path:  # fmt: skip
    sets, missing = data_sets(datasets, sources, cfg.data)
    _check_split(cfg.tasks, split)
    class_split = ConceptSplit.load(Path(split)) if split else None
    trained = contenders(encoders)
    encoders_and_untrained = (*trained, *untrained(trained, cfg.preprocess))
    described: dict[str, dict[str, Any]] = {}
    engine = Engine(folder, cfg)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    facts, keys = [], []
    for data_set in sets:
        images = open_data(data_set, folder, cfg, encoders_and_untrained[0], class_split)
        facts.append(summary.data_facts(images))
        for contender in encoders_and_untrained:
            encoder = contender.open(cfg.preprocess)
            if contender.run not in described:
                described[contender.run] = {"described": describe(encoder), **cost(encoder)}
                say(f"{contender.run}: {described[contender.run]['described']}")
            if contender.untrained:  # BatchNorm statistics of this data set's training images
                calibrate_norms(encoder, images.image_cache, images.of("train"), images.features_cache)
            source = EncoderSource(images, encoder, cfg.extraction, contender.projector(encoder))
            engine.run(contender.subject(encoder), source, cfg.tasks)
            keys += engine.keys(contender.subject(encoder), source, cfg.tasks)
    engine.lines(keys)
    summary.write(folder, cfg, encoders_and_untrained, described, facts, missing, started, command)
    return report.write(folder)


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
    sets += [DataSet(_short(source), source) for source in sources]
    if not sets:
        raise SlmlpError("no data set to evaluate on: give DATA, or --datasets and a folder of data sets")
    names = [data_set.name for data_set in sets]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        same = [data_set.source for data_set in sets if data_set.name == repeated[0]]
        raise SlmlpError(f"{' and '.join(same)} are both named {repeated[0]}: rename one of them")
    return sets, missing


def open_data(
    data_set: DataSet, folder: Path, cfg: config.Suite, first: Contender, split: ConceptSplit | None
) -> ImageData:
    """Open and decode a data set for the first encoder; images for others are resized when they are read."""
    images = data_set.open(cfg.data)
    if split is not None:
        images = concepts.apply(split, images)
    resize = first.open(cfg.preprocess).preprocess.resize
    cache = Path(cfg.data.cache_dir) if cfg.data.cache_dir else folder / "cache"
    image_cache = ImageCache.of_small(images, cfg.data, cache, resize, progress=True)
    data.announce(image_cache.images, folder / "data" / slug(data_set.name))
    return ImageData(
        data_set.name, image_cache.images, image_cache, folder / "cache" / "features", split, cfg.data.label_separator
    )


def _check_split(tasks: Sequence[str], split: str | Path | None) -> None:
    wanting = [task for task in tasks if config.task_entry(task).needs_split]
    if wanting and split is None:
        raise SlmlpError(f"--tasks {' '.join(wanting)} need --split FILE: which classes pretraining has not seen")


def _short(source: str) -> str:
    name = Path(source).name if Path(source).exists() else source
    for suffix in (".tar.gz", ".tgz", ".tar", ".npz", ".csv", ".tsv", ".jsonl"):
        name = name.removesuffix(suffix)
    return name
