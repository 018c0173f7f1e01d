"""What a suite has left to do and how long that will take, measured by features of a few images of each encoder."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slmlp import config
from slmlp.data.cache import ImageCache, small
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders import Encoder, layers
from slmlp.encoders.calibrate import BATCHES, kept_norms
from slmlp.encoders.forward import BATCH, FloatArray
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.sources import EncoderSource, ImageData, Sets, Source
from slmlp.evaluation.tasks import runner
from slmlp.experiments import planning
from slmlp.experiments.contenders import Contender
from slmlp.probes.features import Features
from slmlp.probes.multilabel import MultiLabel
from slmlp.results.store import Key, slug
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.runtime.progress import hushed
from slmlp.runtime.seeds import numpy_generator
from slmlp.train.measure import undisturbed

ROWS = 400  # images that tasks are timed on, at most
PROBED = 2000  # images up to which the time of a task hardly depends on their number: it does many small fits
ITERATIONS = 40  # of a fit that are timed, at most; those on a trained encoder end sooner
EPISODES, DRAWS = 20, 1  # that are timed; they scale
GROWTH = {"fewshot": 0.0, "knn": 2.0, "retrieval": 2.0, "unseen-knn": 2.0, "unseen-retrieval": 2.0}  # power; else 1
EACH = {"fewshot": 80}  # images of a class, so that episodes find theirs; else 6
BACKWARD = 3.0  # forward passes that a step of fine-tuning takes
LINE = 60  # bytes of predictions of an image


@dataclass
class Plan:
    """Which tasks of which encoder are left on each data set, the seconds they will take, and what will be written."""

    tasks: tuple[str, ...]
    runs: tuple[str, ...]
    left: dict[str, dict[str, list[str]]]  # data set -> task -> runs
    seconds: float = 0.0
    size: int = 0  # bytes
    unknown: set[str] = field(default_factory=set)  # tasks whose time is not in it
    speed: dict[str, planning.Speed] = field(default_factory=dict)  # by run, of those that have something left
    decoding: dict[str, float] = field(default_factory=dict)  # seconds of an image of a data set

    @property
    def words(self) -> str:
        """The plan in one line."""
        count = len(self.left) * len(self.tasks) * len(self.runs)
        done = count - sum(len(runs) for tasks in self.left.values() for runs in tasks.values())
        what = (
            f"{count} numbers ({plural(len(self.runs), 'encoder')} with {plural(len(self.tasks), 'task')} on "
            f"{plural(len(self.left), 'data set')})"
        )
        return planning.line(what, done, self.seconds, self.size)

    @property
    def details(self) -> list[str]:
        """What is left of each data set, and what the time leaves out."""
        lines = [f"{name}: {self._left(tasks)}" for name, tasks in self.left.items()]
        if self.unknown:
            lines.append(f"not in the time: {', '.join(sorted(self.unknown))}, which only its own code could tell")
        return lines

    def _left(self, tasks: Mapping[str, list[str]]) -> str:
        done = [task for task in self.tasks if not tasks.get(task)]
        texts = [
            f"{task} of {'all' if len(runs) == len(self.runs) else ', '.join(runs)}"
            for task, runs in tasks.items()
            if runs
        ]
        return "; ".join(["left: " + ", ".join(texts)] * bool(texts) + [f"done: {', '.join(done)}"] * bool(done))


class Made(Source):
    """Features of a data set as they might be: classes around those of a few real images."""

    def __init__(self, data: ImageData, x: FloatArray, rows: int, each: int) -> None:
        self.data, self.x, self.rows, self.name = data, x, rows, data.name
        self.each = each

    def of(self, name: str) -> Features:
        """Return the features of a set of images, of which there are fewer, and fewer classes."""
        images = self.data.of(name)
        count = max(1, round(self.rows * len(images) / len(self.data.images)))
        classes = images.classes[: max(2, self.rows // self.each)]
        y = np.arange(count) % len(classes)
        rng = numpy_generator(0, "plan", count)
        noise = rng.normal(size=(count, self.x.shape[1])) * self.x.std(axis=0) / 2
        ids = np.array([f"{name} {i}" for i in range(count)])
        return Features((self.x[y % len(self.x)] + noise).astype(np.float32), y, classes, ids, ids)

    def features(self, task: config.Task, layer: str) -> Sets:
        sets = [self.of(name) for name in task.reads]
        return MultiLabel.split(sets, str(self.data.label_separator)) if self.data.several_labels else sets

    def warnings(self, task: config.Task) -> dict[str, int]:
        return {}

    def hashes(self, task: config.Task) -> dict[str, str]:
        return {}


@dataclass
class Probes:
    """The seconds of tasks: each is timed once, on features as they might be, and scaled to other data and widths."""

    cfg: config.Suite
    empty: Path
    timed: dict[str, tuple[float, int] | None] = field(default_factory=dict)  # seconds, width

    def seconds(self, key: Key, data: ImageData, x: FloatArray, each: float) -> float | None:
        """Return the seconds of one key; None where they are not known. ``each`` is that of one image's features."""
        task = config.task_entry(key.task)
        if key.task == "finetune":
            tune = self.cfg.finetune
            steps = tune.steps * (1 + len(tune.rates) * len(tune.weight_decays) / 5)
            return steps * tune.batch_size * BACKWARD * each
        if task.plugin is not None:
            return None
        if key.task not in self.timed:
            self.timed[key.task] = self._time(key, task, data, x)
        found = self.timed[key.task]
        if found is None:
            return None
        seconds, width = found
        growth = max(1.0, len(data.images) / PROBED) ** GROWTH.get(key.task, 1.0)
        return float(seconds * growth * max(1.0, x.shape[1] / width))

    def _time(self, key: Key, task: config.Task, data: ImageData, x: FloatArray) -> tuple[float, int] | None:
        """Do a task on features as they might be, fewer times than it is."""
        rows, cfg = min(len(data.images), ROWS), self.cfg
        few = dataclasses.replace(
            cfg,
            probe=dataclasses.replace(cfg.probe, max_iterations=min(ITERATIONS, cfg.probe.max_iterations)),
            fewshot=dataclasses.replace(cfg.fewshot, episodes=min(EPISODES, cfg.fewshot.episodes)),
            label_efficiency=dataclasses.replace(cfg.label_efficiency, draws=min(DRAWS, cfg.label_efficiency.draws)),
        )
        times = {
            "fewshot": cfg.fewshot.episodes / few.fewshot.episodes,
            "label-efficiency": cfg.label_efficiency.draws / few.label_efficiency.draws,
        }.get(key.task, 1.0)
        engine = Engine(self.empty / slug(key.task), few)
        each = EACH.get(key.task, 6)
        inputs = Inputs(task, Made(data, x, rows, each), layers.OUTPUT, key.subject, engine)
        began = time.perf_counter()
        with contextlib.suppress(AssertionError, SlmlpError):  # so few images may be too few; some need the encoder
            runner(key.task)(inputs, *(getattr(few, name) for name in task.settings))
            return times * (time.perf_counter() - began), x.shape[1]
        return None


