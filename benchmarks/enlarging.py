"""Features of images smaller than the encoder's square: ``python benchmarks/enlarging.py``.

Images of 28 pixels under an encoder of 224 are enlarged to 256. Two ways take turns in one process, on the same
encoder and images, each from an empty cache:

- ``kept``: every image is enlarged once, into the cache of pixels, as images are that training reads;
- ``made``: they are enlarged whenever they are read, as ``suite`` and ``evaluate`` do.

``first`` is the time from opening the data to the features, ``again`` that of another encoder on the same images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from slmlp import config, data
from slmlp.data.cache import ImageCache
from slmlp.encoders.extract import extract
from slmlp.encoders.sources import open_encoder

WAYS = {"kept": ImageCache, "made": ImageCache.of_small}


def main() -> None:
    """Time both ways in turn; print medians, ratios and what each leaves on the disk."""
    given = arguments()
    encoder = open_encoder(f"timm:{given.encoder}@random")
    options = config.DataOptions(memory_limit_gb=given.memory_limit_gb)
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        images = data.load(str(write(Path(folder), given)))
        seen = {}
        for turn in range(given.rounds + 1):
            for way, make in WAYS.items():
                with tempfile.TemporaryDirectory(dir=folder) as cache:
                    began = time.perf_counter()
                    image_cache = make(images, options, Path(cache), encoder.preprocess.resize, False)
                    seen[way] = extract(encoder, image_cache, image_cache.images, None, "auto", precision="auto").x
                    first = time.perf_counter() - began
                    extract(encoder, image_cache, image_cache.images, None, "auto", precision="auto")
                    again = time.perf_counter() - began - first
                    kept = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file())
                    if turn:  # the first is a warm-up
                        found[way].append((first, again, kept / 1e6))
        np.testing.assert_array_equal(seen["kept"], seen["made"])
    for way, rows in found.items():
        first, again, kept = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{way}: first {first:.1f} s, again {again:.1f} s, {kept:.1f} MB on the disk")
    for i, name in enumerate(("first", "again")):
        ratios = [kept[i] / made[i] for kept, made in zip(found["kept"], found["made"], strict=True)]
        print(f"{name}, kept / made: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def arguments() -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0", help="a timm name; weights are random")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--pixels", type=int, default=28, help="side of the images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--memory-limit-gb", type=float, default=0.0, help="0: kept in a memory-mapped file, as many are"
    )
    return parser.parse_args()


def write(folder: Path, given: argparse.Namespace) -> Path:
    """Write images of noise, whose time is that of any others, as one file of arrays, and return it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (given.images, given.pixels, given.pixels), dtype=np.uint8)
    np.savez(folder / "small.npz", x=x, y=np.arange(given.images) % 10)
    return folder / "small.npz"


if __name__ == "__main__":
    main()
