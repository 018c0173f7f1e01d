"""Encoders by name: images (N, 3, H, W) -> features (N, D), and how a finished one is saved, loaded and used."""

from slmlp.encoders.build import build, choose_stem
from slmlp.encoders.encoder import Encoder, EncoderSpec

__all__ = ["Encoder", "EncoderSpec", "build", "choose_stem"]
