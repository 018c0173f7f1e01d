"""Training log: a JSON line every few steps, which trackers receive too."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO, TypedDict

from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train.trackers import Trackers


class LoggedStep(TypedDict):
    """A line of metrics.jsonl; further fields are a method's own losses and measurements."""

    step: int
    epoch: int
    loss: float
    images_per_second: float


class TrainingLog:
    """Means over ``every`` steps, one JSON line each; lines after step ``step`` in the file are removed (resuming)."""

    def __init__(self, path: Path, step: int, every: int, batch_size: int, trackers: Trackers | None = None) -> None:
        self.path, self.every, self.batch_size = path, every, batch_size
        self.rows: list[dict[str, float]] = []
        found = json_files.read_lines(path, LoggedStep)
        earlier = [row for row in found if row["step"] <= step]
        self.trackers, self.tracked = trackers, max((row["step"] for row in found), default=0)
        files.write_text(path, "".join(map(json_files.line, earlier)))
        with files.writing(path):
            self.file: TextIO = path.open("a")
        if trackers is not None:
            trackers.replay([{**row} for row in found])

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
        if self.trackers is not None and line["step"] > self.tracked:  # they have what a stopped run did again
            self.trackers.log(line, int(line["step"]))
        self.rows = []

    def check(self, step: int) -> None:
        """Raise SlmlpError where the file is gone: what is written from now on would be lost."""
        if not self.path.exists():
            raise SlmlpError(f"{self.path.parent} was removed while the run wrote into it: it ends at step {step:,}")

    def close(self) -> None:
        """Close the files."""
        with files.writing(self.path):
            self.file.close()
        if self.trackers is not None:
            self.trackers.close()
