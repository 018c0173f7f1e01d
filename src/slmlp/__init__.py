"""slmlp: pretrain encoders on labelled images, with the MLP projector as a switch, and prove which of them transfers.

>>> import numpy as np, slmlp
>>> x = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]])
>>> slmlp.discriminative_ratio(x, np.array([0, 0, 1, 1]))
16.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmlp import recipes
    from slmlp.analysis.mixtureness import feature_mixtureness
    from slmlp.analysis.ratio import discriminative_ratio
    from slmlp.analysis.redundancy import feature_redundancy
    from slmlp.api import evaluate, pretrain
    from slmlp.comparison import compare
    from slmlp.config import Study, Training
    from slmlp.encoders import Encoder
    from slmlp.errors import SlmlpError
    from slmlp.exports import export
    from slmlp.grafting import add_projector, remove_projector
    from slmlp.studies import study

# name -> module; imported when asked for, so that `import slmlp` and `--help` stay quick
_PUBLIC = {
    "add_projector": "slmlp.grafting",
    "Encoder": "slmlp.encoders",
    "SlmlpError": "slmlp.errors",
    "Study": "slmlp.config",
    "Training": "slmlp.config",
    "compare": "slmlp.comparison",
    "discriminative_ratio": "slmlp.analysis.ratio",
    "evaluate": "slmlp.api",
    "export": "slmlp.exports",
    "feature_mixtureness": "slmlp.analysis.mixtureness",
    "feature_redundancy": "slmlp.analysis.redundancy",
    "pretrain": "slmlp.api",
    "remove_projector": "slmlp.grafting",
    "study": "slmlp.studies",
}

__all__ = [
    "Encoder",
    "SlmlpError",
    "Study",
    "Training",
    "add_projector",
    "compare",
    "discriminative_ratio",
    "evaluate",
    "export",
    "feature_mixtureness",
    "feature_redundancy",
    "pretrain",
    "recipes",
    "remove_projector",
    "study",
]


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name == "recipes":
        return importlib.import_module("slmlp.recipes")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'slmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
