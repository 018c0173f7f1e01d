"""The studies and runs of a folder. What is served is one of these, by its id, and nothing else is ever opened."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slmlp.report.inputs import KINDS
from slmlp.results import records
from slmlp.results.records import Result
from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.folders import MARK

DEPTH = 6  # folders below the one that is served
WITHOUT = {"cache", "checkpoints", "epochs", "predictions", "tensorboard", "wandb", "trackio", "mlflow", "evaluation"}
KIND_OF = {file: kind for kind, file in KINDS.items()}  # of what has a page
POINTS = 500  # of a curve

State = Literal["training", "stopped", "finished"]


@dataclass(frozen=True)
class Found:
    """A study, suite or detection, or a run."""

    path: Path
    name: str
    """Its place below the folder that is served."""
    kind: str
    """``study``, ``suite``, ``detection``, ``run``."""

    @property
    def store(self) -> str:
        """The study that a run belongs to, else the folder that it is in."""
        before, _, _ = self.name.rpartition("/runs/")
        return before or self.name.rpartition("/")[0]

    @property
    def id(self) -> str:
        """The name that it has in addresses."""
        return files.sha256(self.name.encode())[:16]

    @property
    def state(self) -> State:
        """Whether it is finished, or a process works on it."""
        if self.kind == "run" and (self.path / "encoder.safetensors").exists():
            return "finished"
        if _held(self.path / MARK):
            return "training"
        return "finished" if self.kind != "run" and (self.path / KINDS[self.kind]).exists() else "stopped"

    @property
    def has_page(self) -> bool:
        """Whether there is a page to show."""
        return self.kind != "run" and (self.path / KINDS[self.kind]).exists() and (self.path / "verdict.json").exists()

    @property
    def about(self) -> dict[str, Any]:
        """The settings of a run."""
        file = self.path / "config.json"
        content: dict[str, Any] = _read(file, file.stat().st_mtime_ns)
        return content

    @property
    def version(self) -> str:
        """Another word whenever the training log is another."""
        file = self.path / "metrics.jsonl"
        try:
            at = file.stat()
        except FileNotFoundError:
            return "-"
        return f"{at.st_mtime_ns}-{at.st_size}"

    def metrics(self) -> list[dict[str, float]]:
        """Return the lines of the training log, thinned."""
        rows = json_files.read_lines(self.path / "metrics.jsonl", dict[str, float])
        every = max(1, -(-len(rows) // POINTS))
        return rows[::-every][::-1]  # the last one is shown

    def results(self) -> list[Result]:
        """Return the numbers of a finished encoder: of its study, and of ``slmlp evaluate``."""
        places = [self.path / "evaluation"]
        if self.path.parent.name == "runs" and (self.path.parents[1] / "owner.json").exists():
            places.insert(0, self.path.parents[1])
        rows: list[Result] = []
        for folder in places:
            file = folder / "results.jsonl"
            if file.is_file():
                rows += [row for row in _results(file, file.stat().st_mtime_ns) if row.run == self.path.name]
        return [row for row in rows if row.role == "final" and row.layer == "output"]

    def folder_of(self, row: Result) -> Path:
        """Return the folder that a line's predictions are below; SlmlpError where they are outside of it."""
        if row.predictions and (Path(row.predictions).is_absolute() or ".." in Path(row.predictions).parts):
            raise SlmlpError(f"{self.name}: a line of its results names a file elsewhere, {row.predictions}")
        own = self.path / "evaluation"
        return own if row.predictions and (own / row.predictions).exists() else self.path.parents[1]


def find(root: Path) -> dict[str, Found]:
    """Return what a folder holds, by id; links are not followed.

    Raises:
        SlmlpError: there is no such folder, or it holds none.
    """
    if not root.is_dir():
        raise SlmlpError(f"no folder {root}: expected one that holds studies or runs")
    found: list[Found] = []
    for place, folders, names in os.walk(root):
        path = Path(place)
        own = {name for name in names if not (path / name).is_symlink()}
        below = path.relative_to(root).as_posix()
        name = below if below != "." else root.resolve().name
        kind = next((kind for file, kind in KIND_OF.items() if file in own), "study" if "owner.json" in own else None)
        if kind is not None:
            found.append(Found(path, name, kind))
        elif "config.json" in own and own & {"metrics.jsonl", "encoder.safetensors", MARK} and _is_run(path):
            found.append(Found(path, name, "run"))
            folders.clear()
        deep = len(path.relative_to(root).parts) >= DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in WITHOUT and not f.startswith("."))
    if not found:
        raise SlmlpError(
            f"{root} holds no study and no run of slmlp: expected the folder of one, or one above, as those of "
            "slmlp study --out and slmlp pretrain --out"
        )
    return {one.id: one for one in found}


def _is_run(path: Path) -> bool:
    try:
        return {"job", "resolved"} <= Found(path, path.name, "run").about.keys()
    except (SlmlpError, OSError):
        return False


def _held(mark: Path) -> bool:
    """Return whether a process holds a folder, without holding it: a run that begins meanwhile must not be refused."""
    try:
        inode = str(mark.stat().st_ino)
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any("FLOCK" in line and inode in line.replace(":", " ").split() for line in locks)


@functools.lru_cache(maxsize=4096)
def _read(file: Path, changed: int) -> dict[str, Any]:
    return json_files.read(file, dict[str, Any])


@functools.lru_cache(maxsize=64)
def _results(file: Path, changed: int) -> list[Result]:
    return records.read(file)
