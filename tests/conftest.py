"""Shared fixtures: one thread (tiny models run faster so), and small images of drawn shapes made once."""

from __future__ import annotations

import functools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, ImageDraw

torch.set_num_threads(1)
NEEDED = 1.5e9  # bytes of the temporary folder: all tests together hold 1.2e9 at once


# a job in the background of a shell ignores Ctrl-C, and so would every command that the tests start and interrupt
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say at once that a disk is too small, where hundreds of tests would fail one by one."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < NEEDED:
        pytest.exit(
            f"the tests need {NEEDED / 1e9} GB in {folder}, found {free / 1e9:.1f}: make room, or set TMPDIR", 2
        )


CLASSES = ("circle", "cross", "moon", "ring", "square", "triangle")
GROUPS = {"circle": "round", "moon": "round", "ring": "round", "cross": "edged", "square": "edged", "triangle": "edged"}


def draw(name: str, rng: np.random.Generator, side: int = 24) -> Image.Image:
    """Return a drawn shape of random place, size and colours."""
    image = Image.new("RGB", (side, side), tuple(rng.integers(0, 120, 3).tolist()))
    pen = ImageDraw.Draw(image)
    r = int(rng.integers(5, 9))
    x, y = rng.integers(r, side - r, 2).tolist()
    ink, box = tuple(rng.integers(130, 255, 3).tolist()), (x - r, y - r, x + r, y + r)
    if name == "circle":
        pen.ellipse(box, fill=ink)
    elif name == "ring":
        pen.ellipse(box, outline=ink, width=2)
    elif name == "moon":
        pen.chord(box, 30, 200, fill=ink)
    elif name == "square":
        pen.rectangle(box, fill=ink)
    elif name == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)
    else:
        pen.line((x - r, y, x + r, y), fill=ink, width=3)
        pen.line((x, y - r, x, y + r), fill=ink, width=3)
    return image


Make = Callable[[Path], object]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """Return a function from a name and what fills an empty folder to that folder, filled.

    Test processes that run side by side share it: the first to ask fills it, the others wait. Tests only read it.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    root.mkdir(exist_ok=True)

    def get(name: str, make: Make) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed half-way
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def shapes(once: Callable[[str, Make], Path]) -> Path:
    """A folder of 6 classes with 24 training and 10 test PNG files each, 24 pixels."""

    def make(root: Path) -> None:
        rng = np.random.default_rng(0)
        for part, n in (("train", 24), ("test", 10)):
            for name in CLASSES:
                folder = root / part / name
                folder.mkdir(parents=True)
                for i in range(n):
                    draw(name, rng).save(folder / f"{i:03d}.png")

    return once("shapes", make)


@pytest.fixture(scope="session")
def shape_superclasses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that names the superclass of each shape."""
    path = tmp_path_factory.mktemp("superclasses") / "superclasses.tsv"
    path.write_text("".join(f"{name}\t{superclass}\n" for name, superclass in GROUPS.items()))
    return path


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small COCO data set, to be read or copied."""
    import detection_data  # here: not every test needs the libraries of detection

    return detection_data.data_set(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def edited(coco: Path, tmp_path: Path) -> Callable[..., Any]:
    """A function that reads the training part of ``coco`` after a change of its annotations."""
    import detection_data

    return functools.partial(detection_data.edited, coco, tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from browser import chromium

    yield from chromium()


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return small encoder files by (name, size, stem), each made once."""
    from export_files import saved

    folder = tmp_path_factory.mktemp("encoders")
    held: dict[tuple[str, int, str], Path] = {}

    def get(name: str, size: int = 32, stem: str = "standard") -> Path:
        if (name, size, stem) not in held:
            held[name, size, stem] = saved(folder, name, size, stem)
        return held[name, size, stem]

    return get
