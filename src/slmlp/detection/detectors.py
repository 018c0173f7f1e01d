"""Train and evaluate one detector per contender, and add its AP to the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from slmlp import config
from slmlp.detection import model, predict, train
from slmlp.detection.backbone import stages
from slmlp.detection.coco import DetectionSet, copies_of_training
from slmlp.detection.evaluate import Kind, average_precision
from slmlp.detection.resample import bootstrap_weights, match, weighted
from slmlp.detection.samples import Samples, order_plan, resized_image
from slmlp.encoders import Encoder, stored
from slmlp.experiments.contenders import Contender
from slmlp.results import records
from slmlp.results.intervals import Bootstrap, bootstrap_mean
from slmlp.results.records import Result
from slmlp.results.store import Key, ResultsStore, Subject, slug
from slmlp.runtime import device, distributed, files, json_files, processes
from slmlp.runtime.checkout import commit
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import on_rank0
from slmlp.train import checkpoint
from slmlp.train.run import now, versions
from slmlp.train.sync_batchnorm import synchronise

CALIBRATION_IMAGES = 64  # training images for the BatchNorm statistics of a random backbone, in batches of 8


class DetectorConfig(TypedDict):
    """The content of a detector's config.json; further fields are for readers."""

    identity: dict[str, str]
    run: str
    name: str
    seed: int
    encoder: str
    random: bool
    frozen: bool
    resolved: dict[str, Any]
    settings: dict[str, Any]
    started: str


