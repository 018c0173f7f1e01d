"""One pretraining run, from images to a finished encoder in a folder; resumable at any step."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slmlp import config, data, methods
from slmlp.config import adapt, command_file
from slmlp.config.flags import differing, some
from slmlp.data import augment
from slmlp.data.augment import Augment
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.data.targets import check_one_label
from slmlp.encoders.backbones import Dropped
from slmlp.encoders.initial import initial_encoder
from slmlp.encoders.projector_file import save_projector
from slmlp.encoders.sources import describe
from slmlp.methods.base import Facts
from slmlp.runtime import device, distributed, files, folders, json_files, processes, seeds
from slmlp.runtime.checkout import commit
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import short_name, text
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import assert_same, on_rank0, raise_on_all_ranks, rank_by_rank
from slmlp.runtime.threads import cores
from slmlp.train import checkpoint, optim
from slmlp.train.average import Average
from slmlp.train.batches import Batches, Plan
from slmlp.train.job import Job, check_plugin
from slmlp.train.loop import State
from slmlp.train.prepare import Prepared, choose, prepare
from slmlp.train.recompute import recompute
from slmlp.train.record import record
from slmlp.train.record import resume as resume_state
from slmlp.train.run import Run, now, versions
from slmlp.train.sync_batchnorm import synchronise
from slmlp.train.trackers import check as check_trackers
from slmlp.train.tracking import trackers

if TYPE_CHECKING:
    from slmlp.data.splits.classes import ConceptSplit

LOGS_PER_EPOCH = 10


def check(job: Job, images: ImageSet, split: ConceptSplit | None) -> None:
    """Raise the error that the run would stop with before its first step, without writing anything."""
    begin(job, prepare(job, images, split))


def run_job(
    job: Job,
    out: Path,
    *,
    split: ConceptSplit | None = None,
    image_cache: ImageCache | None = None,
    progress: bool = True,
    overwrite: bool = False,
    store: Path | None = None,
) -> Run:
    """Run a pretraining job into the folder ``out``, from the last checkpoint where the folder holds this very run.

    ``image_cache`` may hold the data already decoded, to be shared by the runs of a study. Another run in ``out`` is
    removed where nothing was trained there yet, or with ``overwrite``. Trackers write into the folder ``store``, of a
    study, or into the run's own.

    Raises:
        SlmlpError: bad input; another run, or another process, in ``out``; a run that diverges or learns nothing.
    """
    with distributed.joined(), contextlib.ExitStack() as stack:
        on_rank0(lambda: stack.enter_context(folders.locked(out, "run", "config.json")))
        return _run_job(job, Run(out), split, image_cache, progress, overwrite, store or out)


def _run_job(
    job: Job, run: Run, split: ConceptSplit | None, image_cache: ImageCache | None, progress: bool, overwrite: bool,
    store: Path,
) -> Run:  # fmt: skip
    """Run a pretraining job as one of its processes; rank 0 writes."""
    out = run.path
    if job.training.threads:
        torch.set_num_threads(job.training.threads)
    check_one_label(job.options)
    images = image_cache.images if image_cache else rank_by_rank(lambda: data.load(job.data, job.options))
    old = on_rank0(lambda: _other_run(run, job, overwrite))
    saved = on_rank0(lambda: run.config["job"]["training"] if old is None and _begun(run) else None)
    with raise_on_all_ranks():
        job = choose(job, images, split, saved)
        part = distributed.batch_part(job.training.batch)
        ready = prepare(job, images, split)
        state, views, compute, resolved = begin(job, ready)  # before the first file: most mistakes show here
    own = image_cache is None
    if image_cache is None:
        cache = Path(job.options.cache_dir) if job.options.cache_dir else out / "cache"
        resize = ready.resize
        image_cache = rank_by_rank(lambda: ImageCache(ready.train, shared_memory(job.options), cache, resize, progress))
        images = data.without(images, image_cache.images)
        if len(image_cache.images) < len(ready.train):  # some could not be decoded: listed, and left out everywhere
            with raise_on_all_ranks():
                ready = prepare(job, images, split)
                state, views, compute, resolved = begin(job, ready)
    if old is not None:
        on_rank0(lambda: _take_over(run, old))
    assert_same({"command": job.hash(), "data": resolved["data_hash"], "split": split.hash() if split else ""})
    if on_rank0(lambda: _open(run, job, ready, split, resolved, image_cache.mark)):
        return run
    if own:
        on_rank0(lambda: data.announce(images, out))
    resume_state(state, out)
    if state.step:
        say(f"{run.name}: continues after step {state.step:,}")
    rows, plan = image_cache.rows(ready.train), plan_of(job, ready)
    batches = Batches(image_cache, rows, plan, views, part, compute.device, ready.interpolation)
    distributed.connect(compute.device)
    if state.model.sync_norms:
        synchronise(state.model, compute.device)
    _record(run, job, state, batches, compute, progress, store)
    on_rank0(lambda: _finish(run, job, state))
    return run


def _begun(run: Run) -> bool:
    return (run.path / "config.json").exists()


def _other_run(run: Run, job: Job, overwrite: bool) -> list[Path] | None:
    """Return the files of another run in the folder that this job takes over; None where there is none, or it stays."""
    if not _begun(run) or (run.worth_keeping and not overwrite):
        return None
    mine = dataclasses.replace(job, training=adapt.as_before(job.training, run.config["job"]["training"]))
    if mine.hash() == run.config["identity"]["job"] and not overwrite:
        return None
    return folders.written(run.path, folders.RUN, "run")


def _take_over(run: Run, paths: list[Path]) -> None:
    folders.remove(run.path, paths)
    say(f"{run.path}: the run that was begun there with other settings is removed")


def _check(cfg: config.Training) -> None:
    """Check that this machine, and this process's images of a batch, can train so."""
    images = cfg.batch // processes.world_size()
    if images % cfg.accumulate or images < 2 * cfg.accumulate:
        raise SlmlpError(
            f"--accumulate {cfg.accumulate} does not divide the {images} images that each process has of a batch into "
            "equal parts of at least 2; choose a --batch-size that is a multiple of it times the processes"
        )
    device.check(device.resolve(cfg.device), cfg.precision, cfg.compile)
    check_trackers(cfg.track)


