"""One data set in the suite: its images, who is asked what on them, and the numbers added one task at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from slmlp import config
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders import Encoder, layers
from slmlp.encoders.extract import extract_layers, precision_of, transform_id
from slmlp.evaluation.evaluation import probe_scores
from slmlp.evaluation.tasks import find as find_task
from slmlp.evaluation.tasks import levels
from slmlp.evaluation.tasks.finetune import finetune
from slmlp.evaluation.tasks.linear import multilabel
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.features import Features
from slmlp.probes.multilabel import MultiLabel
from slmlp.results.records import Score, read_predictions
from slmlp.results.store import ResultsStore, Subject, slug
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.progress import say

# task -> the fields of config.TaskSettings that decide its numbers
SETTINGS: dict[str, tuple[str, ...]] = {
    "linear": ("probe",),
    "knn": ("knn",),
    "centroid": ("centroid",),
    "fewshot": ("fewshot",),
    "labels": ("labels", "probe"),
    "stages": ("probe",),
    "finetune": ("finetune",),
    "unseen": ("probe",),
    "levels": ("probe",),
    "source": ("probe",),
    "fine": ("probe",),
}
OF_SEVERAL = ("linear", "stages")  # tasks that take images of several labels each
OF_A_SPLIT = ("unseen", "levels", "source", "fine")


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuse tasks that do not exist."""
    if not tasks:
        raise SlmlpError(f"no task was named; choose among {', '.join(SETTINGS)}")
    for task in tasks:
        if task not in SETTINGS:
            raise unknown("task", task, SETTINGS)


def settings_hash(task: str, cfg: config.TaskSettings) -> str:
    """Return the hash of the settings that decide a task's numbers."""
    values = {
        name: cfg.probe.deciding() if name == "probe" else dataclasses.asdict(getattr(cfg, name))
        for name in SETTINGS[task]
    }
    return files.hash_json(values)[:16]