def make(
    sets: Sequence[tuple[str, ImageSet]], contenders: Sequence[Contender], cfg: config.Suite,
    split: ConceptSplit | None, folder: Path,
) -> Plan:  # fmt: skip
    """Find what the suite in ``folder`` has left, and measure what that takes. Nothing that stays is written.

    ``sets`` are data sets by name, with their parts and under the split, not decoded.

    Raises:
        SlmlpError: what the suite would stop with before its first number.
    """
    runs = tuple(contender.run for contender in contenders)
    plan = Plan(cfg.tasks, runs, {name: {task: [] for task in cfg.tasks} for name, _ in sets})
    with tempfile.TemporaryDirectory(prefix="slmlp-") as empty, undisturbed(None), hushed():
        probes = Probes(cfg, Path(empty))
        resize = contenders[0].open(cfg.preprocess).preprocess.resize
        opened = [_opened(name, _known(images, folder / "data" / slug(name)), cfg, split, resize, Path(empty), plan)
                  for name, images in sets]  # fmt: skip
        for contender in contenders:
            encoder = contender.open(cfg.preprocess)
            for data in opened:
                _add(plan, data, contender, encoder, cfg, folder, probes)
    for data in opened:  # what is there already was decoded
        if sum(map(len, plan.left[data.name].values())) < len(cfg.tasks) * len(runs):
            continue
        side = small(data.images, resize).side
        plan.size += side * side * 3 * len(data.images)
        plan.seconds += plan.decoding[data.name] * len(data.images)
    return plan


def _known(images: ImageSet, about: Path) -> ImageSet:
    """Return the images less those that the suite found unreadable when it decoded them."""
    try:
        lines = (about / "unreadable.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return images
    lost = {line.partition("\t")[0] for line in lines}
    return images.select(np.array([name not in lost for name in images.ids]))


def _opened(
    name: str, images: ImageSet, cfg: config.Suite, split: ConceptSplit | None, resize: Resize, empty: Path, plan: Plan
) -> ImageData:
    """Return a data set of which a few images are decoded."""
    few = planning.readable(planning.thinned(images))
    began = time.perf_counter()
    held = ImageCache.of_small(few, cfg.data, empty, resize, progress=False)
    plan.decoding[name] = (time.perf_counter() - began) / max(1, len(few))
    return ImageData(name, images, held, empty, split, cfg.data.label_separator)


def _add(
    plan: Plan, data: ImageData, contender: Contender, encoder: Encoder, cfg: config.Suite, folder: Path, probes: Probes
) -> None:
    """Add what is left of one encoder on one data set."""
    calibrated = not contender.untrained or kept_norms(encoder, data.of("train"), folder / "cache" / "features")
    source = EncoderSource(data, encoder, cfg.extraction, contender.projector(encoder))
    source.check(cfg.tasks)
    engine = Engine(folder, cfg)
    keys = engine.keys(contender.subject(encoder), source, cfg.tasks)
    missing = engine.store.missing(keys)
    if not missing:
        return
    for task in dict.fromkeys(key.task for key in missing):
        plan.left[data.name][task].append(contender.run)
    x, speed = planning.features(encoder, data.image_cache, data.image_cache.images, cfg.extraction)
    plan.speed.setdefault(contender.run, speed)
    each = 1 / speed["images_per_second"]
    if not calibrated:
        plan.seconds += each * min(len(data.of("train")), BATCHES * BATCH)
    for key in missing:
        seconds = probes.seconds(key, data, x, each)
        if seconds is None:
            plan.unknown.add(key.task)
        plan.seconds += seconds or 0.0
        plan.size += LINE * len(data.images)
    if len(missing) == len(keys):  # else they are in the cache
        reads = {name for key in missing for name in config.task_entry(key.task).reads}
        count = min(len(data.images), sum(len(data.of(name)) for name in reads))
        passes = {source.layers(config.task_entry(key.task)) for key in missing}
        widths = layers.widths(encoder, sorted(set().union(*passes)), source.projector)
        plan.seconds += each * count * len(passes)
        plan.size += 4 * sum(widths.values()) * count