def plan_of(job: Job, prepared: Prepared) -> Plan:
    """Return which images each step sees."""
    cfg = job.training
    return Plan.of_epochs(prepared.labels.y, cfg.batch, cfg.passes, job.seed, cfg.balanced)


def _record(
    run: Run, job: Job, state: State, batches: Batches, compute: device.Compute, progress: bool, store: Path
) -> None:
    """Train to the end; encoders are saved every ``save_every`` epochs."""
    cfg, workers = job.training, job.options.workers
    if workers < 0:  # the share of the cores that belongs to this process, less one for training
        workers = max(1, cores() // processes.local_size() - 1)

    def save_encoder(epoch: int) -> None:
        state.kept.encoder.save(run.epoch_file(epoch))

    record(
        run.path, state, batches, optim.schedule(cfg, batches.plan, job.seed), compute, name=run.name,
        log_every=max(1, batches.plan.steps_per_epoch // LOGS_PER_EPOCH), checkpoint_minutes=cfg.checkpoint_minutes,
        workers=workers, progress=progress, save_every=cfg.save_every or 0, keep=save_encoder,
        track=lambda: trackers(run, job, store, state.step),
    )  # fmt: skip


def _finish(run: Run, job: Job, state: State) -> None:
    """Save the projector, then the encoder, which marks the run as finished; remove the checkpoints."""
    save_projector(run.path, getattr(state.kept, "projector", None), state.model.encoder.dim)
    about = {"method": short_name(job.method), "seed": job.seed, "job": run.config["identity"]["job"]}
    state.kept.encoder.save(run.path / "encoder.safetensors", about)
    checkpoint.clear(run.path / "checkpoints")


def begin(job: Job, ready: Prepared) -> tuple[State, list[Augment], device.Compute, dict[str, Any]]:
    """Return the state before step 0, the batches, the device, and the resolved settings."""
    cfg = job.training
    plan = plan_of(job, ready)
    crop = augment.local_side(ready.image_size, cfg.local_size) if cfg.local_crops else None
    _check(cfg)
    dropped = Dropped(cfg.drop_path, cfg.dropout)
    encoder = initial_encoder(cfg.network, cfg.init, ready.image_size, cfg.stem, job.seed, crop, dropped)
    if cfg.activation_checkpointing:
        recompute(encoder)
    settings, notes = methods.fit(job.method, job.settings, Facts(len(ready.train), cfg.batch, encoder.dim))
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
        "chosen": job.chosen,
        "stem": encoder.spec.stem,
        "preprocess": prepare.id,
        "start": None if cfg.init == "random" else describe(encoder),
        "feature_width": encoder.dim,
        "classes": len(ready.labels.names),
        "training_images": len(ready.train),
        "method_settings": dataclasses.asdict(settings),
        "notes": [*notes, *(view.custom.note for view in views[:1] if view.custom)],
        "passes_per_image": method.passes + sum((view.size / size) ** 2 for view in views[method.num_views :]),
        "peak_lr": cfg.peak_lr,
        "steps": plan.total,
        "steps_per_epoch": plan.steps_per_epoch,
        "warmup_steps": optim.warmup_steps(plan.total, plan.steps_per_epoch, cfg),
        "device": str(compute.device),
        "precision": compute.words,
        "channels_last": compute.channels_last,
        "data_hash": ready.train.hash(),
        "initial_encoder_hash": encoder.hash(),
    }
    average = Average(method, cfg.ema) if cfg.ema is not None else None
    state = State(method, optim.build(method, cfg), average=average, scaler=compute.scaler())
    return state, views, compute, resolved


def _open(
    run: Run, job: Job, ready: Prepared, split: ConceptSplit | None, resolved: dict[str, Any], pixels: str
) -> bool:
    """Write the run's settings, or check that they are those of the run in the folder; return whether it is done."""
    config_file = run.path / "config.json"
    identity = {"job": job.hash(), "data": resolved["data_hash"], "split": split.hash() if split else None}
    if config_file.exists():
        saved = run.config["identity"]
        if saved != identity:
            if saved.get("job") == identity["job"]:
                raise SlmlpError(
                    f"{run.path} was trained on other images, or under another --split, than {job.data} holds now; "
                    "restore those, choose another --out, or --overwrite it"
                )
            before = Job.from_json(run.config["job"], str(config_file))
            theirs = before.identity()
            if before.plugin and job.plugin and theirs["method"] == job.identity()["method"]:
                check_plugin(job.method, before.plugin, str(run.path))
            found = some(differing(theirs, job.identity(), ("settings", "training", "options")))
            raise SlmlpError(
                f"{run.path} holds another run{f': {found}' if found else ''}; give those settings, choose another "
                "--out, or --overwrite it"
            )
        if files.contradicts(run.config.get("pixels"), pixels):
            raise SlmlpError(
                f"{run.path} was trained on other images than {job.data} holds now (the same names and sizes, other "
                "pixels); restore those, choose another --out, or --overwrite it"
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
        "pixels": pixels,
        "class_names": list(ready.labels.names),
        "versions": versions(),
        "commit": commit(),
        "machine": device.describe(),
        "started": now(),
    }
    if job.plugin is not None:
        files.write_bytes(run.path / "plugin.py", text(job.plugin))
    command_file.write(run.path, "pretrain", {
        "data": job.data, "method": job.method, "labels": job.labels, "seed": job.seed,
        "validation_fraction": job.validation_fraction,
        **({} if split is None else {"split": (run.path / "split.json").absolute()}),
    }, config.Training(**vars(job.training)), job.settings, job.options)  # fmt: skip  # of a study the rate is no flag
    json_files.write(config_file, about, seal=True)  # last: a folder with it can be resumed
    say(
        f"{run.name}: {short_name(job.method)}, {job.training.network} ({resolved['stem']} stem), "
        f"{len(ready.train):,} images of {resolved['classes']} classes at {ready.image_size} px, "
        f"{resolved['steps']:,} steps, peak learning rate {resolved['peak_lr']:.4g}, {resolved['precision']} on "
        f"{resolved['device']}"
    )
    for note in [*([resolved["start"]] if resolved["start"] else []), *resolved["notes"]]:
        say(f"{run.name}: {note}")
    return False
