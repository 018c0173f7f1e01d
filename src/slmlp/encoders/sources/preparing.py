"""Preprocessing read from an encoder's own config, with the origin of each value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from slmlp.config.encoders import PreprocessFlags
from slmlp.data.augment import Triple
from slmlp.encoders.preprocess import Preprocess
from slmlp.runtime.errors import SlmlpError

SIZE, CROP_PCT = 224, 0.875  # pixels, and size / side: what ImageNet encoders are evaluated with where nothing is said
INTERPOLATIONS = ("bicubic", "bilinear")
DEFAULT = "default"
GIVEN = "given"
AS_TRAINED = "as it was trained"


@dataclass(frozen=True)
class Prepared:
    """A preprocessing, and the origin of each of its values."""

    preprocess: Preprocess
    values: Mapping[str, str]

    def override(self, flags: PreprocessFlags | None) -> Prepared:
        """Return a copy with the given values; ``side`` keeps its ratio to ``size`` unless it is given too."""
        given = (flags or PreprocessFlags()).given()
        if "size" in given and "side" not in given:
            ratio = self.preprocess.size / self.preprocess.side
            return self._with(given | {"side": math.floor(given["size"] / ratio)}, {"side": "in proportion"})
        return self._with(given, {})

    def at(self, size: int, who: str) -> Prepared:
        """Return a copy for images of another size, found by ``who``; ``side`` keeps its ratio."""
        side = math.floor(size * self.preprocess.side / self.preprocess.size)
        return Prepared(dataclasses.replace(self.preprocess, size=size, side=side), {**self.values, "size": who})

    def _with(self, given: dict[str, Any], notes: dict[str, str]) -> Prepared:
        replaced = dataclasses.replace(self.preprocess, **given)
        if replaced.side < replaced.size:
            raise SlmlpError(
                f"preprocessing: side must be at least the encoder's size ({replaced.size}), found {replaced.side}; "
                "give size too"
            )
        return Prepared(replaced, {**self.values, **dict.fromkeys(given, GIVEN), **notes})


def plain(size: int | None, who: str) -> Prepared:
    """Return the usual ImageNet preprocessing at ``size`` (from ``who``), or at 224 pixels."""
    side = math.floor((size or SIZE) / CROP_PCT)
    values = {field.name: DEFAULT for field in dataclasses.fields(Preprocess)}
    return Prepared(Preprocess(size or SIZE, side), values | ({"size": who} if size else {}))


def from_timm(config: Mapping[str, Any], who: str, source: str, flags: PreprocessFlags | None) -> Prepared:
    """Return the preprocessing of a ``pretrained_cfg``, with overrides applied.

    ``test_input_size`` and ``test_crop_pct`` belong together, and are what published accuracies were measured with:
    they are taken where they are there, ``test_crop_pct`` at any size from ``test_input_size`` up. Missing entries get
    the defaults of ``plain``.
    """
    flags = flags or PreprocessFlags()
    values, size = dict(plain(None, who).values), flags.size
    own, test = (_square_side(config.get(key), source) for key in ("input_size", "test_input_size"))
    chosen = size or test or own or SIZE
    testing = test is not None and chosen >= test
    if size or test or own:
        values["size"] = GIVEN if size else f"{who}, test size" if test else who
    crop = config.get("test_crop_pct") if testing else None
    crop, crop_source = (crop, f"{who}, test_crop_pct {crop:g}") if crop else (config.get("crop_pct"), who)
    if crop:
        values["side"] = crop_source
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise SlmlpError(f"{source}: crop_mode {mode!r} of its config is not known (center, squash); override squash")
    settings: dict[str, Any] = {"squash": mode == "squash"}
    if config.get("crop_mode"):
        values["squash"] = who
    for key in ("mean", "std", "interpolation"):
        if config.get(key):
            settings[key] = config[key] if key == "interpolation" else _triple(config[key], key, source)
            values[key] = who
    if settings.get("interpolation", "bicubic") not in INTERPOLATIONS:
        raise SlmlpError(
            f"{source}: interpolation {settings['interpolation']!r} of its config is not known; override it with "
            + " or ".join(INTERPOLATIONS)
        )
    prepared = Prepared(Preprocess(chosen, math.floor(chosen / (crop or CROP_PCT)), **settings), values)
    return prepared.override(dataclasses.replace(flags, size=None))  # the size is in it, with the crop that is its own


def _square_side(shape: Any, source: str) -> int | None:
    """Return the side of an input shape (3, S, S)."""
    if not shape:
        return None
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        sizes = ", ".join(map(str, shape))
        raise SlmlpError(f"{source} takes input of shape ({sizes}); slmlp feeds squares of three channels, (3, S, S)")
    return int(shape[1])


def _triple(values: Any, name: str, source: str) -> Triple:
    if len(values) != 3:
        raise SlmlpError(f"{source}: {name} of its config has {len(values)} values, expected one of each of 3 channels")
    return cast(Triple, tuple(float(value) for value in values))


def line(prepared: Preprocess, values: Mapping[str, str]) -> str:
    """Return a preprocessing in words, values of one origin together."""
    words = {
        "size": f"size {prepared.size}",
        "side": f"cut from {prepared.side}",
        "squash": "stretched" if prepared.squash else "centre",
        "interpolation": prepared.interpolation,
        "mean": "mean " + " ".join(f"{v:.4g}" for v in prepared.mean),
        "std": "std " + " ".join(f"{v:.4g}" for v in prepared.std),
    }
    groups: dict[str, list[str]] = {}
    for name, word in words.items():
        groups.setdefault(values.get(name, DEFAULT), []).append(word)
    return "; ".join(f"{', '.join(part)} ({who})" for who, part in groups.items())
