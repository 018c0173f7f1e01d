"""A small world to break: drawn images, a COCO set, and the commands over them, each in a process of its own.

A process is forked from one that has loaded every library, so that a trial costs its own work only. It is a real one:
it is killed with SIGKILL, its limits are the kernel's, and what it leaves on the disk is what a killed command leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SMALL = ["--encoder", "resnet10", "--image-size", "16", "--batch-size", "16", "--augment", "weak", "--threads", "1"]
QUICK = [
    "--steps",
    "2",
    "--batch-size",
    "2",
    "--short-side",
    "48",
    "--roi-batch-size",
    "8",
    "--detections",
    "4",
    "--norm",
    "group",
    "--precision",
    "float32",
    "--resamples",
    "100",
    "--pictures",
    "1",
    "--device",
    "cpu",
    "--checkpoint-minutes",
    "0",
]
# written anew at every run, with times in it, or of no number
VOLATILE = {
    "config.json",
    "command.yaml",
    "study.json",
    "suite.json",
    "detect.json",
    "report.html",
    ".slmlp",
    "metrics.jsonl",
    "README.md",
}
NOBODY = 65534
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate", "os.rmdir", "shutil.rmtree"}


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int  # exit code, or minus the signal
    text: str
    seconds: float

    @property
    def last(self) -> str:
        """Its last line."""
        return next((line for line in reversed(self.text.splitlines()) if line.strip()), "")


Command = Callable[["World", Path], list[str]]
COMMANDS: dict[str, Command] = {
    "pretrain": lambda w, out: [
        "pretrain", w.images, *SMALL, "--epochs", "2", "--save-every", "1", "--checkpoint-minutes", "0",
        "--out", f"{out}/run",
    ],
    "study": lambda w, out: [
        "study", w.images, "--methods", "sl,sl-mlp", "--seeds", "1", "--rates", "0.2", *SMALL, "--epochs", "1",
        "--split.by", "random", "--split.unseen-fraction", "0.5", "--parallel", "1", "--out", f"{out}/study",
    ],
    "evaluate": lambda w, out: [
        "evaluate", w.run, w.images, "--task", "knn", "centroid", "linear", "--knn.neighbours", "5", "--out",
        f"{out}/evaluation",
    ],
    "suite": lambda w, out: [
        "suite", w.run, "--also", w.images, "--tasks", "centroid", "knn", "--knn.neighbours", "5", "--out",
        f"{out}/suite",
    ],
    "features": lambda w, out: ["features", w.run, w.images, "--out", f"{out}/f.npz"],
    "export": lambda w, out: [
        "export", w.run, "--to", "safetensors", "--data", w.images, "--images", "4", "--out", f"{out}/e.safetensors",
    ],
    "detect": lambda w, out: ["detect", "timm:test_resnet@random", w.coco, *QUICK, "--out", f"{out}/detect"],
}  # fmt: skip


ALL = dict(COMMANDS)


class World:
    """The images, a finished run, and each command's straight result, below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.coco, self.run = (str(root / name) for name in ("images", "coco", "straight-pretrain/run"))

    def make(self) -> None:
        """Draw the data, and run every command once without harm."""
        _draw_images(Path(self.images))
        _draw_coco(Path(self.coco))
        for name in dict.fromkeys(["pretrain", *COMMANDS]):
            place = self.straight(name)
            place.mkdir(exist_ok=True)
            ended = self.trial(ALL[name](self, place))
            if ended.code:
                raise SystemExit(f"{name} fails without harm:\n{ended.text}")
        half = self.root / "half"  # a run killed between its first checkpoint and its end
        for number in range(20, 80):
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            kill = at_event(half, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            self.trial(ALL["pretrain"](self, half), before=kill)
            if list(half.rglob("*.ckpt")):
                break

    def become_another(self) -> None:
        """Make this process one of a user who owns nothing; the world stays readable."""
        self.root.chmod(0o755)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    def straight(self, name: str) -> Path:
        """Return the folder of a command's straight result."""
        return self.root / f"straight-{name}"

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """Yield an empty folder for a trial, removed afterwards."""
        folder = self.root / f"trial-{name}-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            folder.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)

    def trial(
        self, words: Sequence[str], *, before: Callable[[], None] = lambda: None,
        meanwhile: Callable[[int], None] = lambda pid: None, limit: float = 120,
    ) -> Ended:  # fmt: skip
        """Run a command in a process; ``before`` acts in it, ``meanwhile`` beside it with its id."""
        pid, output, began = start(words, before)
        meanwhile(pid)
        return wait(pid, output, began, limit)

    def same(self, name: str, place: Path) -> str | None:
        """Return what differs from the straight result, or None: names, bytes, and every number of the results."""
        expected, found = snapshot(self.straight(name)), snapshot(place)
        for file in sorted(expected.keys() | found.keys()):
            if expected.get(file) != found.get(file):
                how = "is missing" if file not in found else "is left over" if file not in expected else "differs"
                return f"{file} {how}"
        return None


def start(words: Sequence[str], before: Callable[[], None]) -> tuple[int, int, float]:
    """Fork a process for a command; return its id, where its output can be read, and the time."""
    output, end = os.pipe()  # no file: a limit on files must not cut what it says
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
    began, pid = time.monotonic(), os.fork()
    if pid:
        os.close(end)
        return pid, output, began
    code = 70
    try:
        os.setsid()
        os.dup2(end, 1)
        os.dup2(end, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and its children
        before()
        from slmlp import cli

        sys.argv = ["slmlp", *map(str, words)]
        code = cli.main()
    except BaseException:  # what the command line did not turn into one line
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def anew(words: Sequence[str]) -> tuple[subprocess.Popen[str], float]:
    """Start a new interpreter on a command, which loads its libraries itself; return it and the time."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "slmlp", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    return process, began


def wait(pid: int, output: int, began: float, limit: float = 120) -> Ended:
    """Wait for a process; one that takes longer than ``limit`` seconds is killed, and its code is 124."""
    status = None
    while time.monotonic() - began < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.005)
    else:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        status = 124 << 8
    assert status is not None
    os.set_blocking(output, False)
    text = b""
    with contextlib.suppress(BlockingIOError):  # a child of its own may still hold the other end
        while part := os.read(output, 1 << 20):
            text += part
    os.close(output)
    return Ended(os.waitstatus_to_exitcode(status), text.decode(errors="replace"), time.monotonic() - began)


def at_event(place: Path, number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Return what makes a process ``act`` at its ``number``-th change of a file below ``place``."""

    def install() -> None:
        seen = 0

        def count() -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                act()

        every_event(place, count)

    return install


def every_event(place: Path, act: Callable[[], object]) -> None:
    """Act before every change of a file below ``place`` in this process: opened to write, renamed, linked, removed."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, mode, flags = (*arguments, None, None, None)[:3]
            writes = (isinstance(mode, str) and mode.strip("rbt")) or (
                mode is None and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            )
            if not writes:
                return
        elif event in EVENTS:
            path = arguments[0]
        else:
            return
        if str(place) in str(path if not isinstance(path, bytes) else path.decode(errors="replace")):
            act()

    sys.addaudithook(hook)


def file_limit(size: int) -> Callable[[], None]:
    """Return what lets a process write files of at most ``size`` bytes: a disk that fills in the middle of a write."""

    def install() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install


def no_byte_more() -> None:
    """Refuse every byte that this process would write to a file: a full disk, on which names can still be made.

    Python ignores SIGXFSZ from its start, so that this is an error of the write; it may be called in any thread.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def snapshot(place: Path) -> dict[str, bytes]:
    """Return every file that must be the same again: bytes, and of results their lines without times."""
    files: dict[str, bytes] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.name in VOLATILE or "/cache/" in f"/{name}" or "tensorboard" in name or not path.is_file():
            continue
        if path.name.startswith(".") and path.name.endswith(".tmp"):  # of a killed write: nobody reads it
            continue
        files[name] = _lines(path) if path.name == "results.jsonl" else path.read_bytes()
    return files


def _lines(path: Path) -> bytes:
    from slmlp.results import records

    keep = sorted(json.dumps([str(row.key()), row.value, row.interval, row.n, row.extra, row.warnings], sort_keys=True)
                  for row in records.read(path))  # fmt: skip
    return "\n".join(keep).encode()


def _draw_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3)):
        for at, name in enumerate(("disc", "bar", "frame", "cross")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (20, 20), tuple(rng.integers(0, 100, 3).tolist()))
                pen, ink = ImageDraw.Draw(image), tuple(rng.integers(140, 255, 3).tolist())
                x, y = rng.integers(5, 14, 2).tolist()
                box = (x - 4, y - 4, x + 4, y + 4)
                (pen.ellipse, pen.line, pen.rectangle, pen.line)[at](box, fill=ink) if at != 2 else pen.rectangle(
                    box, outline=ink, width=2
                )
                image.save(folder / f"{i}.png")


def _draw_coco(root: Path) -> None:
    rng = np.random.default_rng(1)
    for part, count in (("train", 3), ("val", 2)):
        (root / "images" / part).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for i in range(count):
            image = Image.new("RGB", (64, 64), tuple(rng.integers(0, 90, 3).tolist()))
            x, y, w, h = (int(v) for v in rng.integers(8, 28, 4))
            ImageDraw.Draw(image).rectangle((x, y, x + w, y + h), fill=(230, 60, 40))
            image.save(root / "images" / part / f"{part}{i}.png")
            images.append({"id": i, "file_name": f"{part}{i}.png", "width": 64, "height": 64})
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": [x, y, w, h], "area": w * h,
                                "iscrowd": 0, "segmentation": [ring]})  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "brick"}]}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
