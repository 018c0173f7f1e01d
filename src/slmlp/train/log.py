"""Training log: a JSON line every few steps, and TensorBoard where it is installed."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any, TextIO, TypedDict

from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError


class LoggedStep(TypedDict):
    """A line of metrics.jsonl; further fields are a method's own losses and measurements."""

    step: int
    epoch: int
    loss: float
    images_per_second: float


class TrainingLog:
    """Means over ``every`` steps, one JSON line each; lines after step ``step`` in the file are removed (resuming)."""

    def __init__(self, path: Path, step: int, every: int, batch_size: int) -> None:
        self.path, self.every, self.batch_size = path, every, batch_size
        self.rows: list[dict[str, float]] = []
        earlier = [row for row in json_files.read_lines(path, LoggedStep) if row["step"] <= step]
        files.write_text(path, "".join(map(json_files.line, earlier)))
        with files.writing(path):
            self.file: TextIO = path.open("a")
            self.board = _tensorboard(path.parent)

    def add(self, row: dict[str, float]) -> None:
        """Add the row of one step."""
        self.rows.append(row)
        if int(row["step"]) % self.every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the mean of the rows since the last line."""
        if not self.rows:
            return
        self.check(int(self.rows[-1]["step"]))
        last, n = self.rows[-1], len(self.rows)
        keys = dict.fromkeys(key for row in self.rows for key in row if key not in ("step", "epoch", "seconds"))
        columns = {key: [row[key] for row in self.rows if key in row] for key in keys}  # some are not in every row
        mean = {key: sum(values) / len(values) for key, values in columns.items()}
        seconds = sum(r["seconds"] for r in self.rows)
        line = {
            "step": int(last["step"]),
            "epoch": int(last["epoch"]),
            **mean,
            "images_per_second": n * self.batch_size / seconds,
        }
        with files.writing(self.path):
            self.file.write(json_files.line(line))
            self.file.flush()
            if self.board is not None:  # raises what its own thread met when it wrote
                for key, value in line.items():
                    self.board.add_scalar(key, value, line["step"])
        self.rows = []

    def check(self, step: int) -> None:
        """Raise SlmlpError where the file is gone: what is written from now on would be lost."""
        if not self.path.exists():
            raise SlmlpError(f"{self.path.parent} was removed while the run wrote into it: it ends at step {step:,}")

    def close(self) -> None:
        """Close the files."""
        with files.writing(self.path):
            self.file.close()
        if self.board is None:
            return
        folder = self.path.parent
        gone = next((path for path in (folder, *folder.parents) if not path.exists() and path.parent.exists()), None)
        if gone is None:
            with files.writing(folder / "tensorboard"):
                self.board.close()
            return
        (folder / "tensorboard").mkdir(parents=True)  # it writes once more, from a thread that would print a traceback
        self.board.close()
        shutil.rmtree(gone)


def _tensorboard(folder: Path) -> Any:
    """Return a TensorBoard writer where the library is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    threading.excepthook = _without_tensorboard
    return SummaryWriter(str(folder / "tensorboard"))


def _without_tensorboard(met: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, but not of TensorBoard: it raises the error again."""
    if not type(met.thread).__module__.startswith("tensorboard."):
        _USUAL(met)


_USUAL = threading.excepthook
