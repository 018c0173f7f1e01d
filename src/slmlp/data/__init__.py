"""Load images and labels: a source named by the user -> ``ImageSet`` -> decoded pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmlp.config import DataOptions
from slmlp.config.sources import DATA, check_data
from slmlp.data.copies import copies, repeated
from slmlp.data.dataset import ImageSet
from slmlp.data.pixels import Pixels, decode_all, short_side
from slmlp.data.readers import read_resized
from slmlp.data.report import announce, describe, duplicates_across_parts, summary, without
from slmlp.data.sources import arrays, folder, manifest, torchvision_sets
from slmlp.data.sources.table import Table, build
from slmlp.data.splits.parts import ensure_test_part, limit_per_class, stratified_folds, stratified_holdout
from slmlp.data.superclasses import apply_superclasses
from slmlp.runtime.errors import SlmlpError

__all__ = [
    "ImageSet",
    "Pixels",
    "announce",
    "apply_superclasses",
    "copies",
    "decode_all",
    "describe",
    "duplicates_across_parts",
    "ensure_test_part",
    "limit_per_class",
    "load",
    "read_resized",
    "repeated",
    "short_side",
    "stratified_folds",
    "stratified_holdout",
    "summary",
    "without",
]

EMOJI = Path(__file__).parent / "embedded" / "emoji.tar"
_DEFAULT = DataOptions()


def load(source: str, options: DataOptions = _DEFAULT, *, seed: int = 0, senses: Sequence[str] = ()) -> ImageSet:
    """Return the images that ``source`` names; only the first bytes of each file are read, nothing is decoded.

    ``source`` is a folder or tar of class folders, a manifest (.csv, .tsv, .jsonl), an .npz file, ``torchvision:NAME``
    or ``emoji``; see docs/data.md. ``options.images_per_class`` samples training images with ``seed``. Without a test
    part all images are training images. ``senses`` choose WordNet senses for ``options.superclasses``.

    Raises:
        SlmlpError: anything is wrong with the data; one line.
    """
    if options.images_per_class is not None and options.images_per_class < 1:
        raise SlmlpError(f"--images-per-class must be at least 1, found {options.images_per_class}")
    if options.label_separator == "":
        raise SlmlpError("--label-separator must be the character between labels, as '|'; found nothing")
    try:
        images = build(_table(source, options), options)
    except OSError as error:
        raise SlmlpError(f"cannot read {error.filename or source}: {error.strerror or error}") from error
    if options.superclasses is not None:
        images = apply_superclasses(images, options.superclasses, senses)
    if options.images_per_class is None:
        return images
    return limit_per_class(images, options.images_per_class, seed)


def _table(source: str, options: DataOptions) -> Table:
    if source == "emoji":
        if not EMOJI.is_file():
            raise SlmlpError(f"the embedded set 'emoji' is missing ({EMOJI} does not exist): install slmlp again")
        return folder.tar(EMOJI, source, options, name="emoji")
    if source.startswith(torchvision_sets.PREFIX):
        return torchvision_sets.load(source, options)
    check_data(source)
    path = Path(source).expanduser()
    name = path.name.lower()
    if path.is_dir():
        return folder.folder(path, source, options)
    if name.endswith(folder.TAR_SUFFIXES):
        return folder.tar(path, source, options)
    if name.endswith(manifest.SUFFIXES):
        return folder.from_manifest(path, source, options)
    if name.endswith(".npz"):
        return arrays.npz(path, source, options)
    hint = "; unpack it first" if name.endswith((".zip", ".7z", ".rar")) else ""
    raise SlmlpError(f"data {source!r} is of no known kind: expected {DATA}{hint}")
