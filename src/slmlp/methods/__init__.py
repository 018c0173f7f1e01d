"""Methods by name: (module, class), imported when asked for; settings under the same names in ``config``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from slmlp import config
from slmlp.runtime.errors import unknown

if TYPE_CHECKING:
    from slmlp.encoders import Encoder
    from slmlp.methods.base import Method

METHODS: dict[str, tuple[str, str]] = {
    "sl": ("slmlp.methods.sl", "SL"),
    "sl-mlp": ("slmlp.methods.sl", "SL"),
    "supcon": ("slmlp.methods.supcon", "SupCon"),
    "simclr": ("slmlp.methods.simclr", "SimCLR"),
    "moco-v1": ("slmlp.methods.moco", "MoCo"),
    "moco-v2": ("slmlp.methods.moco", "MoCo"),
    "byol": ("slmlp.methods.byol", "BYOL"),
    "swav": ("slmlp.methods.swav", "SwAV"),
    "t-rex-star": ("slmlp.methods.trex", "TReX"),
    "t-rex": ("slmlp.methods.trex", "TReX"),
}


def build(name: str, encoder: Encoder, num_classes: int, cfg: config.MethodConfig) -> Method:
    """Return the method with fresh head weights; draws from torch's global generator (see ``seeds.seeded``)."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    module, attribute = METHODS[name]
    method: Method = getattr(importlib.import_module(module), attribute)(encoder, num_classes, cfg)
    return method
