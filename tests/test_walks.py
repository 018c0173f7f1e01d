"""The four walks of docs/architecture.md: a real command passes every function that a walk names, in that order."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import slmlp
from slmlp import cli

SOURCE = Path(slmlp.__file__).parent
PAGE = SOURCE.parents[1] / "docs" / "architecture.md"
SMALL = "--encoder resnet10 --image-size 16 --batch-size 12 --epochs 1 --augment weak --precision float32 --threads 1"
SMALL += " --images-per-class 4"


def walks() -> list[list[tuple[str, str]]]:
    """Return the steps of each walk: (file, function or class)."""
    parts = PAGE.read_text().split("## Four walks")[1].split("\n### ")[1:]
    return [re.findall(r"`([a-z_0-9/]+\.py):([A-Za-z_.]+)`", part) for part in parts]


def step_of(frame: FrameType) -> tuple[str, str] | None:
    """Return file and name of a call inside the package; that of a constructor is its class."""
    file, name = frame.f_code.co_filename, frame.f_code.co_qualname
    if frame.f_code.co_name == "__init__":  # that of a dataclass is made, and has no file
        kind = type(next(iter(frame.f_locals.values())))
        file, name = getattr(sys.modules.get(kind.__module__), "__file__", None) or "", kind.__qualname__
    return (Path(file).relative_to(SOURCE).as_posix(), name) if file.startswith(f"{SOURCE}/") else None


@contextmanager
def followed(*paths: list[tuple[str, str]]) -> Iterator[None]:
    """Remove the steps of each path while they are passed, each only when those before it were."""

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (step := step_of(frame)):
            for path in paths:
                if path and path[0] == step:
                    del path[0]

    sys.setprofile(called)
    threading.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.slow
def test_commands_pass_the_functions_of_the_walks_in_order(shapes: Path, tmp_path: Path):
    image, feature, setting, line = walks()
    assert [len(image) > 9, len(feature) > 9, len(setting) > 6, len(line) > 5] == [True] * 4
    words = f"--method sl-mlp --projector.hidden 8 {SMALL} --out"
    with followed(image, setting):
        assert cli.main(["pretrain", str(shapes), *words.split(), str(tmp_path / "run")]) == 0
    assert [image, setting] == [[], []]
    words = f"--methods sl,sl-mlp --seeds 2 --rates 0.1 --parallel 1 --probe.folds 2 --probe.l2 1 {SMALL} --out"
    with followed(feature, line):
        assert cli.main(["study", str(shapes), *words.split(), str(tmp_path / "study")]) == 0
    assert [feature, line] == [[], []]
