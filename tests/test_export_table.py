"""The table of differences of docs/export.md, at a small size: every export of four encoders, by the benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALL = {"torchvision", "timm", "safetensors", "onnx", "detectron2", "hf", "exported-program"}
REFUSED = {
    "resnet18": set(),
    "resnet50": set(),
    "efficientnet_b0": {"detectron2"},
    "vit_tiny_patch16_224": {"detectron2", "torchvision"},
}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", REFUSED)
def test_every_export_comes_back_equal(encoder):
    pytest.importorskip("onnxruntime")
    # at 32 px the last maps are single pixels, whose normalisation multiplies rounding: float32 itself is 2e-5 away
    # from float64 there; at 64 px 4e-6
    words = [sys.executable, "benchmarks/exports.py", "--encoders", encoder, "--image-size", "64", "--images", "3"]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith(f"| {encoder} ")]
    assert {row[1] for row in rows} == ALL
    assert {row[1] for row in rows if row[2].startswith("refused")} == REFUSED[encoder]
    found = {row[1]: float(row[4]) for row in rows if not row[2].startswith("refused")}
    assert max(found.values()) < 2e-5, found
    assert all(f"--to {target} cannot hold {encoder}" in done.stdout for target in REFUSED[encoder])


@pytest.mark.slow
def test_the_comparison_with_onnx_runtime_runs():
    pytest.importorskip("onnxruntime")
    words = [sys.executable, "benchmarks/onnx_speed.py", "--encoder", "resnet18", "--image-size", "32", "--rounds", "1"]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*words, "--batches", "1", "--batch-size", "4", "--threads", "1"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("images/s") == 3
    assert "1.00 times pytorch float32" in done.stdout
