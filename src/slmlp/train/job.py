"""The request of a pretraining run: everything that decides its weights, as one value saved in config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slmlp import config
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plugins import short_name

# settings that decide nothing of the weights; they may differ when a run is resumed
FREE_TRAINING = ("threads", "checkpoint_minutes", "device", "save_every", "track")
FREE_OPTIONS = ("memory_limit_gb", "device_memory_gb", "workers", "cache_dir", "allow_unreadable")


def check_plugin(method: str, saved: config.Source, where: str) -> None:
    """Raise SlmlpError unless a plug-in's file is there, with the text that a run was trained by.

    Args:
        method: the method as it is named now.
        saved: the file of the run.
        where: the run, for the error.
    """
    now = config.method_source(method)
    if now is None or now.sha256 != saved.sha256:
        found = "slmlp's own" if now is None else f"{now.file} (sha256 {now.sha256[:12]})"
        raise SlmlpError(
            f"{where} was trained by {saved.file} (sha256 {saved.sha256[:12]}), and {short_name(method)} is of {found} "
            "now: restore the text, of which the run keeps a copy (plugin.py), or start another run with another --out"
        )


@dataclass(frozen=True)
class Job:
    """One run's request, before anything is resolved against data or machine."""

    data: str
    method: str = "sl-mlp"
    settings: config.MethodConfig = field(default_factory=lambda: config.METHOD_CONFIGS["sl-mlp"])
    training: config.Training = field(default_factory=config.Training)
    options: config.DataOptions = field(default_factory=config.DataOptions)
    labels: str = "class"
    seed: int = 0
    validation_fraction: float = 0.0
    validation_seed: int = 0
    recipe: str | None = None  # where the settings come from; they stand here resolved, so it decides nothing
    chosen: dict[str, str] = field(default_factory=dict)  # what nobody gave -> value and reason
    plugin: config.Source | None = None  # the user's file that the method is of

    def __post_init__(self) -> None:
        config.check_parts(self.method, self.settings, self.training.accumulate)

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values."""
        values = dataclasses.asdict(self)
        values.pop("chosen")  # the values stand in training
        if self.plugin is None:
            values.pop("plugin")
        return values

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], source: str, *, to_train: bool = False) -> Job:
        """Return the job that ``to_json`` wrote; settings of another version are one clear line.

        The code of a plug-in is executed ``to_train`` only: its encoder needs none. It must be the code of the run.
        """
        plugin = saved.get("plugin")
        if plugin is not None and to_train:
            check_plugin(saved["method"], config.Source(**plugin), source)
        try:
            if plugin is not None and not to_train:
                settings: config.MethodConfig = config.SavedSettings.of(saved["settings"])
            else:
                settings = config.from_dict(type(config.method_config(saved["method"])), saved["settings"])
            return cls(
                **{
                    **saved,
                    "settings": settings,
                    "plugin": plugin and config.Source(**plugin),
                    "training": config.from_dict(config.Training, saved["training"]),
                    "options": config.from_dict(config.DataOptions, saved["options"]),
                }
            )
        except (KeyError, TypeError, SlmlpError) as error:
            raise SlmlpError(
                f"{source} was written by another version of slmlp ({error}); start the run again"
            ) from error

    def hash(self) -> str:
        """Return the hash over what decides the weights."""
        return files.hash_json(self.identity())

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights: not threads, workers, caches or how often state is saved."""
        values = self.to_json()
        values.pop("data")  # the data hash stands beside this one; a folder may move
        values.pop("recipe")
        if self.plugin is not None:  # known by its text: the file may move
            values |= {"method": self.method.rpartition(":")[2], "plugin": self.plugin.sha256}
        values["settings"] = config.method_identity(self.settings)
        values["training"] = config.identity(self.training)
        for key in FREE_TRAINING:
            values["training"].pop(key)
        for key in (*FREE_OPTIONS, "label_separator"):
            values["options"].pop(key)
        return values

    def replaced(self, data: str | None, changes: Mapping[str, Any]) -> Job:
        """Return the job with its data at another place and with other settings that decide no weights.

        Raises:
            SlmlpError: a setting that does.
        """
        decisive = sorted(f"--{key.replace('_', '-')}" for key in changes.keys() - {*FREE_TRAINING, *FREE_OPTIONS})
        if decisive:
            raise SlmlpError(
                f"a resumed run keeps its settings: {', '.join(decisive)} cannot be changed; leave them out, or start "
                "another run with another --out"
            )
        training = {key: value for key, value in changes.items() if key in FREE_TRAINING}
        options = {key: value for key, value in changes.items() if key in FREE_OPTIONS}
        return dataclasses.replace(
            self,
            data=data or self.data,
            training=dataclasses.replace(self.training, **training),
            options=dataclasses.replace(self.options, **options),
        )
