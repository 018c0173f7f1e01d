"""Images a second of one network in ONNX Runtime and in PyTorch, in turn: ``python benchmarks/onnx_speed.py``.

An encoder with random weights is exported by ``slmlp export --to onnx`` (which proves the features equal), then run on
the CPU on the same batch:

- ``onnxruntime float32``: the exported file;
- ``pytorch float32``: the encoder in evaluation mode, in the usual layout;
- ``slmlp as it is``: the encoder as ``slmlp evaluate`` runs it, in the precision and layout chosen for this machine.

The three take turns, ``--rounds`` times after a round that does not count; the median and the range of each are
printed, and the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from slmlp.encoders import Encoder, build
from slmlp.encoders.sources.onnx_file import session
from slmlp.exports import export
from slmlp.exports.onnx_file import INPUT
from slmlp.runtime import device, seeds


def main() -> None:
    """Print a line per runner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=2, help="batches of a round, for each runner")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        with seeds.seeded(0, "encoder"):
            encoder = build(given.encoder, given.image_size, "standard").eval()
        encoder.save(Path(folder) / "encoder.safetensors")
        made = export(Path(folder) / "encoder.safetensors", "onnx", Path(folder) / "encoder.onnx", images=4)
        runners = _runners(encoder, made.path, given.batch_size, given.threads)
    print(
        f"{given.encoder}, {given.image_size} px, batch {given.batch_size}, {given.threads} threads, "
        f"{device.describe()['cpu']}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; "
        f"features differ by {made.differences[0].relative:.1e} of the largest"
    )
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(given.rounds + 1):
        for name, run in runners.items():
            began = time.perf_counter()
            for _ in range(given.batches):
                run()
            seconds[name].append(time.perf_counter() - began)
    count, names, width = given.batches * given.batch_size, list(runners), max(map(len, runners)) + 2
    for name in names:
        speeds = sorted(count / s for s in seconds[name][1:])
        ratio = statistics.median(b / a for a, b in zip(seconds[name][1:], seconds["pytorch float32"][1:], strict=True))
        print(
            f"{name:<{width}}{statistics.median(speeds):>8.1f} images/s ({speeds[0]:.1f} to {speeds[-1]:.1f}), "
            f"{ratio:.2f} times pytorch float32"
        )


def _runners(encoder: Encoder, path: Path, batch: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return what to time, by name; each computes the features of one batch."""
    size = encoder.preprocess.size
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    pixels, opened = x.numpy(), session(path)
    theirs = build(encoder.spec.name, size, "standard").eval()
    theirs.load_weights(encoder.weights(), "the same")
    chosen = device.for_features(theirs, "cpu", "auto")
    layout = torch.channels_last if chosen.channels_last else torch.contiguous_format
    ours = x.to(memory_format=layout)
    theirs.to(memory_format=layout)

    def onnx() -> object:
        return opened.run(None, {INPUT: pixels})

    def plain() -> object:
        with torch.inference_mode():
            return encoder(x)

    def as_it_is() -> object:
        with torch.inference_mode(), chosen.autocast():
            return theirs(ours)

    words = f"{chosen.precision}, {'channels last' if chosen.channels_last else 'usual layout'}"
    return {"onnxruntime float32": onnx, "pytorch float32": plain, f"slmlp as it is ({words})": as_it_is}


if __name__ == "__main__":
    main()
