"""Compare finished runs as a study does."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from slmlp import config, data, report
from slmlp.data.augment import training_side
from slmlp.data.cache import ImageCache
from slmlp.data.splits import classes as concepts
from slmlp.evaluation.engine import Engine
from slmlp.evaluation.sources import ImageData
from slmlp.experiments.study import baselines, summary
from slmlp.experiments.study.context import Context
from slmlp.experiments.study.rates import Rates
from slmlp.experiments.study.specs import Spec
from slmlp.results.store import Subject
from slmlp.runtime import processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import short_name
from slmlp.train.job import Job
from slmlp.train.run import Run, now


@dataclasses.dataclass(frozen=True)
class Compared(Context):
    """A study whose final runs were trained elsewhere."""

    by_seed: dict[tuple[str, int], Run] = dataclasses.field(default_factory=dict)  # (contender, seed) -> run

    def run(self, spec: Spec, seed: int) -> Run:
        """Return the run of a contender and a seed."""
        return self.by_seed[spec.name, seed]


def compare(runs: Sequence[str | Path], out: str | Path, *, probe: config.Probe | None = None) -> Path:
    """Compare finished runs; see ``api.compare``."""
    processes.alone_only("a comparison")
    folder = Path(out)
    opened = [Run(Path(path)) for path in runs]
    jobs = [Job.from_json(run.config["job"], str(run.path / "config.json")) for run in opened]
    specs, by_seed = _sort(opened, jobs)
    context = _open(opened, jobs, specs, by_seed, folder, probe or config.Probe())
    for (name, seed), run in by_seed.items():
        job = jobs[opened.index(run)]
        subject = Subject(run.name, name, job.training.network, seed, "final", None, job.training.rate, job.labels)
        context.engine.run(subject, context.features(run.encoder()), context.tasks)
    baselines.evaluate(context)
    rates = Rates({spec.name: jobs[opened.index(context.run(spec, seed))].training.rate
                   for spec in specs for seed in [min(s for n, s in by_seed if n == spec.name)]})  # fmt: skip
    summary.write(context, rates, now(), 0.0, demo=False)
    return report.write(folder)


def _sort(runs: Sequence[Run], jobs: Sequence[Job]) -> tuple[tuple[Spec, ...], dict[tuple[str, int], Run]]:
    """Return the contenders, in order of appearance, and their runs by seed."""
    names: dict[tuple[str, str], Spec] = {}
    by_seed: dict[tuple[str, int], Run] = {}
    for run, job in zip(runs, jobs, strict=True):
        key = (job.method, str(job.settings))
        if key not in names:
            name = short_name(job.method)
            taken = any(spec.name == name for spec in names.values())
            names[key] = Spec(f"{name} ({run.name})" if taken else name, job.method, job.settings)
        spec = names[key]
        if (spec.name, job.seed) in by_seed:
            raise SlmlpError(
                f"{run.path} and {by_seed[spec.name, job.seed].path} are both {spec.name} with seed {job.seed}"
            )
        by_seed[spec.name, job.seed] = run
    seeds: dict[str, set[int]] = defaultdict(set)
    for name, seed in by_seed:
        seeds[name].add(seed)
    if not set.intersection(*seeds.values()):
        raise SlmlpError(
            "the methods have no seed in common, so nothing can be paired: "
            + "; ".join(f"{name}: {', '.join(map(str, sorted(s)))}" for name, s in seeds.items())
        )
    return tuple(names.values()), by_seed


def _open(
    runs: Sequence[Run], jobs: Sequence[Job], specs: tuple[Spec, ...], by_seed: dict[tuple[str, int], Run],
    folder: Path, probe: config.Probe,
) -> Compared:  # fmt: skip
    """Load the data and the split that all runs share."""
    first = runs[0]
    split = first.split
    if split is None:
        raise SlmlpError(f"{first.path} was trained on all classes (no --split): no class was held out to compare on")
    for run in runs[1:]:
        for key in ("data", "split"):
            if run.config["identity"][key] != first.config["identity"][key]:
                raise SlmlpError(f"{run.path} and {first.path} were not trained on the same {key}; compare runs of one")
    job = jobs[0]
    images = concepts.apply(split, data.load(job.data, job.options, seed=split.seed))
    size = int(first.config["resolved"]["image_size"])
    image_cache = ImageCache(images, job.options, folder / "cache", training_side(size), progress=True)
    seeds = set.intersection(*({s for n, s in by_seed if n == spec.name} for spec in specs))
    training = dataclasses.replace(job.training, image_size=size)
    cfg = config.Study(
        methods=tuple(spec.name for spec in specs), seeds=max(seeds) + 1, rates=(job.training.rate,),
        labels="superclass" if job.labels == "superclass" else "class", training=training, data=job.options,
        probe=probe,
    )  # fmt: skip
    images = image_cache.images
    data.announce(images, folder)
    opened = ImageData(images.name, images, image_cache, folder / "cache" / "features", split)
    return Compared(
        job.data, folder, cfg, specs, images, split, image_cache, opened, Engine(folder, cfg), by_seed=by_seed
    )
