"""The encoder that training starts from: random weights, a run's, or pretrained ones (``--init``)."""

from __future__ import annotations

import dataclasses

from slmlp.config.encoders import PreprocessFlags
from slmlp.config.sources import encoder_kind
from slmlp.encoders.backbones import NOTHING, Dropped, choose_stem, resize
from slmlp.encoders.encoder import Encoder, build
from slmlp.encoders.preprocess import Origin, Preprocess
from slmlp.encoders.sources import timm_model
from slmlp.encoders.sources.preparing import AS_TRAINED, Prepared
from slmlp.runtime import seeds
from slmlp.runtime.errors import SlmlpError

RANDOM = "random"


def initial_encoder(
    name: str,
    init: str,
    image_size: int | None,
    stem: str,
    seed: int,
    crop_size: int | None = None,
    dropped: Dropped = NOTHING,
) -> Encoder:
    """Return the encoder that training starts from, with the preprocessing of its weights.

    Random weights (by ``seed``) get slmlp's own preprocessing, and the small stem at 64 pixels and less where ``stem``
    is ``auto``. Pretrained weights keep their stem, and their mean, deviation, interpolation and crop.

    Args:
        name: of the network.
        init: ``random``, a run's folder, an encoder file, ``timm:NAME`` (downloads) or ``timm:NAME@FILE``.
        image_size: pixels; None is the size that the weights were trained at, which random ones do not have.
        stem: ``auto``, ``small`` or ``standard``.
        seed: of random weights.
        crop_size: side of local crops that it takes too, in pixels.
        dropped: what is left out at random in training.

    Raises:
        SlmlpError: weights of another network or another stem, or a size that they cannot take.
    """
    if init == RANDOM:
        assert image_size is not None
        with seeds.seeded(seed, "encoder"):
            return build(name, image_size, choose_stem(stem, image_size), crop_size, dropped)
    where = encoder_kind(init)
    if where == "timm":
        named = init.removeprefix("timm:").partition("@")
        _check_name(name, named[0], init)
        if stem == "small":
            raise SlmlpError(
                f"--stem small with --init {init}: those weights have the stem of {named[0]}, and a smaller one would "
                "compute something else with its first layer, or leave it random; leave --stem out, and give a larger "
                "--image-size where the images allow it"
            )
        return timm_model.open_model(
            init, PreprocessFlags(size=image_size), seed, training=True, crop_size=crop_size, dropped=dropped
        )
    if where != "run":
        raise SlmlpError(
            f"--init {init}: training starts from a run's folder, an encoder file, timm:NAME or timm:NAME@FILE "
            "(torchvision's ResNets have timm's names: timm:resnet50@FILE)"
        )
    return _of_run(name, init, image_size, stem, crop_size, dropped)


def network_of(init: str) -> str | None:
    """Return the network of the weights that ``init`` names; None for random ones, and for what is no source."""
    if init == RANDOM:
        return None
    if init.startswith("timm:"):
        return init.removeprefix("timm:").partition("@")[0]
    return Encoder.load(init).spec.name if encoder_kind(init) == "run" else None


def preprocessing(name: str, init: str, image_size: int | None, stem: str) -> Preprocess | None:
    """Return the preprocessing of the weights that ``init`` names; None for random ones."""
    return None if init == RANDOM else initial_encoder(name, init, image_size, stem, 0).preprocess


def _of_run(
    name: str, init: str, image_size: int | None, stem: str, crop_size: int | None, dropped: Dropped
) -> Encoder:
    """Return the encoder of a run with its own stem, for images of another size where that is asked for."""
    loaded = Encoder.load(init)
    spec, own = loaded.spec, loaded.preprocess
    _check_name(name, spec.name, init)
    if stem not in ("auto", spec.stem):
        raise SlmlpError(f"--stem {stem} with --init {init}: that encoder has the {spec.stem} stem; leave --stem out")
    size = image_size or spec.image_size
    encoder = build(spec.name, spec.image_size, spec.stem, crop_size, dropped)
    encoder.load_weights(loaded.weights(), init)
    if size != spec.image_size:
        resize(encoder.backbone, size, f"--init {init}")
    if own == Preprocess.ours(spec.image_size):
        prepared = Prepared(Preprocess.ours(size), {})
    else:
        prepared = Prepared(own, {}).override(PreprocessFlags(size=size) if size != own.size else None)
    values = {field.name: AS_TRAINED for field in dataclasses.fields(own)}
    spec = dataclasses.replace(spec, image_size=size)
    return Encoder(encoder.backbone, spec, prepared.preprocess, Origin(init, values | dict(prepared.values)))


def _check_name(name: str, of_weights: str, init: str) -> None:
    if name.split(".")[0] != of_weights.split(".")[0]:
        raise SlmlpError(
            f"--init {init} holds weights of {of_weights}, but --encoder is {name}; the two must agree (nothing was "
            "loaded)"
        )
