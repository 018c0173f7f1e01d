"""Features of an encoder on one side of a split, and the split itself."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from slmlp import config, data
from slmlp.data.cache import ImageCache, shared_memory
from slmlp.data.dataset import ImageSet
from slmlp.data.splits import classes as concepts
from slmlp.data.splits import leaks
from slmlp.data.splits.classes import ConceptSplit
from slmlp.data.splits.other_data import warn_of_other_data
from slmlp.encoders import Encoder, layers
from slmlp.encoders.extract import extract
from slmlp.encoders.projector_file import load_projector
from slmlp.encoders.sources import open_encoder
from slmlp.probes.feature_files import beside
from slmlp.probes.features import Features
from slmlp.runtime import distributed, files, processes, staging
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.ranks import all_gather_object, assert_same, on_rank0, rank_by_rank
from slmlp.train.run import Run


def split(data_source: str, out: Path, rule: config.Split, options: config.DataOptions) -> ConceptSplit:
    """Make and save a split; see ``api.split``."""
    files.check_name(out, "slmlp split")
    images = data.load(data_source, options, seed=rule.seed)
    class_split = concepts.make(images, rule)
    with tempfile.TemporaryDirectory() as folder:
        image_cache = ImageCache(images, options, Path(options.cache_dir or folder), leaks.SIDE, progress=True)
        data.announce(image_cache.images, out.parent, f"{out.stem}.")
        class_split = leaks.check(class_split, image_cache, concepts.apply(class_split, image_cache.images))
    class_split.save(out)
    return class_split


def features(
    source: str, data_source: str, classes: str, part: str, split: str | Path | None, layer: str,
    cfg: config.TaskSettings, out: Path | None,
) -> Features:  # fmt: skip
    """Return an encoder's features; see ``api.features``."""
    with distributed.joined(), tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stage = None if out is None else on_rank0(lambda: stack.enter_context(_stage(out)))
        encoder, projector, every = rank_by_rank(lambda: _open(source, data_source, classes, split, layer, cfg))
        images = every.of_part(part)
        if not len(images):
            raise SlmlpError(f"{data_source} has no images in the {part} part")
        assert_same({"encoder": encoder.hash(), "data": images.hash()})
        # decoded once on each machine, by the first process there, whose folder the others read
        cache = Path(all_gather_object(folder)[processes.rank() - processes.local_rank()])
        memory, side = shared_memory(cfg.data), encoder.preprocess.resize
        image_cache = rank_by_rank(lambda: ImageCache.of_small(images, memory, cache, side, True))
        about: list[Path] = []
        if stage is not None:
            decoded = data.without(every, image_cache.images)
            about = on_rank0(lambda: data.announce(decoded, stage, f"{_stem(out)}."))
        extraction = cfg.extraction
        features = extract(
            encoder, image_cache, image_cache.images, None, extraction.device, layer=layer,
            precision=extraction.precision, projector=projector, batch_size=extraction.batch_size, together=True,
        )  # fmt: skip
        if stage is not None and out is not None:
            on_rank0(lambda: _place(features, about, stage, out))
        return features


@contextlib.contextmanager
def _stage(out: Path) -> Iterator[Path]:
    """Yield a folder for a features file and what belongs to it; SlmlpError where the file exists."""
    files.check_name(out, "slmlp features", (".npz",))
    staging.clear(out)
    staging.check_free([out, beside(out)])
    with staging.staged(out) as stage:
        yield stage


def _place(features: Features, about: Sequence[Path], stage: Path, out: Path) -> None:
    """Save features, and move them and the files ``about`` the data to their place, where earlier ones are replaced."""
    features.save(stage / out.name)
    for file in about:
        file.replace(out.parent / file.name)
    staging.place([stage / beside(out).name, stage / out.name], out.parent)


def _stem(out: Path | None) -> str:
    return out.name.removesuffix(".npz") if out is not None else ""


def _open(
    source: str, data_source: str, classes: str, split: str | Path | None, layer: str, cfg: config.TaskSettings
) -> tuple[Encoder, nn.Module | None, ImageSet]:
    """Return the encoder, its run's projector, and the images of the classes."""
    encoder = open_encoder(source, overrides=cfg.preprocess)
    projector = load_projector(Path(source), encoder.dim)
    layers.check(encoder, [layer], projector)
    if split:
        held_out: ConceptSplit | None = ConceptSplit.load(Path(split))
    else:
        held_out = Run(Path(source)).split if Path(source).is_dir() else None
    images = data.load(data_source, cfg.data, seed=held_out.seed if held_out else 0)
    if held_out is not None:
        warn_of_other_data(held_out, images)
        images = concepts.apply(held_out, images)
    if classes != "all":
        if held_out is None:
            raise SlmlpError(f"--classes {classes} needs a split, and {source} has none; give --split FILE")
        images = images.of_classes(held_out.source if classes == "source" else held_out.unseen)
    return encoder, projector, images
