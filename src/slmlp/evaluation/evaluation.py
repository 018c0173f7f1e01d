"""A run on a task: features, probe, measures, and one result line per number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slmlp import config
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.data.splits.classes import ConceptSplit
from slmlp.encoders import Encoder
from slmlp.encoders.extract import extract, transform_id
from slmlp.probes.cross_validation import cross_validate
from slmlp.probes.features import Features
from slmlp.probes.linear import ProbeResult
from slmlp.probes.linear import evaluate as probe_on_test
from slmlp.probes.measures.measures import measure
from slmlp.results.records import Result, Score
from slmlp.results.store import ResultsStore, Subject
from slmlp.runtime import files
from slmlp.runtime.progress import say

UNSEEN, SOURCE, MEASURES, VALIDATION = "unseen", "source", "measures", "validation"
Extract = Callable[[ImageSet], Features]


@dataclass(frozen=True)
class Evaluation:
    """Images under a split, a folder for the numbers, and the settings; the same for every run of a study."""

    image_cache: ImageCache
    images: ImageSet  # with parts
    split: ConceptSplit
    folder: Path
    probe: config.Probe
    measures: config.Measures

    @property
    def store(self) -> ResultsStore:
        """Where the numbers are kept."""
        return ResultsStore(self.folder)

    @property
    def results_file(self) -> Path:
        """Where the lines go."""
        return self.store.file

    @property
    def source(self) -> ImageSet:
        """Images of the classes that pretraining may see."""
        return self.images.of_classes(self.split.source)

    def images_of(self, task: str) -> list[ImageSet]:
        """Return the images whose features a task reads, one set a call of the extractor."""
        source = [self.source.of_part("train"), self.source.of_part("test")]
        return {UNSEEN: [self.unseen], SOURCE: source, MEASURES: [*source, self.unseen]}[task]

    @property
    def unseen(self) -> ImageSet:
        """Images of the held-out classes, both parts: pretraining saw none of them."""
        return self.images.of_classes(self.split.unseen)

    @property
    def features_cache(self) -> Path:
        """Where features are kept."""
        return self.folder / "cache" / "features"

    def extractor(self, encoder: Encoder, device: str = "cpu") -> Extract:
        """Return a function from images to this encoder's features, cached."""
        return lambda images: extract(encoder, self.image_cache, images, self.features_cache, device)

    def run(
        self, subject: Subject, extract_: Extract, hashes: dict[str, str], tasks: tuple[str, ...], transform: str
    ) -> None:
        """Do what is not in the results file yet, and add its lines, all of a task at once.

        Numbers count as there only with the same encoder, split and settings. The encoder kept after the last epoch is
        the final one: its lines are copied, not computed again.
        """
        left, copies = self._left(subject, hashes, tasks)
        for task in copies:
            self.store.copy(subject, copies[task])
        if left:
            at = "" if subject.epoch is None else f" after epoch {subject.epoch}"
            say(f"{subject.run}{at}: evaluating ({', '.join(left)})")
        for task in left:
            marks = {**hashes, "split": self.split.hash(), "transform": transform}
            scores, images = self._scores(task, extract_)
            marks["data"] = images.hash()
            self.store.add(subject, task, self.images.name, scores, marks, self._settings(task))

    def done(self, subject: Subject, hashes: dict[str, str], tasks: tuple[str, ...]) -> bool:
        """Whether ``run`` would add nothing."""
        left, copies = self._left(subject, hashes, tasks)
        return not left and not copies

    def _left(
        self, subject: Subject, hashes: dict[str, str], tasks: tuple[str, ...]
    ) -> tuple[list[str], dict[str, list[Result]]]:
        """Return the tasks to do, and the lines of others that only want copying."""
        marks = {"encoder": hashes["encoder"], "split": self.split.hash()}
        settings = {task: self._settings(task) for task in tasks}
        own, there = self.store.known(subject, self.images.name, dict.fromkeys(tasks, marks), settings)
        left = [task for task in tasks if (task, "output") not in own]
        copies = {task: there[task, "output"] for task in left if (task, "output") in there}
        return [task for task in left if task not in copies], copies

    def _scores(self, task: str, extract_: Extract) -> tuple[list[Score], ImageSet]:
        """Return the numbers of a task and the images that they are of."""
        if task == UNSEEN:
            return probe_scores(cross_validate(extract_(self.unseen), self.probe)), self.unseen
        if task == SOURCE:
            source = self.source
            train, test = extract_(source.of_part("train")), extract_(source.of_part("test"))
            return probe_scores(probe_on_test(train, test, self.probe)), source
        return self._measures(extract_), self.images

    def _settings(self, task: str) -> str:
        """Return the hash of the settings that a task reads and that change its numbers."""
        settings = dataclasses.asdict(self.measures) if task == MEASURES else self.probe.deciding()
        return files.hash_json(settings)[:16]

    def _measures(self, extract_: Extract) -> list[Score]:
        """Measure source test images against unseen images, and the ratio on the images trained on."""
        source = self.source
        test, train, unseen = extract_(source.of_part("test")), extract_(source.of_part("train")), extract_(self.unseen)
        values = measure(test, unseen, self.measures)
        on_train = measure(train, None, self.measures)
        for name in ("discriminative_ratio_source", "discriminative_ratio_source_normalised"):
            values[name.replace("source", "source_train")] = on_train[name]
        n = len(test) + len(unseen)
        # JSON has no infinity: a measure that is not defined here has no line
        return [Score(metric, float(value), n) for metric, value in values.items() if np.isfinite(value)]


def probe_scores(outcome: ProbeResult) -> list[Score]:
    """Return what a probe found as scores; the mean over classes follows from the same predictions."""
    extra = {
        "l2": list(outcome.l2),
        "at_grid_edge": outcome.at_edge,
        "gradient_norm": max(outcome.gradient_norms),
        "unfinished_fits": outcome.unfinished,
    }
    return [
        Score("accuracy", outcome.accuracy, outcome.n, outcome.interval, outcome.predictions, extra),
        Score("mean_class_accuracy", outcome.mean_class_accuracy, outcome.n, extra=extra),
    ]


def encoder_hashes(encoder: Encoder) -> tuple[dict[str, str], str]:
    """Return the hashes entry of an encoder and the name of its transform."""
    return {"encoder": encoder.hash()}, transform_id(encoder)
