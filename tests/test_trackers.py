"""Trackers, real ones: each receives what metrics.jsonl holds, once, also of a run that was stopped and resumed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmlp.cli import main
from slmlp.runtime.errors import SlmlpError
from slmlp.train import trackers
from slmlp.train.run import Run

TINY = "--encoder resnet10 --image-size 16 --batch-size 24 --augment weak --threads 1"


def tensorboard(store: Path, run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def texts(file: Path) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: LevelDB's log, in blocks of 32 KiB, behind 7 bytes."""
    data, at, text = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        text += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield text
            text = b""


def wandb(store: Path, run: Path) -> dict[str, list[tuple[int, float]]]:
    from wandb.proto.wandb_internal_pb2 import Record

    def named(items):
        return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

    found: dict[str, list[tuple[int, float]]] = {}
    names = set()
    for file in sorted((store / "wandb").glob("offline-run-*/*.wandb")):
        read = [Record.FromString(text) for text in texts(file)]
        if run.name not in {record.run.display_name for record in read}:
            continue
        names.add(file.name)
        for record in read:
            values = named(record.history.item)
            for key, value in values.items():
                found.setdefault(key, []).append((int(values["_step"]), value))
            for key, value in named(record.summary.update).items():
                found.setdefault(f"summary {key}", []).append((0, value))
    assert len(names) == 1  # one id: its parts are one run when they are synchronised
    return found


def mlflow(store: Path, run: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    (one,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.name}'")
    assert one.data.params["training.encoder"] == "resnet10"
    assert one.info.status == "FINISHED"
    history = {key: client.get_metric_history(one.info.run_id, key) for key in one.data.metrics}
    return {key: [(metric.step, metric.value) for metric in values] for key, values in history.items()}


def trackio(store: Path, run: Path) -> dict[str, list[tuple[int, float]]]:
    (file,) = (store / "trackio").glob("*.db")
    found: dict[str, list[tuple[int, float]]] = {}
    for step, text in sqlite3.connect(file).execute("SELECT step, metrics FROM metrics WHERE run_name = ?", [run.name]):
        for key, value in json.loads(text).items():
            found.setdefault(key, []).append((step, value))
    return found


READERS = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}


@pytest.fixture(params=READERS)
def tracker(request):
    for module in trackers.NEEDED[request.param]:
        pytest.importorskip(module, reason=f"pip install 'slmlp[{request.param}]'")
    return request.param


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slmlp", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's database, read here
def test_a_tracker_receives_every_line_once_also_of_a_resumed_run(tracker, shapes, tmp_path):
    words = ["pretrain", shapes, *TINY.split(), "--epochs", 25, "--track", tracker, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "slmlp", *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "images/s" in line:
            process.send_signal(signal.SIGINT)
            break
    said, _ = process.communicate()
    assert (process.returncode, said) == (130, "")
    stopped_at = Run(tmp_path / "run").metrics()[-1]["step"]
    done = run("pretrain", "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run' / 'encoder.safetensors'}\n"  # and no other library's words
    rows = Run(tmp_path / "run").metrics()
    assert stopped_at < len(rows) == 150
    found = READERS[tracker](tmp_path / "run", tmp_path / "run")
    for key in ("loss", "lr", "images_per_second"):
        assert [step for step, _ in found[key]] == [row["step"] for row in rows]
        assert [value for _, value in found[key]] == pytest.approx([row[key] for row in rows], rel=1e-6)


@pytest.mark.slow
def test_a_tracker_that_comes_later_receives_what_was_logged_before(tmp_path, shapes):
    pytest.importorskip("tensorboard", reason="pip install 'slmlp[tensorboard]'")
    place = trackers.Place(tmp_path, tmp_path, "abc")
    rows = [{"step": step, "epoch": 1, "loss": 1.0 / step} for step in (1, 2, 3)]
    for names, before in ((["tensorboard"], rows), (["tensorboard"], rows)):  # the second time it is known
        opened = trackers.Trackers(names, place, {"seed": 0}, 3)
        opened.replay(before)
        opened.close()
    assert [step for step, _ in tensorboard(tmp_path, tmp_path)["loss"]] == [1, 2, 3]


@pytest.mark.slow
def test_a_tracker_changes_neither_weights_nor_identity(shapes, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'slmlp[tensorboard]'")
    words = ["pretrain", str(shapes), *TINY.split(), "--epochs", "1", "--out"]
    assert main([*words, str(tmp_path / "plain")]) == 0
    assert main([*words, str(tmp_path / "tracked"), "--track", "tensorboard"]) == 0
    plain, tracked = Run(tmp_path / "plain"), Run(tmp_path / "tracked")
    assert tracked.encoder().hash() == plain.encoder().hash()
    assert tracked.config["identity"] == plain.config["identity"]
    assert not list(plain.path.glob("**/events.out.tfevents*"))
    assert list(tracked.path.glob("**/events.out.tfevents*"))


@pytest.mark.slow
def test_a_study_tells_its_results(shapes, tmp_path):
    pytest.importorskip("wandb", reason="pip install 'slmlp[wandb]'")
    flags = "--methods sl sl-mlp --seeds 1 --rates 0.1 --epochs 2 --parallel 2 --split.by random"
    flags += " --split.unseen-fraction 0.5 --probe.l2 0.01 0.1 --probe.folds 3 --track wandb tensorboard"
    done = run("study", shapes, *TINY.split(), *flags.split(), "--out", tmp_path / "study")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (tmp_path / "study" / "results.jsonl").read_text().splitlines()]
    for name in ("sl-seed0", "sl-mlp-seed0"):
        folder = tmp_path / "study" / "runs" / name
        (value,) = [r["value"] for r in results if (r["run"], r["task"], r["metric"]) == (name, "unseen", "accuracy")]
        for reader, key in ((wandb, "summary results/unseen accuracy"), (tensorboard, "results/unseen accuracy")):
            found = reader(tmp_path / "study", folder)
            assert len({step for step, _ in found["loss"]}) == len(Run(folder).metrics())
            assert found[key][-1][1] == pytest.approx(value)


@pytest.mark.parametrize("command", ["pretrain", "study"])
def test_a_missing_tracker_ends_a_command_before_the_first_file(command, shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(trackers.NEEDED, "wandb", ("no_such_library",))
    words = [command, str(shapes), *TINY.split(), "--epochs", "1", "--track", "wandb", "--out", str(tmp_path / "x")]
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("slmlp: --track wandb: no_such_library is not installed: pip install 'slmlp[wandb]'")
    assert not (tmp_path / "x").exists()


def test_a_tracker_that_fails_leaves_the_run_alone(tmp_path, monkeypatch, capsys):
    class Failing:
        def __init__(self, *rest: object) -> None:
            self.calls = 0

        def log(self, values, step):
            self.calls += 1
            raise ConnectionError("the server\nhas gone")

    failing = Failing()
    monkeypatch.setitem(trackers.OPENERS, "wandb", lambda *rest: failing)
    monkeypatch.setattr(trackers, "check", lambda names: None)
    opened = trackers.Trackers(["wandb"], trackers.Place(tmp_path, tmp_path, "abc"), {}, 0)
    for step in (1, 2):
        opened.log({"loss": 1.0}, step)
    opened.close()
    assert failing.calls == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the server has gone" in line


def test_a_folder_that_a_tracker_wrote_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "nothing_of_this_name").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(trackers.NEEDED, "wandb", ("nothing_of_this_name",))
    with pytest.raises(SlmlpError, match="not installed"):
        trackers.check(["wandb"])
