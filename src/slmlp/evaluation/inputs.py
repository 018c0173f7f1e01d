"""The inputs of a task: features at one layer, and the images and the encoder behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slmlp import config
from slmlp.evaluation.sources import EncoderSource, ImageData, ImageSource, Sets, Source
from slmlp.probes.features import Features, all_equal
from slmlp.results.records import Predictions
from slmlp.results.store import Subject

if TYPE_CHECKING:
    from slmlp.evaluation.engine import Engine


@dataclass(frozen=True)
class Inputs:
    """The features that a task reads at one layer, and for the tasks that need more, the images and the encoder."""

    task: config.Task
    source: Source
    layer: str
    subject: Subject
    engine: Engine
    warnings: dict[str, int] = field(default_factory=dict)  # what was found in features that were read

    @property
    def sets(self) -> Sets:
        """The features of the sets of images that the task reads, of one label per image or of several."""
        sets = self.source.features(self.task, self.layer)
        equal = sum(len(one) for one in sets if len(one) > 1 and all_equal(one.x))
        if equal:
            self.warnings["equal_features"] = equal
        return sets

    @property
    def features(self) -> list[Features]:
        """The same of one label per image."""
        return [features for features in self.sets if isinstance(features, Features)]

    def at(self, layer: str) -> Inputs:
        """Return the inputs of the same task at another layer."""
        return replace(self, layer=layer)

    @property
    def data(self) -> ImageData:
        """The images."""
        assert isinstance(self.source, ImageSource)
        return self.source.data

    @property
    def encoder(self) -> EncoderSource:
        """The encoder, its device and precision."""
        assert isinstance(self.source, EncoderSource)
        return self.source

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.engine.folder

    def predictions(self, task: str) -> Predictions:
        """Return the predictions of another task on the same encoder and data."""
        return self.engine.predictions(self.subject, self.source, task)
