"""A run that is killed goes on bit for bit: in the middle of an accumulated step, compiled, and with a scaled loss."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slmlp import api
from slmlp.runtime import device
from slmlp.train import record
from slmlp.train.loop import train
from test_rates_and_averages import SMALL

# kills itself between the two parts of a batch, the way in which nothing of the process is tidied up
KILLED = """
import os, signal, sys
from slmlp import cli
from slmlp.runtime import seeds
seeded = seeds.seeded
def until(*words):
    if words[1:3] == ("dropout", int(sys.argv[1])) and words[3:] == ("part 1",):
        os.kill(os.getpid(), signal.SIGKILL)
    return seeded(*words)
seeds.seeded = until
sys.exit(cli.main(sys.argv[2:]))
"""
WORDS = (
    "--encoder test_vit --image-size 16 --batch-size 24 --epochs 3 --augment crop --method sl-mlp --optimizer adamw "
    "--base-lr 0.01 --ema 0.8 --clip-norm 0.5 --accumulate 2 --dropout 0.1 --threads 1 "
    "--precision float32 --checkpoint-minutes 0"
)


def kept(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize(("more", "steps"), [("--frozen-epochs 1", (4, 9)), ("--compile", (9,))])
def test_a_kill_between_the_parts_of_a_batch_changes_nothing(more, steps, shapes, tmp_path):
    """Six steps an epoch: killed while the encoder is frozen, and after it."""
    words = ["pretrain", str(shapes), *WORDS.split(), *more.split(), "--out"]
    straight, killed = (str(tmp_path / name) for name in ("straight", "killed"))
    # the second of two runs finds the kernels of the first: what is compiled again must be the same
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}

    def run(*command):
        return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)

    assert run("-m", "slmlp", *words, straight).returncode == 0
    for step in steps:
        assert run("-c", KILLED, str(step), *words, killed).returncode == -signal.SIGKILL
        newest = max(path.name for path in (tmp_path / "killed" / "checkpoints").glob("*.ckpt"))
        assert newest == f"step-{step:09d}.ckpt"  # the steps before it: nothing of half a batch
    done = run("-m", "slmlp", *words, killed)
    assert "continues after step 9" in done.stderr
    assert done.returncode == 0
    assert len(kept(tmp_path / "straight")) == 2  # encoder and projector
    assert kept(tmp_path / "killed") == kept(tmp_path / "straight")


class Stopped(Exception):
    """In place of a kill, where a setting of the test must outlive it."""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_a_run_in_float16_goes_on_with_its_scale(optimizer, shapes, tmp_path, monkeypatch):
    """On the CPU, where it is refused to users for its speed alone; the scale moves every second step and overflows."""
    scales: dict[int, float] = {}  # by step; what was trained but not saved is trained again

    def watched(state, *rest):
        for row in train(state, *rest):
            scales[state.step] = state.scaler.get_scale()
            yield row
            if state.step == stop:
                raise Stopped

    settings = {"sgd": {"accumulate": 2}, "lars": {"base_lr": 2.0}, "adamw": {"base_lr": 0.01, "clip_norm": 0.5}}
    training = dataclasses.replace(
        SMALL, encoder="test_vit", precision="float16", optimizer=optimizer, ema=0.8, **settings[optimizer]
    )
    monkeypatch.setattr(device, "check", lambda *_: None)
    monkeypatch.setattr(
        device.Compute, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2)
    )
    monkeypatch.setattr(record, "train", watched)

    def run(out):
        return api.pretrain(str(shapes), out, training=training, method="sl-mlp", progress=False)

    stop = None
    straight, every = run(tmp_path / "straight").path, dict(scales)
    assert len(every) == 18
    assert {every[step] / every[step - 1] for step in range(2, 19)} == {0.5, 1.0, 2.0}  # skipped, kept and grown
    scales.clear()
    for stop in (5, 12):  # noqa: B007  read by ``watched``
        with pytest.raises(Stopped):
            run(tmp_path / "stopped")
    stop = None
    run(tmp_path / "stopped")
    assert scales == every
    assert kept(tmp_path / "stopped") == kept(straight)
