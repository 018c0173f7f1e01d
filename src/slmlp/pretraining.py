"""One pretraining run, from images to a finished encoder in a folder; resumable at any step."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slmlp import augment, checkpoint, data, device, files, methods, optim, seeds
from slmlp.augment import Augment, training_side
from slmlp.batches import Batches, Plan
from slmlp.corpus import Corpus
from slmlp.data.dataset import ImageSet
from slmlp.data.parts import stratified_holdout
from slmlp.encoders import Encoder, build, choose_stem
from slmlp.errors import SlmlpError
from slmlp.interrupt import Interrupt
from slmlp.job import Job
from slmlp.labelling import Labelling, labelling
from slmlp.methods.fit import Facts, fit
from slmlp.metrics import MetricsLog
from slmlp.progress import Steps, duration, say
from slmlp.run import Run, commit, versions
from slmlp.train import State, train
from slmlp.watch import Collapse

if TYPE_CHECKING:
    from slmlp.concepts.split import ConceptSplit

LOGS_PER_EPOCH = 10
UNSUPERVISED = "simclr, moco-v1, moco-v2, byol or swav"


@dataclass(frozen=True)
class Prepared:
    """A job's images: the ones trained on, the ones held back, what their labels are, and the size they are seen at."""

    train: ImageSet
    validation: ImageSet | None
    labels: Labelling
    image_size: int


def prepare(job: Job, images: ImageSet, split: ConceptSplit | None) -> Prepared:
    """Return the training part of the source classes (all classes without a split), less the validation share."""
    if split is not None:
        from slmlp.concepts import split as concepts

        images = concepts.apply(split, images).of_classes(split.source)
    part = images.of_part("train")
    held = None
    if job.validation_fraction:
        mask = stratified_holdout(
            np.array(part.classes)[part.labels], part.units, job.validation_fraction, job.validation_seed, "validation"
        )
        part, held = part.select(~mask), part.select(mask)
    size = job.training.image_size or choose_image_size(part)
    return Prepared(part, held, labelling(part, job.labels), size)


