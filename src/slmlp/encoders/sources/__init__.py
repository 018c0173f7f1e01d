"""Open an encoder of any origin, check it, and find its preprocessing."""

from __future__ import annotations

import importlib
from typing import Protocol

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.sources import encoder_kind
from slmlp.encoders.encoder import Encoder, build
from slmlp.encoders.preprocess import Origin
from slmlp.encoders.sources import preparing
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import seeded


class Opener(Protocol):
    """Opens one kind of source."""

    def __call__(self, source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
        """Return the encoder that ``source`` names."""
        ...


OPENERS: dict[str, str] = {
    "run": "slmlp.encoders.sources.run",
    "timm": "slmlp.encoders.sources.timm_model",
    "torchvision": "slmlp.encoders.sources.torchvision_model",
    "onnx": "slmlp.encoders.sources.onnx_file",
    "function": "slmlp.encoders.sources.function",
}  # kind -> module with a function ``open_source``


def open_encoder(source: str, *, overrides: PreprocessFlags | None = None, seed: int = 0) -> Encoder:
    """Return the encoder that ``source`` names, in evaluation mode on the CPU.

    ``source`` is one of

    - a run's folder or an encoder file of slmlp;
    - ``timm:NAME``, weights from timm's hub; ``timm:NAME@FILE``; ``timm:NAME@random`` (its BatchNorm statistics are
      those of an untrained network: see ``encoders.calibrate.calibrate_norms``);
    - ``torchvision:NAME``, ``torchvision:NAME@FILE``, ``torchvision:NAME@IMAGENET1K_V1``, ``torchvision:NAME@random``;
    - ``FILE.onnx``, or ``FILE.onnx#OUTPUT`` where it has several outputs;
    - ``module:function``, which returns a ``torch.nn.Module`` from images (N, 3, S, S) to features (N, D).

    Preprocessing is the encoder's own (``describe`` says which, and who says so), less ``overrides``. Weight keys that
    are missing or left over are an error that lists them; a classifier's may be left over. ``seed`` is of random
    weights.

    Raises:
        SlmlpError: one line for everything that is wrong with the source.

    >>> encoder = open_encoder("timm:test_resnet@random", overrides=PreprocessFlags(size=32))
    >>> encoder.dim, encoder.preprocess.id
    (96, 'square33-bilinear-centre32-mean0.5,0.5,0.5-std0.5,0.5,0.5')
    """
    module = importlib.import_module(OPENERS[encoder_kind(source)])
    opener: Opener = module.open_source
    return opener(source, overrides, seed)


def open_untrained(source: str, *, overrides: PreprocessFlags | None = None, seed: int = 0) -> Encoder:
    """Return the network of ``source`` with random weights by ``seed``, in evaluation mode.

    Its BatchNorm statistics are still those of no images: see ``calibrate_norms``. ONNX files and functions
    have no untrained form.
    """
    where = encoder_kind(source)
    if where in ("onnx", "function"):
        raise SlmlpError(f"{source} has no untrained form: only runs, timm: and torchvision: are built here")
    if where != "run":
        return open_encoder(f"{source.partition('@')[0]}@random", overrides=overrides, seed=seed)
    trained = open_encoder(source, overrides=overrides)
    return untrained(trained, seed)


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """Return the network of an encoder with random weights by ``seed``, and its preprocessing, in evaluation mode."""
    spec, origin = encoder.spec, encoder.origin
    with seeded(seed, "encoder"):
        fresh = build(spec.name, spec.image_size, spec.stem)
    return Encoder(
        fresh.backbone, spec, encoder.preprocess, Origin(f"{origin.source}, untrained", origin.values)
    ).eval()


def describe(encoder: Encoder) -> str:
    """Return one line: name, width, parameters, and each value of the preprocessing with its origin."""
    count = sum(parameter.numel() for parameter in encoder.backbone.parameters())
    size = f", {count / 1e6:.3g} M parameters" if count else ""
    words = preparing.line(encoder.preprocess, encoder.origin.values)
    return f"encoder {encoder.origin.source}: {encoder.dim} features{size}; preprocessing: {words}"
