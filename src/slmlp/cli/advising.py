"""The command slmlp advise."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from slmlp import config
from slmlp.cli.answer import Answer
from slmlp.config.flags import FLAT, argument, main
from slmlp.runtime.errors import SlmlpError


@dataclass(frozen=True)
class Advise:
    """Would a projector help here? Asked of images before training, of a finished run, or of a study.

    Example: `slmlp advise MY_IMAGES --cosine`; `slmlp advise my-run`; `slmlp advise my-study`.
    A run is measured on its own images; of images only the kind of loss and augmentation count.
    """

    target: str = field(default="", metadata=argument("TARGET", "images, or the folder of a finished run or study"))
    """Images, or the folder of a finished run or study."""
    method: str = field(
        default="sl",
        metadata={
            "help": f"The method in question, for images: {', '.join(f'`{name}`' for name in config.METHODS)}.",
            **main("the method in question, for images: sl, supcon, byol ..."),
        },
    )
    augment: str = field(default="weak", metadata=main("the augmentation in question, for images"))
    """The augmentation in question, for images."""
    moved: str | None = field(default=None, metadata=main("where the images of a run are now"))
    """Where the images of a run are now, if they were moved."""
    settings: config.MethodConfig = field(default=config.METHOD_CONFIGS["sl"], metadata=FLAT)
    """The method's own settings, for images."""
    options: config.DataOptions = field(default_factory=config.DataOptions, metadata=FLAT)
    """How images are taken in."""

    @classmethod
    def defaults(cls, words: list[str]) -> Advise:
        """Return the command with the settings of the method that the words name as its defaults."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--method", nargs="?")
        named, _ = parser.parse_known_args(words)
        method = named.method or "sl"
        return cls(method=method, settings=config.method_config(method))

    def run(self) -> Answer:
        """Measure what there is to be measured."""
        if not self.target:
            raise SlmlpError("slmlp advise needs images, or the folder of a run or study")
        from slmlp.experiments.advise import advise

        found = advise(
            self.target, settings=self.settings, augment=self.augment, options=self.options, data_source=self.moved
        )
        return Answer(
            {"advice": [one.as_json() for one in found]}, sentences=[line for one in found for line in one.sentences]
        )
