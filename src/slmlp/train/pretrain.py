"""One pretraining run, from images to a finished encoder in a folder; resumable at any step."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slmlp import config, data, methods
from slmlp.data import augment
from slmlp.data.augment import Augment, training_side
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.data.decode import Resize
from slmlp.data.splits.parts import stratified_holdout
from slmlp.data.targets import Labelling, labelling, refuse_several
from slmlp.encoders.initial import initial_encoder, preprocessing
from slmlp.encoders.projector_file import save_projector
from slmlp.encoders.sources import describe
from slmlp.methods.base import Facts
from slmlp.runtime import device, distributed, folders, json_files, processes, seeds
from slmlp.runtime.checkout import commit
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import assert_same, on_rank0, raise_on_all_ranks, rank_by_rank
from slmlp.runtime.threads import cores
from slmlp.train import checkpoint, optim
from slmlp.train.average import Average
from slmlp.train.batches import Batches, Plan
from slmlp.train.job import Job
from slmlp.train.loop import State
from slmlp.train.record import record
from slmlp.train.record import resume as resume_state
from slmlp.train.run import Run, versions
from slmlp.train.sync_batchnorm import synchronise

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit

LOGS_PER_EPOCH = 10


@dataclass(frozen=True)
class Prepared:
    """A job's training and validation images, their labels, the image size, and how images are resized to be cached."""

    train: ImageSet
    validation: ImageSet | None
    labels: Labelling
    image_size: int
    interpolation: str = "bicubic"

    @property
    def resize(self) -> Resize:
        """How images are resized to be cached for training."""
        return Resize(training_side(self.image_size), self.interpolation)


def prepare(job: Job, images: ImageSet, split: ConceptSplit | None) -> Prepared:
    """Return the training part of the source classes (all classes without a split), less the validation share."""
    if split is not None:
        from slmlp.data.splits import classes as concepts

        images = concepts.apply(split, images).of_classes(split.source)
    part = images.of_part("train")
    validation = None
    if job.validation_fraction:
        mask = stratified_holdout(
            np.array(part.classes)[part.labels], part.groups, job.validation_fraction, job.validation_seed, "validation"
        )
        part, validation = part.select(~mask), part.select(mask)
    return Prepared(part, validation, labelling(part, job.labels), *size_and_interpolation(job.training, part))


def size_and_interpolation(cfg: config.Training, images: ImageSet) -> tuple[int, str]:
    """Return the image size and the filter of resizing: the settings', the starting weights', or by the images."""
    own = preprocessing(cfg.encoder, cfg.init, cfg.image_size, cfg.stem)
    return (own.size, own.interpolation) if own else (cfg.image_size or choose_image_size(images), "bicubic")


