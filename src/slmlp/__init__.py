"""slmlp: pretrain encoders on labelled images, with the MLP projector as a switch, and prove which of them transfers.

>>> import numpy as np, slmlp
>>> x = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]])
>>> slmlp.discriminative_ratio(x, np.array([0, 0, 1, 1]))
16.0
"""

from __future__ import annotations

# nothing is imported here, so that a signal meets the command line's own handlers a few milliseconds sooner
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slmlp.api import (
        advise,
        compare,
        detect,
        evaluate,
        export,
        features,
        measure,
        pretrain,
        resume,
        split,
        study,
        suite,
    )
    from slmlp.config import Detection, Study, Suite, TaskSettings, Training, recipes
    from slmlp.encoders import Encoder
    from slmlp.exports.add_projector import add_projector, remove_projector
    from slmlp.probes.measures.mixtureness import feature_mixtureness
    from slmlp.probes.measures.ratio import discriminative_ratio
    from slmlp.probes.measures.redundancy import feature_redundancy
    from slmlp.runtime.errors import SlmlpError

# imported at first use, so that `import slmlp` and `--help` stay quick
_MODULES = {
    "slmlp.config": ("Detection", "Study", "Suite", "TaskSettings", "Training"),
    "slmlp.encoders": ("Encoder",),
    "slmlp.exports.add_projector": ("add_projector", "remove_projector"),
    "slmlp.probes.measures.mixtureness": ("feature_mixtureness",),
    "slmlp.probes.measures.ratio": ("discriminative_ratio",),
    "slmlp.probes.measures.redundancy": ("feature_redundancy",),
    "slmlp.runtime.errors": ("SlmlpError",),
}  # of the names that are not of slmlp.api

__all__ = [
    "Detection",
    "Encoder",
    "SlmlpError",
    "Study",
    "Suite",
    "TaskSettings",
    "Training",
    "add_projector",
    "advise",
    "compare",
    "detect",
    "discriminative_ratio",
    "evaluate",
    "export",
    "feature_mixtureness",
    "feature_redundancy",
    "features",
    "measure",
    "pretrain",
    "recipes",
    "remove_projector",
    "resume",
    "split",
    "study",
    "suite",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "recipes":  # a package of config, not a name in it
        return importlib.import_module("slmlp.config.recipes")
    if name not in __all__:
        raise AttributeError(f"module 'slmlp' has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "slmlp.api")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
