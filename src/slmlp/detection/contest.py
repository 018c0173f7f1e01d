"""One contender after the other: its detector trained where that is not done, and its numbers added to the results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from slmlp import config
from slmlp.detection import model, predict, train
from slmlp.detection.backbone import stages
from slmlp.detection.coco import DetectionSet
from slmlp.detection.evaluate import Kind, average_precision
from slmlp.detection.resample import bootstrap_weights, match, weighted
from slmlp.detection.samples import Samples, order_plan, resized_image
from slmlp.encoders import Encoder
from slmlp.experiments.contenders import Contender
from slmlp.results import records
from slmlp.results.intervals import Bootstrap, bootstrap_mean
from slmlp.results.records import Result
from slmlp.results.store import Key, ResultsStore, Subject, slug
from slmlp.runtime import device, distributed, files, processes
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say
from slmlp.runtime.ranks import on_rank0
from slmlp.train.run import commit, versions
from slmlp.train.sync_batchnorm import synchronise

CALIBRATED = 64  # training images that give a random backbone its BatchNorm statistics, in batches of 8


@dataclass(frozen=True)
class Contest:
    """What all contenders share."""

    name: str  # of the data
    parts: Mapping[str, DetectionSet]  # the training part, and those that AP is measured on
    main: str  # the part of the task "detect"; others are "detect-train" ...
    cfg: config.Detection
    folder: Path
    with_masks: bool

    @property
    def judged(self) -> list[str]:
        """Parts that AP is measured on, the main one first."""
        return [self.main, *(part for part in self.cfg.evaluate if part != self.main)]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is judged."""
        return ("box", "mask") if self.with_masks else ("box",)

    def task(self, part: str) -> str:
        """Return the task's name in the results file."""
        return "detect" if part == self.main else f"detect-{part}"

    def place(self, contender: Contender) -> Path:
        """Return the folder of an contender's detector."""
        return self.folder / "detectors" / slug(contender.run)

    def enter(self, contender: Contender) -> dict[str, Any]:
        """Train and judge one contender, as far as that is not done; return what is to be told of it."""
        encoder = contender.open()
        cfg, data, place = self.cfg, self.parts["train"], self.place(contender)
        identity = {
            "encoder": encoder.hash(),
            "data": data.hash(),
            "settings": files.hash_json([cfg.deciding(), contender.freeze, self.with_masks]),
        }
        about = on_rank0(lambda: self._open(place, contender, encoder, identity))
        wanted: list[tuple[str, int | None]] = [(part, None) for part in self.judged]
        if cfg.evaluate_start:
            wanted += [(part, 0) for part in self.judged]
        left = [(part, epoch) for part, epoch in wanted if not self._known(contender, encoder, identity, part, epoch)]
        if not left:
            say(f"{contender.run} is done already")
            return about
        compute = device.choose(encoder, cfg.device, cfg.precision)
        detector = model.build(encoder, len(data.categories), self.with_masks, cfg, cfg.freeze or contender.freeze)
        device.place(detector, compute)
        distributed.connect(compute.device)
        if cfg.norm == "sync":
            synchronise(detector, compute.device)
        if contender.untrained and (cfg.freeze or contender.freeze or cfg.norm in ("frozen", "group")):
            model.calibrate(detector, self._some(compute))
        for part, _ in [one for one in left if one[1] == 0]:
            self._judge(detector, compute, contender.subject(encoder, 0), identity, part)
        if any(epoch is None for _, epoch in left):
            self._fit(detector, compute, contender, about)
        for part, _ in [one for one in left if one[1] is None]:
            self._judge(detector, compute, contender.subject(encoder), identity, part)
        return about

    def _open(self, place: Path, contender: Contender, encoder: Encoder, identity: dict[str, str]) -> dict[str, Any]:
        file = place / "config.json"
        if file.exists():
            about: dict[str, Any] = files.read_json(file)
            differing = [key for key, value in identity.items() if about["identity"].get(key) != value]
            if differing:
                raise SlmlpError(
                    f"{place} holds another detector (it differs in {', '.join(differing)}); choose another --out, or "
                    "remove it"
                )
            return about
        data, cfg = self.parts["train"], self.cfg
        total = cfg.total(len(data.usable()))
        order_plan(len(data.usable()), cfg, total)  # rejects a batch that is too large: nothing is written
        widths = stages(encoder).widths
        about = {
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
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        files.write_json(file, about)
        return about

    def _some(self, compute: device.Compute) -> Any:
        """Yield images of the training part, as they are tested on, in batches of 8."""
        data = self.parts["train"]
        usable = data.usable()[:CALIBRATED]
        for first in range(0, len(usable), 8):
            pictures = [data.pictures[i] for i in usable[first : first + 8]]
            yield [resized_image(data, picture, self.cfg).to(compute.device) for picture in pictures]

    def _fit(
        self, detector: model.Detector, compute: device.Compute, contender: Contender, about: dict[str, Any]
    ) -> None:
        """Train the detector, or load what a finished training left."""
        place = self.place(contender)
        weights = place / "detector.safetensors"
        saved = on_rank0(lambda: load_file(weights) if weights.exists() else None)
        if saved is not None:
            detector.load_state_dict(saved, strict=True)
            return
        cfg, data = self.cfg, self.parts["train"]
        plan = order_plan(len(data.usable()), cfg, about["resolved"]["steps"])
        samples = Samples(data, plan, cfg, self.with_masks, share(cfg))
        say(
            f"{contender.run}: {'Mask' if self.with_masks else 'Faster'} R-CNN, {about['encoder']}, "
            f"{plan.images:,} images, {plan.total:,} steps, peak learning rate {cfg.peak_lr:.4g}, "
            f"{compute.precision} on {compute.device}"
        )
        train.fit(place, contender.run, detector, samples, cfg, compute)
        on_rank0(lambda: _save(detector, place, contender))
        if processes.is_distributed():  # statistics that were not shared are a process's own until now
            detector.load_state_dict(on_rank0(lambda: {k: v.cpu() for k, v in detector.state_dict().items()}))

    def _known(
        self, contender: Contender, encoder: Encoder, identity: dict[str, str], part: str, epoch: int | None
    ) -> bool:
        subject, hashes = contender.subject(encoder, epoch), self._hashes(identity, part)
        key = Key(subject, self.task(part), self.name, hashes, self._settings_hash(part))
        return on_rank0(lambda: not ResultsStore(self.folder).missing([key]))

    def _hashes(self, identity: dict[str, str], part: str) -> dict[str, str]:
        return {"encoder": identity["encoder"], "data": self.parts[part].hash(), "detector": files.hash_json(identity)}

    def _settings_hash(self, part: str) -> str:
        return files.hash_json([self.task(part), self.cfg.deciding(), self.cfg.resamples])[:16]

    def _judge(
        self, detector: model.Detector, compute: device.Compute, subject: Subject, identity: dict[str, str], part: str
    ) -> None:
        """Predict on a part together, then let the first process keep predictions and numbers."""
        data = self.parts[part]
        found = predict.predict(detector, data, self.cfg, compute, subject.run)
        on_rank0(lambda: self._keep(found, subject, identity, part))

    def _keep(self, found: predict.Found, subject: Subject, identity: dict[str, str], part: str) -> None:
        data = self.parts[part]
        file = subject.file(self.task(part), self.name).removesuffix(".csv") + ".json.gz"
        predict.write(self.folder / file, found)
        truth, rows = data.truth(), []
        for kind in self.kinds:
            values = average_precision(truth, found, kind)
            intervals = bootstraps(truth, found, kind, self.cfg.resamples)
            for metric, value in values.items():
                bootstrap = intervals.get(metric)
                rows.append(
                    Result(
                        run=subject.run, method=subject.method, encoder=subject.encoder, seed=subject.seed,
                        task=self.task(part), data=self.name, metric=metric, value=value, n=len(data),
                        role=subject.role, epoch=subject.epoch, base_lr=subject.base_lr, labels=subject.labels,
                        interval=_interval(bootstrap) if bootstrap else None,
                        hashes=self._hashes(identity, part), predictions=file,
                        extra={
                            "settings": self._settings_hash(part), "part": part, "detect_seed": self.cfg.seed,
                            "predictions": len(found),
                        },
                    )
                )  # fmt: skip
        if not rows:
            raise SlmlpError(f"{data.source}: no object to be found in any image, so AP is not defined on it")
        records.append(ResultsStore(self.folder).file, *rows)
        say(f"{subject.run}, {part}: " + ", ".join(f"{r.metric} {100 * r.value:.1f}" for r in rows[:3]))


def bootstraps(truth: dict[str, Any], found: predict.Found, kind: Any, replicates: int) -> dict[str, Bootstrap]:
    """Return AP and AP50 of a kind with their values on bootstrap replicates of the images."""
    matches, images = match(truth, found, kind), len(truth["images"])
    weights = np.concatenate([np.ones((1, images)), bootstrap_weights(images, replicates)])
    return {
        f"{kind}_{name}": Bootstrap(float(values[0]), values[1:], images, images)
        for name, values in weighted(matches, weights).items()
    }


def share(cfg: config.Detection) -> slice:
    """Return the part of every batch that is this process's."""
    return distributed.batch_part(cfg.batch_size) if processes.is_distributed() else slice(None)


def _interval(bootstrap: Bootstrap) -> tuple[float, float] | None:
    mean = bootstrap_mean([bootstrap])
    return mean.share_interval if mean.variance < float("inf") else None


def _save(detector: model.Detector, place: Path, contender: Contender) -> None:
    state = {k: v.detach().cpu().contiguous() for k, v in detector.state_dict().items()}
    about = json.dumps({"format": "slmlp-detector-1", "run": contender.run})
    files.write_tensors(place / "detector.safetensors", state, {"slmlp": about})
    for file in (place / "checkpoints").glob("step-*.ckpt"):
        file.unlink()
