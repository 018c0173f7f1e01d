"""A recipe: settings with the source of each, and the number to expect."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from typing import Any

from slmlp import config
from slmlp.config import adapt
from slmlp.config.flags import flags

MEMORY, OURS = "from memory", "slmlp's choice"  # in a citation: no source at hand; chosen by this project
# a recipe's settings do not adapt to images and machine
FIXED = {"encoder": adapt.ENCODER, "epochs": adapt.EPOCHS, "batch_size": adapt.BATCH}
Given = dict[str, tuple[Any, str]]  # setting -> (value, where in the source it stands)


@dataclass(frozen=True)
class Recipe:
    """Settings that can be run as they are, or changed one by one."""

    name: str
    method: str
    settings: config.MethodConfig
    training: config.Training
    cited: dict[str, str]
    """Setting -> where its value comes from; a setting that is not here has slmlp's default."""
    source: str
    """Paper, and public configuration where there is one."""
    data: str
    """The images, and whether labels are used."""
    hardware: str
    """What the source ran on."""
    hours: str
    """How long that took, where it is published."""
    expected: str
    """The number to expect, with its metric and how sure it is."""
    differs: tuple[str, ...] = ()
    """What is not as in the source."""
    run_by_us: bool = False
    """Whether slmlp has reached the number with these settings."""

    @property
    def settings_from(self) -> str:
        """What the settings are known from: ``source``, ``memory`` (in whole or in part), or ``slmlp``.

        Memory means that no source at hand states the value; slmlp, that this project chose it.
        """
        remembered = [name for name, citation in self.cited.items() if MEMORY in citation]
        own = [name for name, citation in self.cited.items() if OURS in citation]
        if remembered and len(remembered) + len(own) == len(self.cited):
            return "memory"
        if remembered:
            return f"memory in part: {', '.join(remembered)}"
        return "slmlp" if own and len(own) == len(self.cited) else "source, in part slmlp" if own else "source"

    def command(self, data: str = "DATA", out: str = "RUN") -> str:
        """Return the command that runs it."""
        return shlex.join(["slmlp", "pretrain", data, "--recipe", self.name, "--out", out])

    def full_command(self, data: str = "DATA", out: str = "RUN") -> str:
        """Return the same command with every setting spelled out."""
        words = flags(self.training, config.Training())
        words += flags(self.settings, config.METHOD_CONFIGS[self.method])
        return shlex.join(["slmlp", "pretrain", data, "--method", self.method, *words, "--out", out])


def cited(citation: str, **values: Any) -> Given:
    """Return settings that are all found in the same place of the source."""
    return {name: (value, citation) for name, value in values.items()}


def make(name: str, method: str, *, training: Given, settings: Given | None = None, **about: Any) -> Recipe:
    """Return a recipe from settings that each carry their citation, over the method's and training's defaults."""
    settings = settings or {}
    return Recipe(
        name=name,
        method=method,
        settings=dataclasses.replace(config.method_config(method), **{k: v for k, (v, _) in settings.items()}),
        training=config.Training(**{**FIXED, **{k: v for k, (v, _) in training.items()}}),
        cited={k: citation for k, (_, citation) in {**training, **settings}.items()},
        **about,
    )
