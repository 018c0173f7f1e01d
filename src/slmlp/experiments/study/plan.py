"""How long a study will take, measured by a few steps of its runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slmlp.encoders import layers
from slmlp.encoders.initial import RANDOM
from slmlp.experiments import planning
from slmlp.experiments.study import conclusion, grid, pool
from slmlp.experiments.study.baselines import starting_encoder
from slmlp.experiments.study.context import EXTRACTION, Context
from slmlp.experiments.study.specs import Spec
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.features import Features
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import plural
from slmlp.runtime.progress import duration
from slmlp.train.measure import Cost, cost, undisturbed
from slmlp.train.prepare import training_images
from slmlp.train.run import Run

NOISE = 0.5  # of a feature's deviation: rows that are alike would be fitted in no time
SIDES = 1.5  # a probe on unseen classes, and one without folds on source classes
PROBED = 2000  # images up to which the time of a probe hardly depends on their number
START, MAP = 8.0, 4.0  # seconds: of a process of the pool, and of a contender's map
LONG = 1.0  # hours from which a study says how a first look would be shorter
FEW = 5_000  # training images below which pretrained weights most likely serve better
Key = tuple[str, str, float, int]  # kind, contender, rate of the grid, seed


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    seconds: float
    training: float = 0.0  # of the seconds; the rest is evaluation
    folders: tuple[str, ...] = ()  # names that its folder may have


@dataclass(frozen=True)
class Plan:
    """The runs of a study, how long each will take, and what they leave on the disk."""

    runs: Mapping[Key, Planned]
    done: frozenset[Key]
    parallel: int
    size: int  # bytes
    beside: float = 0.0  # seconds of starting processes, of baselines and maps

    @property
    def left(self) -> float:
        """Seconds that are left."""
        todo = sum(run.seconds for key, run in self.runs.items() if key not in self.done)
        return todo / self.parallel + self.beside

    @property
    def words(self) -> str:
        """The plan in one line."""
        runs = len(self.runs)
        return planning.line(plural(runs, "run"), len(self.done), self.left, self.size)


def make(context: Context, out: Path | None = None) -> Plan:
    """Measure every contender by a few steps and an evaluation; the finished runs of the folder ``out`` count."""
    cfg, folder = context.cfg, (out or context.folder) / "runs"
    candidates = context.candidates
    keys = [("grid", spec.name, rate, grid.SEED) for rate in cfg.grid for spec in candidates if cfg.selects]
    keys += [("final", spec.name, 0.0, seed) for seed in range(cfg.seeds) for spec in context.specs
             if seed in spec.seeds(cfg.seeds)]  # fmt: skip
    specs = {spec.name: spec for spec in (*candidates, *context.specs)}
    folders = {key: _folders(context, specs, key) for key in keys}
    done = frozenset(key for key in keys if any(Run(folder / name).finished for name in folders[key]))
    if len(done) == len(keys):
        return Plan(dict.fromkeys(keys, Planned(0.0)), done, 1, 0)
    parallel = min(pool.workers(cfg), len(keys) - len(done))
    threads = cfg.training.threads or (max(1, (os.cpu_count() or 1) // parallel) if parallel > 1 else None)
    costs: dict[str, Cost] = {}
    for name, spec in specs.items():
        job = context.job(spec, cfg.grid[0], 0)
        costs[name] = cost(job, context.images, context.split, context.image_cache, threads)
    with undisturbed(threads):
        evaluation, depth, width = _evaluation(context)
    runs, size = {}, 0
    for key in keys:
        kind, name, _, seed = key
        kept = _kept(context, name) if kind == "final" and seed < cfg.curve_seeds else 0
        share = (
            (1 - cfg.split.unseen_fraction if context.inner else 1 - cfg.validation_fraction) if kind == "grid" else 1.0
        )
        probed = depth if kind == "final" and seed < cfg.layer_seeds else 0.0
        training = costs[name].seconds * share
        runs[key] = Planned(training + evaluation * (1 + kept) + probed, training, folders[key])
        if key not in done:
            size += (1 + kept) * (costs[name].weights + 4 * width * len(context.images))
    size += 2 * parallel * max(one.checkpoint for one in costs.values())
    beside = 2 * evaluation + MAP * len(specs) + (START if parallel > 1 else 0.0)
    return Plan(runs, done, parallel, size, beside)


def _folders(context: Context, specs: Mapping[str, Spec], key: Key) -> tuple[str, ...]:
    """Return the names that the folder of a run may have: which of the varied settings are chosen is not known yet."""
    kind, name, rate, seed = key
    if kind == "grid":
        return (grid.folder(context, specs[name], rate),)
    return tuple(one.run(seed) for one in context.variants(specs[name]))


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
    """Return what would take less or serve better, with its command, where the plan is long or the images are few."""
    if demo or not plan.left:
        return []
    lines = []
    one = sum(run.seconds for (kind, _, _, seed), run in plan.runs.items() if kind == "final" and seed == 0)
    quick = one / plan.parallel + plan.beside
    if plan.left > max(3600 * LONG, 2 * quick):
        lines.append(f"for a first look, --preset quick with one of the --rates takes about {duration(quick)}")
    if context.cfg.training.init != RANDOM:
        return lines
    job = context.job(context.specs[0], context.cfg.grid[0], 0)
    count = len(training_images(job, context.images, context.split)[0])
    if count < FEW:
        command = conclusion.pretrained_command(context.source, context.cfg, context.images.name)
        lines.append(f"{count:,} training images teach little: pretrained weights most likely serve better: {command}")
    return lines
