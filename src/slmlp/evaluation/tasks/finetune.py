"""Full fine-tuning: all layers and a new classifier trained on other data, rate and weight decay chosen on validation.

The loop, the schedule and the augmentation are those of pretraining with the method ``sl``: an encoder, a linear
classifier, cross-entropy. The protocol follows Ericsson et al. (CVPR 2021; SGD, Nesterov 0.9, batch 64, 5,000 steps,
cosine); the grid is smaller and its points are trained for a fifth of the steps, both settings.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slmlp import config, methods
from slmlp.data import augment
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.parts import stratified_holdout
from slmlp.encoders import Encoder
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_scores, predictions
from slmlp.methods.base import Method
from slmlp.probes.features import Features
from slmlp.results.metrics import calibration_error
from slmlp.results.records import Score
from slmlp.results.store import slug
from slmlp.runtime import device, files, json_files, seeds
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import TrainingProgress, say
from slmlp.train import optim
from slmlp.train.batches import Batches, Plan, to_device
from slmlp.train.loop import State, train
from slmlp.train.readings import Readings, explained

GRID_SHARE = 5  # a point of the grid is trained for one part in this many of the final run's steps
BATCH = 256  # images of a forward pass when scored
READ_EVERY = 10  # steps whose losses are read together


@dataclass(frozen=True)
class Point:
    """One rate and weight decay, and its accuracy on validation images."""

    rate: float
    weight_decay: float
    accuracy: float | None = None  # None: training diverged
    reason: str = ""


def run(inputs: Inputs, cfg: config.Finetune) -> list[Score]:
    """Return the scores of ``finetune`` on training and test part; the finished points of the grid are kept."""
    data, extraction = inputs.data, inputs.encoder.extraction
    notes = inputs.folder / "finetune" / f"{slug(data.name)}-{slug(inputs.subject.run)}.jsonl"
    return finetune(
        inputs.encoder.encoder, data.image_cache, data.of("train"), data.of("test"), cfg,
        device_name=extraction.device, precision=extraction.precision, notes=notes,
    )  # fmt: skip


def finetune(
    encoder: Encoder,
    image_cache: ImageCache,
    train_images: ImageSet,
    test_images: ImageSet,
    cfg: config.Finetune,
    *,
    device_name: str = "auto",
    precision: str = "auto",
    notes: Path | None = None,
) -> list[Score]:
    """Return accuracies on the test images, which are read once, of the encoder trained on with a new classifier.

    ``notes`` is a file that keeps the finished points of the grid, so that a run that was stopped goes on with the
    next. Raises SlmlpError where the encoder has no weights to train (ONNX), or where every point of the grid diverges.
    """
    if not any(p.requires_grad for p in encoder.parameters()):
        raise SlmlpError(
            f"{encoder.spec.name} has no weights that can be trained: leave finetune out of --tasks for it"
        )
    session = _Session(encoder, image_cache, cfg, device_name, precision)
    points = [Point(rate, decay) for rate in cfg.rates for decay in cfg.weight_decays]
    best = points[0]
    if len(points) > 1:
        points = list(
            _scored(
                session, points, train_images, _finished(notes, encoder, train_images, image_cache.mark, cfg), notes
            )
        )
        best = max(points, key=lambda p: (-1.0 if p.accuracy is None else p.accuracy, -p.weight_decay, -p.rate))
        if best.accuracy is None:
            rates = ", ".join(f"{rate:g}" for rate in cfg.rates)
            raise SlmlpError(
                f"fine-tuning diverged at every rate of the grid ({rates}): {best.reason}; try smaller --finetune.rates"
            )
        chosen = f"rate {best.rate:g}, weight decay {best.weight_decay:g}"
        say(f"fine-tuning: {chosen} chosen ({best.accuracy:.1%} of the validation images)")
    method = session.trained(train_images, best, cfg.steps, "fine-tuning")
    logits = session.logits(method, test_images)
    extra = {
        "rate": best.rate,
        "weight_decay": best.weight_decay,
        "at_grid_edge": len(cfg.rates) > 1 and best.rate in (min(cfg.rates), max(cfg.rates)),
        "grid": [dataclasses.asdict(point) for point in points],
    }
    confidence = torch.softmax(logits.double(), dim=1).amax(dim=1).numpy()
    ids = np.array(test_images.ids, dtype=np.str_)
    nothing = np.empty((len(test_images), 0), dtype=np.float32)
    images = Features(nothing, test_images.labels, test_images.classes, ids, test_images.groups.astype(np.str_))
    rows = predictions(images, logits.argmax(dim=1).numpy(), confidence)
    scores = accuracy_scores(rows, extra)
    return [*scores, Score("ece", calibration_error(confidence, rows.correct), len(images), extra=extra)]


def _scored(
    session: _Session, points: Sequence[Point], images: ImageSet, finished: dict[str, Point], notes: Path | None
) -> Iterator[Point]:
    """Yield every point of the grid, trained on a part of the images and scored on the rest."""
    cfg = session.cfg
    names = np.array(images.classes)[images.labels]
    validation = stratified_holdout(names, images.groups, cfg.validation_fraction, cfg.seed, "finetune")
    if not validation.any() or validation.all():
        raise SlmlpError(
            f"{len(images)} training images of {images.name} are too few to hold {cfg.validation_fraction:g} of them "
            "back for --finetune.rates; give one rate and one weight decay"
        )
    inside, outside = images.select(~validation), images.select(validation)
    for number, point in enumerate(points):
        key = _key(point)
        if key not in finished:
            words = f"fine-tuning, grid {number + 1} of {len(points)}"
            try:
                method = session.trained(inside, point, max(1, cfg.steps // GRID_SHARE), words)
                right = session.logits(method, outside).argmax(dim=1).numpy() == outside.labels
                finished[key] = dataclasses.replace(point, accuracy=float(right.mean()))
            except SlmlpError as error:  # a rate at which training diverges is a point that loses
                finished[key] = dataclasses.replace(point, reason=str(error))
            if notes is not None:
                json_files.append(notes, dataclasses.asdict(finished[key]))
        yield finished[key]


def _finished(
    notes: Path | None, encoder: Encoder, images: ImageSet, pixels: str, cfg: config.Finetune
) -> dict[str, Point]:
    """Return the points that an earlier, stopped run finished; the first line is a hash of what they are of."""
    if notes is None:
        return {}
    settings = {k: v for k, v in dataclasses.asdict(cfg).items() if k not in ("rates", "weight_decays")}
    key = files.hash_json([encoder.hash(), encoder.preprocess.id, images.hash(), pixels, settings])
    rows = json_files.read_lines(notes, dict[str, Any])
    if not rows or rows[0].get("key") != key:
        notes.unlink(missing_ok=True)
        json_files.append(notes, {"key": key})
        return {}
    points = [json_files.convert(row, Point, str(notes), "remove it") for row in rows[1:]]
    return {_key(point): point for point in points}


def _key(point: Point) -> str:
    return f"{point.rate:g} {point.weight_decay:g}"


class _Session:
    """The starting encoder, images, settings and device that all points of a grid share."""

    def __init__(
        self, start: Encoder, image_cache: ImageCache, cfg: config.Finetune, device_name: str, precision: str
    ) -> None:
        self.start, self.image_cache, self.cfg = start, image_cache, cfg
        self.training = config.Training(
            image_size=start.preprocess.size, batch_size=cfg.batch_size, augment=cfg.augment, warmup_epochs=0.0,
            device=device_name, precision=precision,  # type: ignore[arg-type]  # checked where it was parsed
        )  # fmt: skip
        self.compute = device.choose(start, self.training.device, self.training.precision, self.training.channels_last)

    def trained(self, images: ImageSet, point: Point, steps: int, words: str) -> Method:
        """Return the method after at least ``steps`` steps, in whole epochs."""
        batch = min(self.cfg.batch_size, len(images))
        epochs = -(-steps // (len(images) // batch))
        training = dataclasses.replace(
            self.training, batch_size=batch, epochs=epochs, base_lr=point.rate * 256 / batch,
            weight_decay=point.weight_decay,
        )  # fmt: skip
        with seeds.seeded(self.cfg.seed, "head"):
            method = methods.build("sl", copy.deepcopy(self.start), len(images.classes), config.METHOD_CONFIGS["sl"])
        device.place(method, self.compute)
        plan = Plan.of_epochs(images.labels, batch, epochs, self.cfg.seed)
        prepare = self.start.preprocess
        views = augment.views(training.augment, prepare.size, channels=(prepare.mean, prepare.std))
        batches = Batches(self.image_cache, self.image_cache.rows(images), plan, views, device=self.compute.device)
        state, schedule = State(method, optim.build(method, training)), optim.schedule(training, plan, self.cfg.seed)
        readings, loss = Readings(state, schedule, READ_EVERY), ""
        workers = max(0, self.image_cache.options.workers)
        with TrainingProgress(words, plan.total, 0, batch) as progress:
            for step in explained(train(state, batches, schedule, self.compute, workers), readings):
                for row in readings.add(step):
                    loss = f"loss {row['loss']:.3f}"
                progress.update(step.number, loss)
            readings.rest()
        return method.eval()

    def logits(self, method: Method, images: ImageSet) -> Tensor:
        """Return logits (N, C) in float32 of evaluation views."""
        rows, parts = self.image_cache.rows(images), []
        prepare = self.start.preprocess
        with torch.inference_mode():
            for first in range(0, len(rows), BATCH):
                x = prepare(self.image_cache.squares(rows[first : first + BATCH], prepare.resize))
                h = method.encoder(to_device(x, self.compute))
                parts.append(method.logits(method.projector(h)).float().cpu())  # type: ignore[operator]  # of sl
        return torch.cat(parts)
