"""Evaluate one encoder; several processes share the extraction of its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmlp import config, data
from slmlp.config import command_file
from slmlp.config.sources import absolute
from slmlp.data.splits import classes as concepts
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.splits.other_data import warn_of_other_data
from slmlp.encoders import Encoder
from slmlp.encoders.sources import describe
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.feature_file import evaluate_file
from slmlp.evaluation.sources import EncoderSource, ImageData
from slmlp.evaluation.tasks import check_tasks
from slmlp.experiments.contenders import Contender, contenders
from slmlp.experiments.suite.main import DataSet, data_sets, decoded
from slmlp.results.records import Result
from slmlp.results.store import slug
from slmlp.runtime import distributed, plugins, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import assert_same, on_rank0, rank_by_rank
from slmlp.train.run import Run


def evaluate(
    encoder: str | Path, data_source: str | None, datasets: str | None, split: str | Path | ConceptSplit | None,
    tasks: Sequence[str], out: str | Path | None, cfg: config.TaskSettings,
) -> list[Result]:  # fmt: skip
    """See ``api.evaluate``."""
    plugins.forget()
    source = str(encoder)
    asked = {
        "encoder": absolute(source), "task": [plugins.absolute(task) for task in tasks],
        **{key: absolute(str(value)) for key, value in
           (("data", data_source), ("datasets", datasets), ("split", split)) if value is not None},
    }  # fmt: skip
    if source.endswith(".npz"):
        if data_source is not None or datasets is not None:
            raise SlmlpError(f"{source} is a file of features: it takes no DATA and no --datasets")
        tasks = config.load_tasks(tasks or ("linear",))
        folder = Path(out or f"{slug(Path(source).stem)}-evaluation")
        rows = evaluate_file(Path(source), tasks, folder, cfg)
        command_file.write(folder, "evaluate", asked | {"task": asked["task"] or tasks}, cfg)
        return rows
    tasks = check_tasks(tasks) if tasks else ()
    folder = Path(out) if out else _folder(source)
    with distributed.joined():
        contender, opened, own_split = rank_by_rank(lambda: _opened(source, split, cfg))
        tasks = tasks or _default(own_split if data_source is not None else None)
        sets, _ = rank_by_rank(lambda: data_sets(datasets, [data_source] if data_source else [], cfg.data))
        needed = any(config.task_entry(task).needs_split for task in tasks)
        used = own_split if split is not None or needed else None
        if needed and used is None:
            raise SlmlpError(
                f"{source} was trained without a split: give one with --split, so that classes are held out"
            )
        if datasets is None and used is None:
            say(describe(opened))
        engine = Engine(folder, cfg)
        rows = [row for one in sets for row in _evaluate_on(one, contender, opened, used, tasks, engine, cfg)]
        if not isinstance(split, ConceptSplit):  # one that is in no file cannot be named
            asked |= {"task": asked["task"] or tasks}
            on_rank0(lambda: command_file.write(folder, "evaluate", asked, cfg))
        return rows


def _evaluate_on(
    data_set: DataSet, contender: Contender, encoder: Encoder, split: ConceptSplit | None, tasks: Sequence[str],
    engine: Engine, cfg: config.TaskSettings,
) -> list[Result]:  # fmt: skip
    """Do the tasks on one data set; return their lines."""
    images = rank_by_rank(lambda: _images(data_set, encoder, split, engine.folder, cfg))
    on_rank0(lambda: data.announce(images.images, engine.folder / "data" / slug(images.name)))
    source = EncoderSource(images, encoder, cfg.extraction, contender.projector(encoder))
    source.check(tasks)
    hashes = source.hashes(config.task_entry(tasks[0]))
    assert_same({key: hashes[key] for key in hashes.keys() - {"transform", "pixels"}})
    if processes.is_distributed():  # all processes extract features, the first one does the rest
        source.extract_together(tasks)
    subject = contender.subject(encoder)
    on_rank0(lambda: engine.run(subject, source, tasks))
    return on_rank0(lambda: engine.lines(engine.keys(subject, source, tasks)))


def _images(
    data_set: DataSet, encoder: Encoder, split: ConceptSplit | None, folder: Path, cfg: config.TaskSettings
) -> ImageData:
    """Return the images of a data set, under the split where one is used, decoded for the encoder."""
    if split is None:
        images = data_set.open(cfg.data)
    else:
        images = data.load(data_set.source, cfg.data, seed=split.seed)
        warn_of_other_data(split, images)
        images = concepts.apply(split, images)
    name = images.name if split else data_set.name
    return decoded(name, images, cfg.data, folder, encoder.preprocess.resize, split)


def _opened(
    source: str, split: str | Path | ConceptSplit | None, cfg: config.TaskSettings
) -> tuple[Contender, Encoder, ConceptSplit | None]:
    """Return the encoder, and the split that was given, else the run's own."""
    [contender] = contenders([source])
    if split is None:
        split = Run(Path(source)).split if Path(source).is_dir() else None
    elif not isinstance(split, ConceptSplit):
        split = ConceptSplit.load(Path(split))
    return contender, contender.open(cfg.preprocess), split


def _default(split: ConceptSplit | None) -> tuple[str, ...]:
    task = "linear" if split is None else "unseen"
    say(f"task: {task} (--task names others)")
    return (task,)


def _folder(source: str) -> Path:
    path = Path(source)
    return path / "evaluation" if path.is_dir() else Path(f"{slug(source)}-evaluation")
