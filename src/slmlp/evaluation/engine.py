"""The engine: tasks on a source of features, their numbers added to a folder's results, nothing done twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.sources import Source
from slmlp.evaluation.tasks import runner
from slmlp.results.records import Predictions, Result, checked, read_predictions
from slmlp.results.store import Key, ResultsStore, Subject
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.progress import say

Settings = config.TaskSettings | config.Study


def settings_hash(task: str, cfg: Settings) -> str:
    """Return the hash of the settings that decide a task's numbers."""
    entry = config.task_entry(task)
    values: dict[str, Any] = {
        name: cfg.probe.deciding() if name == "probe" else dataclasses.asdict(getattr(cfg, name))
        for name in entry.settings
    }
    if entry.plugin is not None:  # numbers of another text of the plug-in are others
        own = {} if entry.own is None else dataclasses.asdict(entry.own)
        values |= {"plugin": entry.plugin.source.sha256, "own": own}
    return files.hash_json(values)[:16]


@dataclass(frozen=True)
class Engine:
    """A results folder and the settings of the tasks: the same for studies, suites, single runs and feature files."""

    folder: Path
    cfg: Settings

    @property
    def store(self) -> ResultsStore:
        """The folder's results."""
        return ResultsStore(self.folder)

    def keys(self, subject: Subject, source: Source, tasks: Sequence[str]) -> list[Key]:
        """Return the keys of all numbers of a subject on the tasks, one per task and layer."""
        return [
            Key(subject, name, source.name, hashes, settings_hash(name, self.cfg), layer)
            for name in dict.fromkeys(tasks)
            for hashes in [source.hashes(config.task_entry(name))]
            for layer in source.layers(config.task_entry(name))
        ]

    def run(self, subject: Subject, source: Source, tasks: Sequence[str]) -> None:
        """Add the numbers that are missing, all lines of a task and layer at once.

        Numbers of the same weights under another role or epoch are copied: the encoder kept after the last epoch of a
        run is its final one.
        """
        source.check(tasks)
        missing = [key for key in self.store.missing(self.keys(subject, source, tasks)) if not self.store.copy(key)]
        if missing:
            epoch = "" if subject.epoch is None else f" after epoch {subject.epoch}"
            say(f"{source.name}: {subject.run}{epoch}: {', '.join(dict.fromkeys(key.task for key in missing))}")
        for key in missing:
            task = config.task_entry(key.task)
            inputs = Inputs(task, source, key.layer, subject, self)
            settings = (getattr(self.cfg, name) for name in task.settings)
            scores = runner(key.task)(inputs, *settings)
            self.store.add(key, scores, {**source.warnings(task), **inputs.warnings})

    def lines(self, keys: Sequence[Key]) -> list[Result]:
        """Return the lines of the keys, written before; SlmlpError where some are gone: the folder was removed."""
        found = self.store.lines_by_key(keys)
        lost = [key for key, lines in zip(keys, found, strict=True) if not lines]
        if lost:
            raise SlmlpError(
                f"{self.folder} lost numbers that were in it ({lost[0].task} of {lost[0].subject.run}), as if it had "
                "been removed while the command wrote into it: give the same command again"
            )
        return [row for lines in found for row in lines]

    def predictions(self, subject: Subject, source: Source, task: str) -> Predictions:
        """Return the predictions of another task of the same subject, which is run now where it has not been."""
        self.run(subject, source, [task])
        return read_predictions(checked(self.folder, self.lines(self.keys(subject, source, [task]))[0]))