def choose_image_size(images: ImageSet) -> int:
    """Return the image size: the median short side of the images up to 96 pixels, else 224."""
    median = data.short_side(images)
    if median is None:
        raise SlmlpError(f"none of {min(len(images), 64)} images drawn from {images.source} can be read")
    return 224 if median > 96 else max(16, int(median) // 8 * 8)


def run_job(
    job: Job,
    out: Path,
    *,
    split: ConceptSplit | None = None,
    image_cache: ImageCache | None = None,
    progress: bool = True,
) -> Run:
    """Run a pretraining job into the folder ``out``, from the last checkpoint where the folder holds this very run.

    ``image_cache`` may hold the data already decoded, to be shared by the runs of a study.

    Raises:
        SlmlpError: bad input; another run, or another process, in ``out``; a run that diverges or learns nothing.
    """
    with distributed.joined(), contextlib.ExitStack() as stack:
        on_rank0(lambda: stack.enter_context(folders.locked(out, "run", "config.json")))
        return _run_job(job, Run(out), split, image_cache, progress)


def _run_job(job: Job, run: Run, split: ConceptSplit | None, image_cache: ImageCache | None, progress: bool) -> Run:
    """Run a pretraining job as one of its processes; rank 0 writes."""
    out, part = run.path, distributed.batch_part(job.training.batch_size)
    if job.training.threads:
        torch.set_num_threads(job.training.threads)
    refuse_several(job.options)
    images = image_cache.images if image_cache else rank_by_rank(lambda: data.load(job.data, job.options))
    with raise_on_all_ranks():
        ready = prepare(job, images, split)
    own = image_cache is None
    if image_cache is None:
        cache = Path(job.options.cache_dir) if job.options.cache_dir else out / "cache"
        resize = ready.resize
        image_cache = rank_by_rank(lambda: ImageCache(ready.train, shared_memory(job.options), cache, resize, progress))
        images = data.without(images, image_cache.images)
        if len(image_cache.images) < len(ready.train):  # some could not be decoded: listed, and left out everywhere
            ready = prepare(job, images, split)
    with raise_on_all_ranks():
        state, views, compute, resolved = _start(job, ready)
    assert_same({"command": job.hash(), "data": resolved["data_hash"], "split": split.hash() if split else ""})
    if on_rank0(lambda: _open(run, job, ready, split, resolved)):
        return run
    if own:
        on_rank0(lambda: data.announce(images, out))
    resume_state(state, out)
    if state.step:
        say(f"{run.name}: continues after step {state.step:,}")
    rows, plan = image_cache.rows(ready.train), _plan(job, ready)
    batches = Batches(image_cache, rows, plan, views, part, compute.device, ready.interpolation)
    distributed.connect(compute.device)
    if state.model.sync_norms:
        synchronise(state.model, compute.device)
    _record(run, job, state, batches, compute, progress)
    on_rank0(lambda: _finish(run, job, state))
    return run


def _plan(job: Job, prepared: Prepared) -> Plan:
    cfg = job.training
    return Plan.of_epochs(prepared.labels.y, cfg.batch_size, cfg.epochs, job.seed, cfg.balanced)


def _record(run: Run, job: Job, state: State, batches: Batches, compute: device.Compute, progress: bool) -> None:
    """Train to the end; encoders are saved every ``save_every`` epochs."""
    cfg, workers = job.training, job.options.workers
    if workers < 0:  # the share of the cores that belongs to this process, less one for training
        workers = max(1, cores() // processes.local_size() - 1)

    def save_encoder(epoch: int) -> None:
        state.kept.encoder.save(run.epoch_file(epoch))

    record(
        run.path, state, batches, optim.schedule(cfg, batches.plan, job.seed), compute, name=run.name,
        log_every=max(1, batches.plan.steps_per_epoch // LOGS_PER_EPOCH), checkpoint_minutes=cfg.checkpoint_minutes,
        workers=workers, progress=progress, keep_every=cfg.save_every, keep=save_encoder,
    )  # fmt: skip


def _finish(run: Run, job: Job, state: State) -> None:
    """Save the projector, then the encoder, which marks the run as finished; remove the checkpoints."""
    save_projector(run.path, getattr(state.kept, "projector", None), state.model.encoder.dim)
    state.kept.encoder.save(run.path / "encoder.safetensors", {"method": job.method, "seed": job.seed})
    checkpoint.clear(run.path / "checkpoints")


def _start(job: Job, ready: Prepared) -> tuple[State, list[Augment], device.Compute, dict[str, Any]]:
    """Return the state before step 0, the batches, the device, and the resolved settings."""
    cfg = job.training
    plan = _plan(job, ready)
    crop = augment.local_side(ready.image_size, cfg.local_size) if cfg.local_crops else None
    encoder = initial_encoder(cfg.encoder, cfg.init, ready.image_size, cfg.stem, job.seed, crop)
    settings, notes = methods.fit(job.method, job.settings, Facts(len(ready.train), cfg.batch_size, encoder.dim))
    with seeds.seeded(job.seed, "head"):
        method = methods.build(job.method, encoder, len(ready.labels.names), settings)
    if cfg.local_crops and not settings.multi_crop:
        raise SlmlpError(
            f"--local-crops {cfg.local_crops}: {job.method} takes no local crops; leave it 0, or choose one of "
            + ", ".join(sorted(name for name, entry in config.METHODS.items() if entry.settings.multi_crop))
        )
    if settings.supervised and job.options.unlabelled:
        *others, last = (name for name, entry in config.METHODS.items() if not entry.settings.supervised)
        raise SlmlpError(
            f"{job.method} needs labels, and --unlabelled takes none; leave it away, or choose "
            f"{', '.join(others)} or {last}"
        )
    compute = device.choose(encoder, cfg.device, cfg.precision, cfg.channels_last)
    device.place(method, compute)
    prepare, size = encoder.preprocess, ready.image_size
    views = augment.views(
        cfg.augment, size, method.num_views, cfg.local_crops, cfg.local_size, (prepare.mean, prepare.std)
    )
    resolved = {
        "image_size": ready.image_size,
        "stem": encoder.spec.stem,
        "preprocess": prepare.id,
        "start": None if cfg.init == "random" else describe(encoder),
        "feature_width": encoder.dim,
        "classes": len(ready.labels.names),
        "training_images": len(ready.train),
        "method_settings": dataclasses.asdict(settings),
        "notes": notes,
        "passes_per_image": method.passes + sum((view.size / size) ** 2 for view in views[method.num_views :]),
        "peak_lr": cfg.peak_lr,
        "steps": plan.total,
        "steps_per_epoch": plan.steps_per_epoch,
        "warmup_steps": optim.warmup_steps(plan.total, plan.steps_per_epoch, cfg),
        "device": str(compute.device),
        "precision": compute.precision,
        "channels_last": compute.channels_last,
        "data_hash": ready.train.hash(),
        "initial_encoder_hash": encoder.hash(),
    }
    average = Average(method, cfg.ema) if cfg.ema is not None else None
    return State(method, optim.build(method, cfg), average=average), views, compute, resolved


def _open(run: Run, job: Job, ready: Prepared, split: ConceptSplit | None, resolved: dict[str, Any]) -> bool:
    """Write the run's settings, or check that they are those of the run in the folder; return whether it is done."""
    config_file = run.path / "config.json"
    identity = {"job": job.hash(), "data": resolved["data_hash"], "split": split.hash() if split else None}
    if config_file.exists():
        saved = run.config["identity"]
        if saved != identity:
            names = [key for key in identity if saved.get(key) != identity[key]]
            if names == ["data"]:
                raise SlmlpError(
                    f"{run.path} was trained on other images than {job.data} holds now; restore those, or choose "
                    "another --out"
                )
            raise SlmlpError(
                f"{run.path} holds another run (it differs in {', '.join(names)}); choose another --out, or remove it"
            )
        if run.finished:
            checkpoint.clear(run.path / "checkpoints")
            say(f"{run.path} is finished already")
            return True
        return False
    if split is not None:
        (run.path / "split.json").unlink(missing_ok=True)  # of a start that was killed before config.json was written
        split.save(run.path / "split.json")
    about = {
        "schema": 1,
        "identity": identity,
        "job": job.to_json(),
        "resolved": resolved,
        "class_names": list(ready.labels.names),
        "versions": versions(),
        "commit": commit(),
        "machine": device.describe(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    json_files.write(config_file, about, seal=True)  # last: a folder with it can be resumed
    say(
        f"{run.name}: {job.method}, {job.training.encoder} ({resolved['stem']} stem), {len(ready.train):,} images of "
        f"{resolved['classes']} classes at {ready.image_size} px, {resolved['steps']:,} steps, "
        f"peak learning rate {resolved['peak_lr']:.4g}, {resolved['precision']} on {resolved['device']}"
    )
    for note in [*([resolved["start"]] if resolved["start"] else []), *resolved["notes"]]:
        say(f"{run.name}: {note}")
    return False
