"""Trackers of experiments, by name: what metrics.jsonl holds goes to them too, offline unless they are told otherwise.

A run is one run there, also after it was stopped and resumed: what a tracker has received is not sent again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slmlp.runtime import files, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short
from slmlp.runtime.progress import say

NEEDED = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}  # modules of each


@dataclass(frozen=True)
class Place:
    """A run, as trackers know it."""

    run: Path  # its folder
    store: Path  # the folder whose runs are shown together: that of the study, or the run's own
    id: str  # the same when it is resumed

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def project(self) -> str:
        """The name of what its store holds."""
        return re.sub(r"[^\w.-]+", "-", self.store.resolve().name) or "slmlp"


class Tracker(Protocol):
    """Receives the numbers of one run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the numbers after a step."""

    def results(self, values: Mapping[str, float]) -> None:
        """Take the numbers of the finished encoder."""

    def close(self) -> None:
        """Write what is left."""


def check(names: Sequence[str]) -> None:
    """Raise SlmlpError for a tracker that is not installed, with the command that installs it."""
    for name in names:
        for module in NEEDED[name]:
            found = importlib.util.find_spec(module)
            if found is None or found.origin is None:  # a folder of that name, in which an earlier run wrote, is none
                raise SlmlpError(f"--track {name}: {module} is not installed: pip install 'slmlp[{name}]'")


class Trackers:
    """The trackers of a run. One that fails is left out from then on, with a warning: the run goes on."""

    def __init__(self, names: Sequence[str], place: Place, settings: Mapping[str, Any], step: int) -> None:
        """Begin, or go on with, a run in each.

        Args:
            names: of ``NEEDED``.
            place: where the run is.
            settings: its settings, nested; they are flattened.
            step: the step that the run is at.

        Raises:
            SlmlpError: one that is not installed, or that cannot begin.
        """
        check(names)
        self.place, self.open = place, dict[str, Tracker]()
        begun = place.run / "trackers.json"
        known = json_files.read(begun, list[str]) if begun.exists() else []
        self.fresh = [name for name in names if name not in known]  # these receive what was logged before, too
        for name in dict.fromkeys(names):
            try:
                self.open[name] = OPENERS[name](place, flat(settings), step)
            except Exception as error:
                raise SlmlpError(f"--track {name}: it cannot begin ({type(error).__name__}: {short(error)})") from error
        json_files.write(begun, list(dict.fromkeys([*known, *names])))

    def replay(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Let trackers that are new to this run have the lines logged before."""
        for name in self.fresh:
            self._call(name, lambda tracker: _log_all(tracker, rows))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name in list(self.open):
            self._call(name, lambda tracker: tracker.log(values, step))

    def results(self, values: Mapping[str, float]) -> None:
        named = {re.sub(r"[^\w.\- /]+", "-", name): value for name, value in values.items()}
        for name in list(self.open):
            self._call(name, lambda tracker: tracker.results(named))

    def close(self) -> None:
        for name in list(self.open):
            self._call(name, lambda tracker: tracker.close())

    def _call(self, name: str, what: Callable[[Tracker], None]) -> None:
        if name not in self.open:
            return
        try:
            what(self.open[name])
        except Exception as error:
            del self.open[name]
            say(
                f"warning: {self.place.name}: --track {name} receives nothing from here on ({type(error).__name__}: "
                f"{short(error)}); metrics.jsonl has all"
            )


def _log_all(tracker: Tracker, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        tracker.log(row, int(row["step"]))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, by names with dots; lists as words.

    >>> flat({"seed": 0, "training": {"betas": [0.9, 0.999]}})
    {'seed': 0, 'training.betas': '0.9 0.999'}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return found


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, place: Place, settings: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _without_tensorboard
        self.folder = place.run / "tensorboard"
        self.writer: Any = SummaryWriter(str(self.folder))
        if not step:
            self.writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def results(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"results/{name}", value, 0)

    def close(self) -> None:
        parents = self.folder.parents
        gone = next((path for path in parents if not path.exists() and path.parent.exists()), None)
        if gone is not None:  # it writes once more, from a thread that would print a traceback
            self.folder.mkdir(parents=True)
        self.writer.close()
        if gone is not None:
            shutil.rmtree(gone)


def _without_tensorboard(met: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread, but not of TensorBoard: it raises the error again."""
    if not type(met.thread).__module__.startswith("tensorboard."):
        _USUAL(met)


_USUAL = threading.excepthook


class Wandb:
    """Weights & Biases, offline in STORE/wandb; ``WANDB_MODE=online`` and its other variables are its own."""

    def __init__(self, place: Place, settings: Mapping[str, Any], step: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", place.project), group=place.project, name=place.name, id=place.id,
            resume="allow", dir=os.environ.get("WANDB_DIR", str(place.store)), config=dict(settings),
            mode=mode, settings=wandb.Settings(
                silent=True, console="off", symlink=False, disable_git=True, save_code=False, x_disable_stats=True
            ),
        )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def results(self, values: Mapping[str, float]) -> None:
        self.run.summary.update({f"results/{name}": value for name, value in values.items()})

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """MLflow, in STORE/mlflow.db; ``MLFLOW_TRACKING_URI`` names another place."""

    def __init__(self, place: Place, settings: Mapping[str, Any], step: int) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.metric = Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(place.store / 'mlflow.db').resolve()}")
        with _locked(place.store):  # the database is made, and the experiment named, once
            self.client: Any = MlflowClient(tracking_uri=uri)
            known = self.client.get_experiment_by_name(place.project)
            where = f"file://{(place.store / 'mlflow').resolve()}"
            experiment = known.experiment_id if known else self.client.create_experiment(place.project, where)
        found = self.client.search_runs([experiment], f"tags.`slmlp.run` = '{place.id}'", max_results=1)
        tags = {"slmlp.run": place.id}
        run = found[0] if found else self.client.create_run(experiment, run_name=place.name, tags=tags)
        self.id = run.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        if not found:
            self.client.log_batch(self.id, params=[Param(name, str(value)[:6000]) for name, value in settings.items()])

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[self.metric(name, value, now, step) for name, value in values.items()])

    def results(self, values: Mapping[str, float]) -> None:
        self.log({f"results/{name}": value for name, value in values.items()}, 0)

    def close(self) -> None:
        self.client.set_terminated(self.id)


class Trackio:
    """Trackio, in STORE/trackio; ``TRACKIO_DIR`` names another place, ``TRACKIO_SPACE_ID`` a Space."""

    def __init__(self, place: Place, settings: Mapping[str, Any], step: int) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((place.store / "trackio").resolve()))  # read when it is imported
        import trackio

        self.library: Any = trackio
        with contextlib.redirect_stdout(io.StringIO()):  # it tells how to open its dashboard: docs/trackers.md does
            self.run: Any = trackio.init(
                project=place.project, name=place.name, group=place.project, resume="allow", config=dict(settings),
                embed=False, auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def results(self, values: Mapping[str, float]) -> None:
        self.run.log({f"results/{name}": value for name, value in values.items()})

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.library.finish()


OPENERS: dict[str, Callable[[Place, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": Mlflow,
    "wandb": Wandb,
    "trackio": Trackio,
}


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    import fcntl

    with files.writing(store), (store / ".mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
