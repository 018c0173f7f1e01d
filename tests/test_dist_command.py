"""The command on several processes: one run, one writer, one voice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dist_launch import TORCHRUN, ended, started, told
from slmlp import api, config
from slmlp.encoders.initial import initial_encoder
from slmlp.results import records
from slmlp.train.run import Run

pytestmark = pytest.mark.slow

GENTLE = (
    "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 2 --base-lr 0.005 --augment crop --precision float32"
)
PATCHED = """
import os, sys, time
from slmlp import cli, data
from slmlp.runtime import errors, processes
from slmlp.train import optim
from slmlp.cli import together
how, words = sys.argv[1], sys.argv[2:]
rank = int(os.environ["RANK"])
original, load = optim.lr_at, data.load
def slow(step, *rest):
    if step == 4 and how == "die" and rank == 1:
        os._exit(9)
    if step == 4 and how == "fail" and rank == 1:
        raise errors.SlmlpError("cannot read image 7")
    if step >= 4 and how == "slow":
        if rank == 0:
            print("at", step, flush=True)
        time.sleep(1)
    return original(step, *rest)
def refusing(*rest, **more):
    if how == "unreadable" and rank == 1:
        raise errors.SlmlpError("data 'x' cannot be read")
    return load(*rest, **more)
attempted = together._attempt
def late(*rest):
    code, line = attempted(*rest)
    if how == "late" and rank == 1:
        time.sleep(3)
    return code, line