def choose_image_size(images: ImageSet) -> int:
    """Return the side for a set of images: their own median short side up to 96 pixels, else 224."""
    picked = seeds.numpy_generator(0, "size").permutation(len(images))[:64]
    shorts = []
    for index in picked:
        try:
            shorts.append(min(images.read(int(index)).shape[:2]))
        except (OSError, ValueError):
            continue  # counted and listed when everything is decoded
    if not shorts:
        raise SlmlpError(f"none of {len(picked)} images drawn from {images.source} can be read")
    median = float(np.median(shorts))
    return 224 if median > 96 else max(16, int(median) // 8 * 8)


def run_job(
    job: Job,
    out: Path,
    *,
    split: ConceptSplit | None = None,
    corpus: Corpus | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Pretrain as ``job`` says into the folder ``out``; with ``resume``, go on where a killed run stood.

    ``corpus`` may hold the data already decoded, to be shared by the runs of a study.

    Raises:
        SlmlpError: bad input; another run in ``out``; a run that diverges or learns nothing.
    """
    run = Run(out)
    if job.training.threads:
        torch.set_num_threads(job.training.threads)
    images = corpus.images if corpus else data.load(job.data, job.options)
    ready = prepare(job, images, split)
    cache = Path(job.options.cache_dir) if job.options.cache_dir else out / "cache"
    own = corpus is None
    if corpus is None:
        say(data.describe(images))
        corpus = Corpus(ready.train, job.options, cache, training_side(ready.image_size), progress)
        if len(corpus.images) < len(ready.train):  # some could not be decoded: listed, and left out everywhere
            ready = prepare(job, images.select(~np.isin(images.ids, [i for i, _ in corpus.images.unreadable])), split)
    state, views, compute, resolved = _start(job, ready)
    if _open(run, job, ready, split, resolved, resume):
        return run
    if own:
        data.write_report(corpus.images, out)
    saved, warnings = checkpoint.load_last(out / "checkpoints")
    for warning in warnings:
        say(f"warning: {warning}")
    if saved is not None:
        state.load_state_dict(saved)
    plan = Plan(ready.labels.y, job.training.batch_size, job.training.epochs, job.seed, job.training.balanced)
    batches = Batches(corpus, corpus.rows(ready.train), plan, views)
    _loop(run, job, state, batches, compute, progress)
    state.method.encoder.save(out / "encoder.safetensors", {"method": job.method, "seed": job.seed})
    for file in (out / "checkpoints").glob("step-*.ckpt"):
        file.unlink()
    return run


def _start(job: Job, ready: Prepared) -> tuple[State, list[Augment], device.Compute, dict[str, Any]]:
    """Return the state before step 0, what makes its views, where it computes, and what the settings came to."""
    cfg = job.training
    plan = Plan(ready.labels.y, cfg.batch_size, cfg.epochs, job.seed, cfg.balanced)
    stem = choose_stem(cfg.stem, ready.image_size)
    crop = augment.local_side(ready.image_size, cfg.local_size) if cfg.local_crops else None
    encoder = initial_encoder(cfg.encoder, cfg.init, ready.image_size, stem, job.seed, crop)
    settings, notes = fit(job.method, job.settings, Facts(len(ready.train), cfg.batch_size, encoder.dim))
    with seeds.seeded(job.seed, "head"):
        method = methods.build(job.method, encoder, len(ready.labels.names), settings)
    if cfg.local_crops and not method.multi_crop:
        raise SlmlpError(
            f"--local-crops {cfg.local_crops}: {job.method} takes no local crops; leave it 0, or choose one of "
            "sl, sl-mlp, supcon, swav, t-rex, t-rex-star"
        )
    if method.supervised and job.options.unlabelled:
        raise SlmlpError(
            f"{job.method} needs labels, and --unlabelled takes none; leave it away, or choose {UNSUPERVISED}"
        )
    compute = device.choose(cfg, encoder)
    device.place(method, compute)
    views = augment.views(cfg.augment, ready.image_size, method.num_views, cfg.local_crops, cfg.local_size)
    resolved = {
        "image_size": ready.image_size,
        "stem": stem,
        "feature_width": encoder.dim,
        "classes": len(ready.labels.names),
        "training_images": len(ready.train),
        "method_settings": dataclasses.asdict(settings),
        "notes": notes,
        "passes_per_image": method.passes
        + sum((view.size / ready.image_size) ** 2 for view in views[method.num_views :]),
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
    return State(method, optim.build(method, cfg)), views, compute, resolved


def initial_encoder(
    name: str, init: str, image_size: int, stem: str, seed: int, crop_size: int | None = None
) -> Encoder:
    """Return the encoder that training starts from: random by ``seed``, a run's, or timm's weights.

    ``init`` is ``random``, a run's folder or encoder file, ``timm:NAME`` (downloads) or ``timm:NAME@FILE``.
    """
    with seeds.seeded(seed, "encoder"):
        encoder = build(name, image_size, stem, crop_size)
    if init == "random":
        return encoder
    if init.startswith("timm:"):
        from slmlp.encoders.pretrained import timm_weights

        encoder.load_weights(timm_weights(init, name), init)
    else:
        encoder.load_weights(Encoder.load(init).weights(), init)
    return encoder


def _open(
    run: Run, job: Job, ready: Prepared, split: ConceptSplit | None, resolved: dict[str, Any], resume: bool
) -> bool:
    """Write the run's settings, or check that they are those of the run in the folder; return whether it is done."""
    config_file = run.path / "config.json"
    identity = {"job": job.hash(), "data": resolved["data_hash"], "split": split.hash() if split else None}
    if config_file.exists():
        held = run.config
        if held["identity"] != identity:
            names = [key for key in identity if held["identity"].get(key) != identity[key]]
            raise SlmlpError(
                f"{run.path} holds another run (it differs in {', '.join(names)}); choose another --out, or remove it"
            )
        if run.finished:
            say(f"{run.path} is finished already")
            return True
        if not resume:
            raise SlmlpError(f"{run.path} holds this run, unfinished: go on with slmlp pretrain --resume {run.path}")
        return False
    if run.path.exists() and any(p.name != "cache" for p in run.path.iterdir()):
        raise SlmlpError(f"{run.path} is not empty and holds no run of slmlp; choose another --out")
    if split is not None:
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
    files.write_json(config_file, about)  # last: a folder with it can be resumed
    say(
        f"{run.name}: {job.method}, {job.training.encoder} ({resolved['stem']} stem), {len(ready.train):,} images of "
        f"{resolved['classes']} classes at {ready.image_size} px, {resolved['steps']:,} steps, "
        f"peak learning rate {resolved['peak_lr']:.4g}, {resolved['precision']} on {resolved['device']}"
    )
    for note in resolved["notes"]:
        say(f"{run.name}: {note}")
    return False


def _loop(run: Run, job: Job, state: State, batches: Batches, compute: device.Compute, progress: bool) -> None:
    """Run the steps that are left; write metrics, kept encoders and checkpoints."""
    cfg, plan = job.training, batches.plan
    folder = run.path / "checkpoints"
    log = MetricsLog(
        run.path / "metrics.jsonl", state.step, max(1, plan.steps_per_epoch // LOGS_PER_EPOCH), cfg.batch_size
    )
    saved_at, began, workers, collapse = time.monotonic(), time.monotonic(), _workers(job), Collapse()
    try:
        with Interrupt() as interrupt, Steps(run.name, plan.total, state.step, cfg.batch_size, progress) as shown:
            for row in train(state, batches, cfg, compute, job.seed, workers):
                log.add(row)
                if warning := collapse.look(row):
                    say(f"warning: {run.name}: {warning}")
                shown.update(state.step, f"epoch {row['epoch']}/{cfg.epochs}  loss {row['loss']:.3f}")
                ended, since = state.step % plan.steps_per_epoch == 0, time.monotonic() - saved_at
                if ended and cfg.keep_every and int(row["epoch"]) % cfg.keep_every == 0:
                    state.method.encoder.save(run.epoch_file(int(row["epoch"])))
                if interrupt.requested or since > (60 if ended else 60 * cfg.checkpoint_minutes):
                    log.flush()
                    checkpoint.save(folder, state.step, _consistent(state, plan.steps_per_epoch))
                    saved_at = time.monotonic()
                if interrupt.requested:
                    say(f"{run.name}: stopped and saved after step {state.step} of {plan.total}")
                    raise KeyboardInterrupt
    finally:
        log.close()
    if progress:
        say(f"{run.name}: done in {duration(time.monotonic() - began)}")


def _consistent(state: State, steps_per_epoch: int) -> dict[str, Any]:
    """Return the state to save; at the end of an epoch its losses are already accounted for."""
    saved = state.state_dict()
    if state.step % steps_per_epoch == 0:
        saved["losses"] = []
    return saved


def _workers(job: Job) -> int:
    return max(1, (os.cpu_count() or 2) - 1) if job.options.workers < 0 else job.options.workers