@dataclass(frozen=True)
class Detectors:
    """The data, settings and output folder shared by all contenders' detectors."""

    name: str  # of the data
    parts: Mapping[str, DetectionSet]  # the training part and the evaluated parts
    main: str  # the part reported as task "detect"; others are "detect-train" ...
    cfg: config.Detection
    folder: Path
    with_masks: bool

    @property
    def evaluated_parts(self) -> list[str]:
        """Parts that AP is measured on, the main one first."""
        return [self.main, *(part for part in self.cfg.evaluate if part != self.main)]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of prediction evaluated."""
        return ("box", "mask") if self.with_masks else ("box",)

    def task(self, part: str) -> str:
        """Return the name of a part's task in the results file."""
        return "detect" if part == self.main else f"detect-{part}"

    def detector_folder(self, contender: Contender) -> Path:
        """Return the folder of a contender's detector."""
        return self.folder / "detectors" / slug(contender.run)

    def run(self, contender: Contender) -> dict[str, Any]:
        """Train and evaluate a contender's detector, skipping finished steps; return its config.json."""
        encoder = contender.open()
        cfg, data, folder = self.cfg, self.parts["train"], self.detector_folder(contender)
        identity = self._identity(contender, encoder)
        detector_config = on_rank0(lambda: self._read_or_write_config(folder, contender, encoder, identity))
        pending = self.pending(contender, encoder)
        if not pending:
            say(f"{contender.run} is already complete")
            return detector_config
        compute = device.choose(encoder, cfg.device, cfg.precision)
        detector = model.build(encoder, len(data.categories), self.with_masks, cfg, cfg.freeze or contender.freeze)
        device.place(detector, compute)
        distributed.connect(compute.device)
        if cfg.norm == "sync":
            synchronise(detector, compute.device)
        if contender.untrained and (cfg.freeze or contender.freeze or cfg.norm in ("frozen", "group")):
            model.calibrate(detector, self._calibration_batches(compute))
        for part in [part for part, epoch in pending if epoch == 0]:
            self._evaluate(detector, compute, contender.subject(encoder, 0), identity, part)
        if any(epoch is None for _, epoch in pending):
            self._train_or_load(detector, compute, contender, detector_config)
        for part in [part for part, epoch in pending if epoch is None]:
            self._evaluate(detector, compute, contender.subject(encoder), identity, part)
        return detector_config

    def pending(self, contender: Contender, encoder: Encoder) -> list[tuple[str, int | None]]:
        """Return the parts that a contender's detector has no AP of yet, each with its epoch: None after training."""
        identity = self._identity(contender, encoder)
        evaluations: list[tuple[str, int | None]] = [(part, None) for part in self.evaluated_parts]
        if self.cfg.evaluate_start:
            evaluations += [(part, 0) for part in self.evaluated_parts]
        return [
            (part, epoch)
            for part, epoch in evaluations
            if not self._has_results(contender, encoder, identity, part, epoch)
        ]

    def _identity(self, contender: Contender, encoder: Encoder) -> dict[str, str]:
        return {
            "encoder": encoder.hash(),
            "data": self.parts["train"].hash(),
            "settings": files.hash_json([self.cfg.deciding(), contender.freeze, self.with_masks]),
        }

    def _read_or_write_config(
        self, folder: Path, contender: Contender, encoder: Encoder, identity: dict[str, str]
    ) -> dict[str, Any]:
        """Return the detector's config.json, written now unless the folder has it.

        Raises:
            SlmlpError: the folder has a detector of another encoder, data or settings.
        """
        file = folder / "config.json"
        if file.exists():
            detector_config: dict[str, Any] = dict(json_files.read(file, DetectorConfig))
            differing = [key for key, value in identity.items() if detector_config["identity"].get(key) != value]
            if differing:
                raise SlmlpError(
                    f"{folder} holds another detector (it differs in {', '.join(differing)}); choose another --out, or "
                    "remove it"
                )
            return detector_config
        data, cfg = self.parts["train"], self.cfg
        total = cfg.total(len(data.usable()))
        widths = stages(encoder).widths
        detector_config = {
            "schema": 1, "identity": identity, "run": contender.run, "name": contender.name, "seed": contender.seed,
            "role": contender.role, "source": contender.source, "encoder": encoder.spec.name,
            "random": contender.untrained,
            "frozen": cfg.freeze or contender.freeze, "stage_widths": list(widths),
            "preprocess": {"mean": list(encoder.preprocess.mean), "std": list(encoder.preprocess.std)},
            "settings": dataclasses.asdict(cfg),
            "resolved": {
                "steps": total, "warmup_steps": cfg.warmup_steps(total), "peak_lr": cfg.peak_lr, "sides": cfg.sides,
                "masks": self.with_masks, "training_images": len(data.usable()),
            },
            "versions": versions(), "commit": commit(), "machine": device.describe(),
            "started": now(),
        }  # fmt: skip
        json_files.write(file, detector_config, seal=True)
        return detector_config

    def _calibration_batches(self, compute: device.Compute) -> Iterator[list[Tensor]]:
        """Yield training images at test size, not mirrored, in batches of 8."""
        data = self.parts["train"]
        usable = data.usable()[:CALIBRATION_IMAGES]
        for first in range(0, len(usable), 8):
            pictures = [data.pictures[i] for i in usable[first : first + 8]]
            yield [resized_image(data, picture, self.cfg).to(compute.device) for picture in pictures]

    def _train_or_load(
        self, detector: model.Detector, compute: device.Compute, contender: Contender, detector_config: dict[str, Any]
    ) -> None:
        """Train the detector, or load its weights if training has finished."""
        folder = self.detector_folder(contender)
        weights = folder / "detector.safetensors"
        fix = "restore it, or remove it and the same command trains again"
        saved = on_rank0(lambda: stored.read(weights, fix)[1] if weights.exists() else None)
        if saved is not None:
            detector.load_state_dict(saved, strict=True)
            on_rank0(lambda: checkpoint.clear(folder / "checkpoints"))
            return
        cfg, data = self.cfg, self.parts["train"]
        plan = order_plan(len(data.usable()), cfg, detector_config["resolved"]["steps"])
        samples = Samples(data, plan, cfg, self.with_masks, batch_part(cfg))
        say(
            f"{contender.run}: {'Mask' if self.with_masks else 'Faster'} R-CNN, {detector_config['encoder']}, "
            f"{plan.images:,} images, {plan.total:,} steps, peak learning rate {cfg.peak_lr:.4g}, "
            f"{compute.precision} on {compute.device}"
        )
        train.fit(folder, contender.run, detector, samples, cfg, compute)
        on_rank0(lambda: _save(detector, folder, contender))
        if processes.is_distributed():  # BatchNorm statistics differ between ranks unless norm is "sync"
            detector.load_state_dict(on_rank0(lambda: {k: v.cpu() for k, v in detector.state_dict().items()}))

    def _has_results(
        self, contender: Contender, encoder: Encoder, identity: dict[str, str], part: str, epoch: int | None
    ) -> bool:
        subject, hashes = contender.subject(encoder, epoch), self._hashes(identity, part)
        key = Key(subject, self.task(part), self.name, hashes, self._settings_hash(part))
        return on_rank0(lambda: not ResultsStore(self.folder).missing([key]))

    def _hashes(self, identity: dict[str, str], part: str) -> dict[str, str]:
        return {"encoder": identity["encoder"], "data": self.parts[part].hash(), "detector": files.hash_json(identity)}

    def _settings_hash(self, part: str) -> str:
        return files.hash_json([self.task(part), self.cfg.deciding(), self.cfg.resamples])[:16]

    def _warnings(self, part: str) -> dict[str, int]:
        """Return what limits the meaning of a part's numbers; see ``Result.warnings``."""
        left_out = sum(len(self.parts[name].left_out) for name in {"train", part})
        found = {"duplicates_across_parts": len(copies_of_training(self.parts, part)), "left_out": left_out}
        return {key: n for key, n in found.items() if n}

    def _evaluate(
        self, detector: model.Detector, compute: device.Compute, subject: Subject, identity: dict[str, str], part: str
    ) -> None:
        """Predict on a part on all ranks; rank 0 writes predictions and results."""
        data = self.parts[part]
        predictions = predict.predict(detector, data, self.cfg, compute, subject.run)
        on_rank0(lambda: self._write_results(predictions, subject, identity, part))

    def _write_results(
        self, predictions: predict.Predictions, subject: Subject, identity: dict[str, str], part: str
    ) -> None:
        data = self.parts[part]
        file = subject.file(self.task(part), self.name).removesuffix(".csv") + ".json.gz"
        predict.write(self.folder / file, predictions)
        truth, rows = data.truth(), []
        for kind in self.kinds:
            values = average_precision(truth, predictions, kind)
            intervals = bootstraps(truth, predictions, kind, self.cfg.resamples)
            for metric, value in values.items():
                bootstrap = intervals.get(metric)
                rows.append(
                    Result(
                        run=subject.run, method=subject.method, encoder=subject.encoder, seed=subject.seed,
                        task=self.task(part), data=self.name, metric=metric, value=value, n=len(data),
                        role=subject.role, epoch=subject.epoch, base_lr=subject.base_lr, labels=subject.labels,
                        interval=_interval(bootstrap) if bootstrap else None,
                        hashes=self._hashes(identity, part), predictions=file,
                        predictions_hash=records.file_hash(self.folder / file),
                        extra={
                            "settings": self._settings_hash(part), "part": part, "detect_seed": self.cfg.seed,
                            "predictions": len(predictions),
                        },
                        warnings=self._warnings(part),
                    )
                )  # fmt: skip
        records.append(ResultsStore(self.folder).file, *rows)
        say(f"{subject.run}, {part}: " + ", ".join(f"{r.metric} {100 * r.value:.1f}" for r in rows[:3]))