optim.lr_at, data.load, together._attempt = slow, refusing, late
sys.exit(cli.main(words))
"""


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "patched.py"
    path.write_text(PATCHED)
    return path


@pytest.fixture(scope="module")
def straight(shapes, once):
    def make(out):
        subprocess.run([sys.executable, "-m", "slmlp", *pretraining(shapes, out)], check=True, capture_output=True)

    return Run(once("dist-straight", make))


def pretraining(shapes: Path, out: Path) -> list[str]:
    return ["pretrain", str(shapes), "--out", str(out), *GENTLE.split()]


def assert_close_runs(run: Run, straight: Run) -> None:
    """Runs in float32: rounding grows from step to step, so it is judged by how far training has moved the weights.

    At this rate another order of the sums (another memory layout, or other parts of a batch) moves them by 1e-4 to 1e-3
    of that; a gradient that is not that of the whole batch, by a tenth and more.
    """
    found, expected = (load_file(r.path / "encoder.safetensors") for r in (run, straight))
    assert found.keys() == expected.keys()
    start = initial_encoder("resnet10", "random", 16, "small", 0).weights()
    apart, moved = (
        sum(float((a[key] - b[key]).square().sum()) for key in start if "running" not in key) ** 0.5
        for a, b in ((found, expected), (expected, start))
    )
    assert apart < 0.01 * moved
    for key in (key for key in start if "running" in key):
        torch.testing.assert_close(found[key], expected[key], atol=0.02, rtol=0.02, msg=key)
    rows, wanted = run.metrics(), straight.metrics()
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]
    np.testing.assert_allclose([r["loss"] for r in rows], [r["loss"] for r in wanted], atol=0.01)


def test_a_run_of_two_processes_is_that_of_one(shapes, straight, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [*TORCHRUN, "-m", "slmlp", *pretraining(shapes, out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = Run(out)
    assert_close_runs(run, straight)
    assert done.stdout.strip() == str(out / "encoder.safetensors")
    assert done.stderr.count("peak learning rate") == 1
    assert "Warning" not in done.stderr.replace("Setting OMP_NUM_THREADS", "")
    assert run.config["identity"] == straight.config["identity"]  # whatever the number of processes
    assert run.config["resolved"] == straight.config["resolved"]
    assert run.config["machine"]["processes"] == 2
    assert sorted(p.name for p in out.iterdir() if p.is_file()) == sorted(
        p.name for p in straight.path.iterdir() if p.is_file()
    )


def test_stopped_on_two_processes_a_run_goes_on_with_one(shapes, straight, patched, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*map(str, TORCHRUN), str(patched), "slow", *pretraining(shapes, out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "at 4"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said.count("stopped and saved after step 5 of 12") == 1, said
    assert told(said) == ["slmlp: stopped; the same command goes on from here"]
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-000000005.ckpt"]
    assert_close_runs(api.resume(out, progress=False), straight)


def test_a_process_that_is_killed_ends_the_others_with_one_line_and_the_run_goes_on(
    shapes, straight, patched, tmp_path
):
    out = tmp_path / "run"
    words = [*pretraining(shapes, out), "--checkpoint-minutes", "0"]
    (code, _, said), (killed, _, nothing) = ended(started(2, patched, "die", *words))
    assert (code, killed) == (2, 9)
    assert len(told(said + nothing)) == 1
    assert "another process has ended" in said
    assert "Traceback" not in said
    group = started(2, "-m", "slmlp", "pretrain", "--resume", out)
    for code, _, said in ended(group):
        assert code == 0, said
    assert_close_runs(Run(out), straight)


def test_one_process_that_fails_later_is_the_one_that_speaks(shapes, patched, tmp_path):
    outcome = ended(started(2, patched, "fail", *pretraining(shapes, tmp_path / "run")))
    assert [code for code, _, _ in outcome] == [2, 2]
    assert told(outcome[0][2] + outcome[1][2]) == ["slmlp: cannot read image 7"]
    assert "Traceback" not in outcome[0][2] + outcome[1][2]


def test_one_process_that_fails_at_the_start_ends_all_with_its_line(shapes, patched, tmp_path):
    command = [*map(str, TORCHRUN), str(patched), "unreadable", *pretraining(shapes, tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    (line,) = told(done.stderr)
    assert line.startswith("slmlp: data 'x' cannot be read (process 1 of 2, on ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["pretrain", "DATA", "--out", "OUT", "--batch-size", "24", "--encoder", "resnet_50"],
            "did you mean 'resnet50'",
        ),
        (["pretrain", "DATA", "--out", "OUT", "--encoder", "resnet10", "--batch-size", "25"], "choose 24 or 26"),
        (["study", "DATA", "--out", "OUT"], "slmlp study runs as one process, found WORLD_SIZE=2"),
        (
            ["pretrain", "DATA", "--out", "OUT", "--batch-size", "24", "--device", "cuda:1"],
            "names one device for 2 processes",
        ),
        (["pretrain", "DATA", "--out", "OUT", "--epochs", "ten"], "--epochs must be a whole number, found 'ten'"),
    ],
)
def test_what_cannot_work_is_one_line_from_one_process(shapes, tmp_path, words, line):
    names = {"DATA": shapes, "OUT": tmp_path / "run"}
    outcome = ended(started(2, "-m", "slmlp", *[names.get(word, word) for word in words]))
    assert [code for code, _, _ in outcome] == [2, 2]
    (found,) = told("".join(said for _, _, said in outcome))
    assert line in found
    for _, _, said in outcome:
        assert not any(word in said for word in ("Traceback", "Value error"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_process_that_fails_long_after_the_first_stays_silent(shapes, patched, tmp_path):
    words = [*pretraining(shapes, tmp_path / "run"), "--encoder", "resnet_50"]
    outcome = ended(started(2, patched, "late", *words))
    assert [code for code, _, _ in outcome] == [2, 2]
    (found,) = told("".join(said for _, _, said in outcome))
    assert "did you mean 'resnet50'" in found


def test_features_from_the_command_are_those_of_one_process(shapes, straight, tmp_path):
    outcome = ended(
        started(2, "-m", "slmlp", "features", straight.path, shapes, "--part", "test", "--out", tmp_path / "f.npz")
    )
    assert [code for code, _, _ in outcome] == [0, 0], outcome
    assert [len(out) > 0 for _, out, _ in outcome] == [True, False]
    expected = api.features(straight.path, str(shapes), part="test")
    with np.load(tmp_path / "f.npz") as found:
        assert found["ids"].tolist() == expected.ids.tolist()
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected.x, atol=1e-6, rtol=0)


def test_an_evaluation_from_the_command_is_that_of_one_process(shapes, straight, tmp_path):
    api.split(str(shapes), tmp_path / "split.json", config.Split(by="random", unseen_fraction=0.5))
    words = ["evaluate", straight.path, shapes, "--split", tmp_path / "split.json", "--out", tmp_path / "two"]
    outcome = ended(started(2, "-m", "slmlp", *words))
    assert [code for code, _, _ in outcome] == [0, 0], outcome
    assert [out.count("\tunseen\toutput\taccuracy\t") for _, out, _ in outcome] == [1, 0]
    found = records.read(tmp_path / "two" / "results.jsonl")
    expected = api.evaluate(straight.path, str(shapes), split=tmp_path / "split.json", out=tmp_path / "one")
    assert [(r.metric, r.value, r.n) for r in found] == [(r.metric, r.value, r.n) for r in expected]
