"""The weight gradient by convolution and as a matrix product, by shape: ``python benchmarks/convolutions.py``.

bfloat16 on one CPU thread (``--threads``), batch 64, the two in turn; medians in milliseconds. It is where the bound
``runtime.cpu.convolution.MOST_POSITIONS`` comes from.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from slmlp.runtime.cpu import allocator, convolution

# in channels, out channels, side, stride, kernel: the layers of resnet10 at 32 px, then of wider networks
SHAPES = [
    (32, 64, 16, 1, 3), (64, 64, 16, 1, 3), (64, 128, 16, 2, 3), (128, 128, 8, 1, 3), (128, 256, 8, 2, 3),
    (256, 256, 4, 1, 3), (128, 256, 8, 2, 1), (512, 512, 4, 1, 3), (256, 256, 14, 1, 3), (512, 512, 7, 1, 3),
]  # fmt: skip


def main() -> None:
    """Print a line a shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    allocator.keep()  # as in training
    print(
        f"{'in':>5}{'out':>5}{'side':>6}{'stride':>8}{'kernel':>8}{'conv ms':>10}{'matmul ms':>11}{'ratio':>8}  taken"
    )
    for shape in SHAPES:
        _line(shape, given.batch_size, given.rounds)


def _line(shape: tuple[int, int, int, int, int], batch: int, rounds: int) -> None:
    inputs, outputs, side, stride, k = shape
    weight = torch.randn(outputs, inputs, k, k).to(torch.bfloat16, memory_format=torch.channels_last)
    x = torch.randn(batch, inputs, side, side).to(torch.bfloat16, memory_format=torch.channels_last)
    y = F.conv2d(x, weight, None, stride, k // 2)
    grad, steps, pads = torch.randn_like(y), (stride, stride), (k // 2, k // 2)

    def direct() -> torch.Tensor:
        mask = [False, True, False]
        dw: torch.Tensor = torch.ops.aten.convolution_backward(
            grad, x, weight, None, steps, pads, (1, 1), False, (0, 0), 1, mask
        )[1]
        return dw

    def product() -> torch.Tensor:
        return convolution.weight_gradient(grad, x, (k, k), steps, pads)

    times: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for kept, run in zip(times, (direct, product), strict=True):
            kept.append(_seconds(run))
    a, b = (1e3 * statistics.median(kept[1:]) for kept in times)
    small = y.shape[2] * y.shape[3] <= convolution.MOST_POSITIONS
    taken = "matmul" if small and inputs >= convolution.LEAST_CHANNELS else "conv"
    print(f"{inputs:>5}{outputs:>5}{side:>6}{stride:>8}{k:>8}{a:>10.2f}{b:>11.2f}{a / b:>8.2f}  {taken}")


def _seconds(run: Callable[[], torch.Tensor]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
