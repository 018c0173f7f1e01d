"""A run on a task: features, probe, measures, and one result line per number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slmlp import config, files, results
from slmlp.analysis.measures import measure
from slmlp.concepts.split import ConceptSplit
from slmlp.corpus import Corpus
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder
from slmlp.features import Features, extract, transform_id
from slmlp.probes.crossfit import crossfit
from slmlp.probes.linear import ProbeResult
from slmlp.probes.linear import evaluate as probe_on_test
from slmlp.progress import say
from slmlp.results import Result

UNSEEN, SOURCE, MEASURES, VALIDATION = "unseen", "source", "measures", "validation"
Extract = Callable[[ImageSet], Features]


@dataclass(frozen=True)
class Subject:
    """Whose numbers they are: the fields that every line of one run (or baseline, or kept epoch) shares."""

    run: str
    method: str
    encoder: str
    seed: int
    role: str
    epoch: int | None = None
    base_lr: float | None = None
    labels: str = "class"

    def file(self, task: str) -> str:
        """Return the name of the predictions file of a task."""
        epoch = "" if self.epoch is None else f"-epoch{self.epoch:04d}"
        return f"predictions/{self.run}{epoch}-{task}.csv"


@dataclass(frozen=True)
class Evaluation:
    """Images under a split, a folder for the numbers, and the settings; the same for every run of a study."""

    corpus: Corpus
    images: ImageSet  # with parts
    split: ConceptSplit
    folder: Path
    probe: config.Probe
    measures: config.Measures

    @property
    def results_file(self) -> Path:
        """Where the lines go."""
        return self.folder / "results.jsonl"

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
        return lambda images: extract(encoder, self.corpus, images, self.features_cache, device)

    def run(
        self, subject: Subject, extract_: Extract, hashes: dict[str, str], tasks: tuple[str, ...], transform: str
    ) -> None:
        """Do what is not in the results file yet, and add its lines, all of a task at once.

        Numbers count as there only with the same encoder, split and settings. The encoder kept after the last epoch is
        the final one: its lines are copied, not computed again.
        """
        known: dict[str, list[Result]] = {}
        copies: dict[str, list[Result]] = {}
        for row in results.read(self.results_file):
            if (
                row.run == subject.run
                and row.hashes.get("encoder") == hashes["encoder"]
                and row.hashes.get("split") == self.split.hash()
                and row.extra.get("settings") == self._settings(row.task)
                and (row.predictions is None or (self.folder / row.predictions).exists())
            ):
                mine = (row.role, row.epoch) == (subject.role, subject.epoch)
                (known if mine else copies).setdefault(row.task, []).append(row)
        left = [task for task in tasks if task not in known]
        for task in [task for task in left if task in copies]:
            mine_now = [replace(row, role=subject.role, epoch=subject.epoch) for row in copies[task]]
            results.append(self.results_file, *mine_now)
            left.remove(task)
        if left:
            at = "" if subject.epoch is None else f" after epoch {subject.epoch}"
            say(f"{subject.run}{at}: evaluating ({', '.join(left)})")
        marks = {**hashes, "split": self.split.hash(), "transform": transform}
        for task in left:
            if task == UNSEEN:
                self._probe(subject, task, crossfit(extract_(self.unseen), self.probe), self.unseen, marks)
            elif task == SOURCE:
                source = self.source
                train, test = extract_(source.of_part("train")), extract_(source.of_part("test"))
                self._probe(subject, task, probe_on_test(train, test, self.probe), source, marks)
            elif task == MEASURES:
                self._measures(subject, extract_, marks)

    def _settings(self, task: str) -> str:
        """Return the hash of the settings that a task reads and that change its numbers."""
        settings = dataclasses.asdict(self.measures if task == MEASURES else self.probe)
        settings.pop("memory_limit_gb", None)
        return files.hash_json(settings)[:16]

    def _probe(
        self, subject: Subject, task: str, outcome: ProbeResult, images: ImageSet, marks: dict[str, str]
    ) -> None:
        """Write predictions, then the lines that name them."""
        file = subject.file(task)
        results.write_predictions(self.folder / file, outcome.predictions)
        hashes = {**marks, "data": images.hash()}
        extra = {
            "strengths": list(outcome.strengths),
            "at_grid_edge": outcome.at_edge,
            "gradient_norm": max(outcome.gradient_norms),
            "unfinished_fits": outcome.unfinished,
            "settings": self._settings(task),
        }
        lines = []
        for metric, value, interval in (
            ("accuracy", outcome.accuracy, outcome.interval),
            ("mean_class_accuracy", outcome.mean_class_accuracy, None),
        ):
            line = self._line(subject, task, metric, value, outcome.n, hashes)
            lines.append(replace(line, interval=interval, predictions=file, extra=extra))
        results.append(self.results_file, *lines)

    def _measures(self, subject: Subject, extract_: Extract, marks: dict[str, str]) -> None:
        """Measure source test images against unseen images, and the ratio on the images trained on."""
        source = self.source
        test, train, unseen = extract_(source.of_part("test")), extract_(source.of_part("train")), extract_(self.unseen)
        values = measure(test, unseen, self.measures)
        on_train = measure(train, None, self.measures)
        for name in ("discriminative_ratio_source", "discriminative_ratio_source_normalised"):
            values[name.replace("source", "source_train")] = on_train[name]
        n, hashes = len(test) + len(unseen), {**marks, "data": self.images.hash()}
        extra = {"settings": self._settings(MEASURES)}
        lines = [
            replace(self._line(subject, MEASURES, metric, float(value), n, hashes), extra=extra)
            for metric, value in values.items()
            if np.isfinite(value)  # JSON has no infinity: a measure that is not defined here has no line
        ]
        results.append(self.results_file, *lines)

    def _line(self, s: Subject, task: str, metric: str, value: float, n: int, hashes: dict[str, Any]) -> Result:
        return Result(
            run=s.run, method=s.method, encoder=s.encoder, seed=s.seed, task=task, data=self.images.name,
            metric=metric, value=value, n=n, role=s.role, epoch=s.epoch, base_lr=s.base_lr, labels=s.labels,
            hashes=hashes,
        )  # fmt: skip


def encoder_hashes(encoder: Encoder) -> tuple[dict[str, str], str]:
    """Return the hashes entry of an encoder and the name of its transform."""
    return {"encoder": encoder.hash()}, transform_id(encoder)
