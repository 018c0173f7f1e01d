"""An encoder that slmlp trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.projector_file import load_projector
from slmlp.encoders.sources.preparing import Prepared


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return the encoder of a run's folder, with the run's projector where it was kept, or of an encoder file."""
    encoder = Encoder.load(source)
    who = "as it was trained"
    values = {field.name: who for field in dataclasses.fields(encoder.preprocess)}
    prepared = Prepared(encoder.preprocess, values).override(overrides)
    encoder.preprocess = prepared.preprocess
    encoder.origin = Origin(source, prepared.values)
    if Path(source).is_dir():
        encoder.projector = load_projector(Path(source), encoder.dim)
    return encoder