@dataclass(frozen=True)
class Room:
    """A data set with its parts, decoded, and the folder that its numbers go to."""

    name: str
    images: ImageSet
    image_cache: ImageCache
    folder: Path
    cfg: config.TaskSettings
    split: ConceptSplit | None = None

    def run(self, subject: Subject, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Add what is not in the results file yet; each task's lines are added all at once."""
        self.check(tasks)
        settings = {task: settings_hash(task, self.cfg) for task in tasks}
        mark = encoder.hash()
        hashes = {task: self._hashes(task, encoder, mark) for task in tasks}
        store = ResultsStore(self.folder)
        known, _ = store.known(subject, self.name, hashes, settings)
        left = [task for task in tasks if not {(task, layer) for layer in self._layers(task, encoder)} <= known.keys()]
        if left:
            say(f"{self.name}: {subject.run}: {', '.join(left)}")
        for task in left:
            for layer in self._layers(task, encoder):
                if (task, layer) not in known:
                    scores = self._scores(task, layer, subject, encoder)
                    store.add(subject, task, self.name, scores, hashes[task], settings[task], layer, below_data=True)

    def image_sets(self, task: str) -> list[ImageSet]:
        """Return the images whose features a task reads, one set a call of the extractor."""
        if task in ("unseen", "levels"):
            return [self._unseen]
        if task in ("source", "fine"):
            source = self._held.source
            return [self.images.of_classes(source).of_part(part) for part in ("train", "test")]
        return [] if task == "finetune" else [self.images.of_part("train"), self.images.of_part("test")]

    def _layers(self, task: str, encoder: Encoder) -> tuple[str, ...]:
        if task != "stages":
            return ("output",)
        found = layers.names(encoder)
        if len(found) < 2:
            raise SlmlpError(f"{encoder.origin.source} shows no stages inside: leave stages out of --tasks for it")
        return found

    def _scores(self, task: str, layer: str, subject: Subject, encoder: Encoder) -> list[Score]:
        cfg = self.cfg
        if task == "finetune":
            notes = self.folder / "finetune" / f"{slug(self.name)}-{slug(subject.run)}.jsonl"
            return finetune(
                encoder, self.image_cache, self.images.of_part("train"), self.images.of_part("test"), cfg.finetune,
                device_name=cfg.extraction.device, precision=cfg.extraction.precision, notes=notes,
            )  # fmt: skip
        if task == "levels":
            return self._levels(subject, encoder)
        sets = [self.features(encoder, images, task)[layer] for images in self.image_sets(task)]
        if self.images.several(cfg.data.label_separator):
            train, test = MultiLabel.split(sets, str(cfg.data.label_separator))
            return multilabel(train, test, cfg.probe)
        if task == "fine":
            superclasses = self.images.of_classes(self._held.source).superclasses
            if superclasses is None:
                raise SlmlpError(f"task fine: {self.name} names no superclasses; give them with --superclasses")
            return find_task("fine")(*sets, dict(zip(sets[0].classes, superclasses, strict=True)), cfg.probe)
        return answer(task, sets, cfg)

    @property
    def features_cache(self) -> Path:
        """Where features are kept, and the statistics of untrained encoders."""
        return self.folder / "cache" / "features"

    def extract_together(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Extract what the tasks will read as one of several processes that share the work."""
        for task in tasks:
            for images in self.image_sets(task):
                self.features(encoder, images, task, together=True)

    def features(self, encoder: Encoder, images: ImageSet, task: str, *, together: bool = False) -> dict[str, Features]:
        """Return features by layer, cached."""
        cache = self.features_cache
        wanted, asked = self._layers(task, encoder), self.cfg.extraction
        return extract_layers(
            encoder, self.image_cache, images, cache, asked.device, wanted, self._precision(task, encoder),
            batch_size=asked.batch_size, together=together,
        )  # fmt: skip

    def _precision(self, task: str, encoder: Encoder) -> str:
        """Return the precision of a task's features: as asked, but the main job's own tasks as a study has them."""
        asked = self.cfg.extraction
        if asked.precision == "auto" and task in OF_A_SPLIT:
            return "float32"
        return precision_of(encoder, asked.device, asked.precision)

    def _hashes(self, task: str, encoder: Encoder, mark: str) -> dict[str, str]:
        transform = transform_id(encoder, self._precision(task, encoder))
        hashes = {"encoder": mark, "data": self._data_hash, "transform": transform}
        if self.split is not None:
            hashes["split"] = self.split.hash()
        return hashes

    def _levels(self, subject: Subject, encoder: Encoder) -> list[Score]:
        """Cut the predictions of the task ``unseen``, which comes first, into levels of semantic distance."""
        self.run(subject, encoder, ["unseen"])
        unseen = self._unseen
        file = subject.file("unseen", self.name)
        if unseen.superclasses is not None:
            of: dict[str, int | str] = dict(zip(unseen.classes, unseen.superclasses, strict=True))
        else:
            of = dict(levels.wordnet_levels(self._held.source, self._held.unseen))
        return levels.by_level(read_predictions(self.folder / file), of)

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse tasks that need one label an image where images have several."""
        other = [task for task in tasks if task not in OF_SEVERAL]
        if other and self.images.several(self.cfg.data.label_separator):
            raise SlmlpError(
                f"--task {other[0]}: images of {self.name} have several labels each; choose {' or '.join(OF_SEVERAL)}"
            )

    @cached_property
    def _data_hash(self) -> str:
        return self.images.hash()

    @property
    def _held(self) -> ConceptSplit:
        if self.split is None:
            raise SlmlpError(f"{self.name} is under no split: {', '.join(OF_A_SPLIT)} need one; give it with --split")
        return self.split

    @property
    def _unseen(self) -> ImageSet:
        return self.images.of_classes(self._held.unseen)


def answer(task: str, sets: Sequence[Features], cfg: config.TaskSettings) -> list[Score]:
    """Return the numbers of a task that reads features alone: a training and a test part, or one set."""
    if task == "unseen":
        return probe_scores(cross_validate(sets[0], cfg.probe))
    solve: Callable[..., list[Score]] = find_task({"source": "linear", "stages": "linear"}.get(task, task))
    if task == "fewshot":
        return solve(joined(sets), cfg.fewshot)
    return solve(*sets, *(getattr(cfg, name) for name in SETTINGS[task]))


def joined(sets: Sequence[Features]) -> Features:
    """Return the features of several sets of images as one, in the order of the ids."""
    first = sets[0]
    x, y = np.concatenate([s.x for s in sets]), np.concatenate([s.y for s in sets])
    ids, groups = np.concatenate([s.ids for s in sets]), np.concatenate([s.groups for s in sets])
    return Features(x, y, first.classes, ids, groups).select(np.argsort(ids, kind="stable"))
