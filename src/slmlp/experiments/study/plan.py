"""How long a study will take, measured by a few steps of its runs, and how far it is."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from slmlp.config.names import display
from slmlp.encoders import layers
from slmlp.encoders.initial import RANDOM
from slmlp.experiments import planning
from slmlp.experiments.study import conclusion, grid, pool
from slmlp.experiments.study.baselines import starting_encoder
from slmlp.experiments.study.context import EXTRACTION, Context
from slmlp.experiments.study.specs import Spec
from slmlp.experiments.study.task import Task
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.features import Features
from slmlp.results import records
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import duration, say
from slmlp.train.measure import Cost, cost, undisturbed
from slmlp.train.prepare import training_images
from slmlp.train.run import Run

NOISE = 0.5  # of a feature's deviation: rows that are alike would be fitted in no time
SIDES = 1.5  # a probe on unseen classes, and one without folds on source classes
PROBED = 2000  # images up to which the time of a probe hardly depends on their number
START, MAP = 8.0, 4.0  # seconds: of a process of the pool, and of a contender's map
LONG = 12.0  # hours from which a study says how it would be shorter
FEW = 5_000  # training images below which pretrained weights most likely serve better
EVERY = 60.0  # seconds between two lines of progress
Key = tuple[str, str, float, int]  # kind, contender, rate of the grid, seed


@dataclass(frozen=True)
class Plan:
    """The runs of a study with the seconds that each will take, and what they leave on the disk."""

    seconds: Mapping[Key, float]
    done: frozenset[Key]
    parallel: int
    size: int  # bytes
    beside: float = 0.0  # seconds of starting processes, of baselines and maps

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return sum(s for key, s in self.seconds.items() if key not in self.done) / self.parallel + self.beside

    @property
    def words(self) -> str:
        """The plan in one line."""
        runs = len(self.seconds)
        return planning.line(f"{runs} run{'s' * (runs != 1)}", len(self.done), self.left, self.size)


def make(context: Context, out: Path | None = None) -> Plan:
    """Measure every contender by a few steps and an evaluation; the finished runs of the folder ``out`` count."""
    cfg, folder = context.cfg, (out or context.folder) / "runs"
    candidates = context.candidates
    keys = [("grid", spec.name, rate, grid.SEED) for rate in cfg.grid for spec in candidates if cfg.selects]
    keys += [("final", spec.name, 0.0, seed) for seed in range(cfg.seeds) for spec in context.specs
             if seed in spec.seeds(cfg.seeds)]  # fmt: skip
    specs = {spec.name: spec for spec in (*candidates, *context.specs)}
    done = frozenset(key for key in keys if any(Run(folder / name).finished for name in _folders(context, specs, key)))
    if len(done) == len(keys):
        return Plan(dict.fromkeys(keys, 0.0), done, 1, 0)
    parallel = min(pool.workers(cfg), len(keys) - len(done))
    threads = cfg.training.threads or (max(1, (os.cpu_count() or 1) // parallel) if parallel > 1 else None)
    costs: dict[str, Cost] = {}
    for name, spec in specs.items():
        job = context.job(spec, cfg.grid[0], 0)
        costs[name] = cost(job, context.images, context.split, context.image_cache, threads)
    with undisturbed(threads):
        evaluation, depth, width = _evaluation(context)
    seconds, size = {}, 0
    for key in keys:
        kind, name, _, seed = key
        kept = _kept(context, name) if kind == "final" and seed < cfg.curve_seeds else 0
        share = (
            (1 - cfg.split.unseen_fraction if context.inner else 1 - cfg.validation_fraction) if kind == "grid" else 1.0
        )
        probed = depth if kind == "final" and seed < cfg.layer_seeds else 0.0
        seconds[key] = costs[name].seconds * share + evaluation * (1 + kept) + probed
        if key not in done:
            size += (1 + kept) * (costs[name].weights + 4 * width * len(context.images))
    size += 2 * parallel * max(one.checkpoint for one in costs.values())
    beside = 2 * evaluation + MAP * len(specs) + (START if parallel > 1 else 0.0)
    return Plan(seconds, done, parallel, size, beside)


def _folders(context: Context, specs: Mapping[str, Spec], key: Key) -> list[str]:
    """Return the names that the folder of a run may have: which of the varied settings are chosen is not known yet."""
    kind, name, rate, seed = key
    if kind == "grid":
        return [grid.folder(context, specs[name], rate)]
    return [one.run(seed) for one in context.variants(specs[name])]


def _kept(context: Context, name: str) -> int:
    training = context.cfg.training
    epochs = int(context.spec(name).training.get("epochs", training.passes))
    return epochs // training.save_every if training.save_every else 0


def _evaluation(context: Context) -> tuple[float, float, int]:
    """Return the seconds that an encoder's evaluation takes, those of its inner layers, and its width.

    Features are timed on some images and scaled to all. The probe is timed on as many rows as there are held-out
    images, up to ``PROBED``, from where it grows with the images: those features again and again with noise, under the
    images' own labels. Two folds and every third l2 are fitted, and scaled to all.
    """
    encoder = starting_encoder(context).eval()
    few = planning.thinned(context.image_cache.images)
    x, speed = planning.features(encoder, context.image_cache, few, EXTRACTION)
    features = len(context.images) / speed["images_per_second"]
    probes = SIDES * _probe(context, x)
    return features + probes, features + probes * (len(layers.names(encoder)) - 1), encoder.dim


def _probe(context: Context, x: npt.NDArray[np.float32]) -> float:
    """Return the seconds of a probe over the held-out images on features like ``x``."""
    held, cfg = context.data.of("unseen"), context.cfg.probe
    some, random = planning.thinned(held, PROBED), np.random.default_rng(0)
    picked = x[random.integers(len(x), size=len(some))]
    rows = picked + (NOISE * x.std(axis=0) * random.normal(size=picked.shape)).astype(np.float32)
    classes, y = np.unique(some.labels, return_inverse=True)
    names = np.array(some.ids, dtype=np.str_)
    probe = replace(cfg, folds=2, l2=cfg.l2[::3])
    began = time.perf_counter()
    with contextlib.suppress(SlmlpError):  # a class may have too few images for the folds
        cross_validate(Features(rows, y, tuple(map(str, classes)), names, names), probe)
    share = (2 * len(probe.l2)) / (cfg.folds * len(cfg.l2))
    return (time.perf_counter() - began) / share * max(1.0, len(held) / PROBED)


def advice(context: Context, plan: Plan, *, demo: bool) -> list[str]:
    """Return what would serve better, with its command, where the plan is long or the images are few."""
    if demo or context.cfg.training.init != RANDOM or not plan.left:
        return []
    job = context.job(context.specs[0], context.cfg.grid[0], 0)
    count = len(training_images(job, context.images, context.split)[0])
    command = conclusion.pretrained_command(context.source, context.cfg, context.images.name)
    lines = []
    if plan.left > 3600 * LONG:
        lines.append("that is long: --preset quick tries one rate with one seed")
    if count < FEW:
        lines.append(f"{count:,} training images teach little: pretrained weights most likely serve better: {command}")
    return lines


@dataclass
class Watch:
    """Says how far a study is: after every run, and every minute between from a thread, also in what follows them."""

    context: Context
    plan: Plan
    _done: set[Key] = field(default_factory=set)
    _factor: float = 1.0  # of the seconds planned that were taken
    _phase: str = ""
    _best: str = ""

    def __enter__(self) -> Self:
        """Start the thread."""
        self._done |= self.plan.done
        self._began = self._last = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # a signal that the main thread holds back (``pool``) would reach it through this one
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        self._thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread."""
        self._end.set()
        self._thread.join()

    def finished(self, task: Task) -> None:
        """Count a run that was done, and say so."""
        name = task.spec if task.kind == "grid" else self._contender(task.spec)
        key = (task.kind, name, task.rate if task.kind == "grid" else 0.0, task.seed)
        if key in self._done or key not in self.plan.seconds:
            return
        self._done.add(key)
        took = [self.plan.seconds[one] for one in self._done - self.plan.done]
        rounds = -(-len(took) // self.plan.parallel)  # what runs beside the last of them is as far as it
        self._last = time.monotonic()
        if fmean(took) > 0:
            self._factor = (self._last - self._began) / (rounds * fmean(took))
        self._best = self._best_so_far()
        say(self.line())

    def _contender(self, name: str) -> str:
        """Return the contender as the plan has it: which of the varied settings are chosen was not known then."""
        asked = self.context.spec(name).variant_of
        return asked.name if asked else name

    def phase(self, words: str) -> None:
        """Name what is done now beside runs."""
        self._phase = words

    @property
    def left(self) -> float:
        """Seconds left by the speed so far."""
        planned = sum(s for key, s in self.plan.seconds.items() if key not in self._done) / self.plan.parallel
        return max(0.0, planned * self._factor - (time.monotonic() - self._last))

    def line(self) -> str:
        """Return done, left and best so far."""
        runs, done = len(self.plan.seconds), len(self._done)
        left = f", about {duration(self.left)} left" if done < runs else ""
        return f"study: {done} of {runs} runs done{left}{self._best}" + (f"; now {self._phase}" if self._phase else "")

    def _best_so_far(self) -> str:
        values: dict[str, list[float]] = {}
        for row in records.read(self.context.engine.store.file):
            if (row.task, row.metric, row.role) == ("unseen", "accuracy", "final"):
                values.setdefault(row.method, []).append(row.value)
        if not values:
            return ""
        best = max(values, key=lambda name: fmean(values[name]))
        return f"; best so far {display(best)}, {100 * fmean(values[best]):.1f} % of unseen images"

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            say(self.line())
