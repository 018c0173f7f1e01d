"""Encoders by name: images (N, 3, H, W) -> features (N, D); saving and loading a trained one."""

from slmlp.encoders.backbones import choose_stem
from slmlp.encoders.encoder import Encoder, EncoderSpec, build

__all__ = ["Encoder", "EncoderSpec", "build", "choose_stem"]
