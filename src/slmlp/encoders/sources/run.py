"""An encoder that slmlp trained."""

from __future__ import annotations

import dataclasses

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.sources.preparing import AS_TRAINED, Prepared


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return the encoder of a run's folder, or of an encoder file."""
    encoder = Encoder.load(source)
    values = {field.name: AS_TRAINED for field in dataclasses.fields(encoder.preprocess)}
    prepared = Prepared(encoder.preprocess, values).override(overrides)
    encoder.preprocess = prepared.preprocess
    encoder.origin = Origin(source, prepared.values)
    return encoder