def bootstraps(
    truth: dict[str, Any], predictions: predict.Predictions, kind: Kind, replicates: int
) -> dict[str, Bootstrap]:
    """Return AP and AP50 of a kind with their values on bootstrap replicates of the images."""
    matches, images = match(truth, predictions, kind), len(truth["images"])
    weights = np.concatenate([np.ones((1, images)), bootstrap_weights(images, replicates)])
    return {
        f"{kind}_{name}": Bootstrap(float(values[0]), values[1:], images, images)
        for name, values in weighted(matches, weights).items()
    }


def batch_part(cfg: config.Detection) -> slice:
    """Return this rank's part of every batch.

    Raises:
        SlmlpError: the batch cannot be divided evenly between the ranks.
    """
    return distributed.batch_part(cfg.batch_size) if processes.is_distributed() else slice(None)


def _interval(bootstrap: Bootstrap) -> tuple[float, float] | None:
    mean = bootstrap_mean([bootstrap])
    return mean.share_interval if mean.variance < float("inf") else None


def _save(detector: model.Detector, folder: Path, contender: Contender) -> None:
    state = {k: v.detach().cpu().contiguous() for k, v in detector.state_dict().items()}
    stored.write(folder / "detector.safetensors", state, {"format": "slmlp-detector-1", "run": contender.run})
    checkpoint.clear(folder / "checkpoints")
