"""``timm:NAME@FILE#PART`` is the same encoder to every command that takes one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

from detection_data import QUICK, data_set
from slmlp import cli, config
from slmlp.encoders import Encoder
from slmlp.encoders.sources import open_encoder
from slmlp.results import records
from slmlp.runtime import json_files, seeds
from suite_runs import data_sets

SIZE = config.PreprocessFlags(size=32)


@pytest.fixture(scope="module")
def init(once):
    """A file with two sets of weights, of which the part names the second."""

    def make(folder):
        with seeds.seeded(1, "theirs"):
            state = timm.create_model("test_resnet", num_classes=7).state_dict()
        moved = {k: v * 1.5 if v.is_floating_point() else v for k, v in state.items()}
        torch.save({"student": state, "teacher": moved}, folder / "w.pt")

    return f"timm:test_resnet@{once('parts', make) / 'w.pt'}#teacher"


@pytest.fixture(scope="module")
def expected(init):
    hashes = {
        part: open_encoder(init.replace("teacher", part), overrides=SIZE).hash() for part in ("teacher", "student")
    }
    assert hashes["teacher"] != hashes["student"]
    return hashes["teacher"]


def run(*words):
    """Run a command; return its exit code."""
    return cli.main([str(word) for text in words for word in (text.split() if isinstance(text, str) else [text])])


def found(out):
    return {row.hashes["encoder"] for row in records.read(out / "results.jsonl")}


def test_evaluate_and_features(init, expected, shapes, tmp_path):
    assert run(f"evaluate {init} {shapes} --preprocess.size 32 --probe.l2 0.01 --out {tmp_path}/evaluated") == 0
    assert found(tmp_path / "evaluated") == {expected}
    file = init.removeprefix("timm:test_resnet@").partition("#")[0]
    torch.save(torch.load(file, weights_only=True)["teacher"], tmp_path / "alone.pt")
    found_features = []
    for name, source in (("part", init), ("alone", f"timm:test_resnet@{tmp_path}/alone.pt")):
        assert run(f"features {source} {shapes} --preprocess.size 32 --out {tmp_path}/{name}.npz") == 0
        beside = tmp_path / f"{name}.npy"
        found_features.append(np.load(beside) if beside.exists() else np.load(tmp_path / f"{name}.npz")["x"])
    np.testing.assert_array_equal(*found_features)


def test_pretrain_starts_there_and_goes_on_in_its_folder(init, expected, shapes, tmp_path):
    words = f"pretrain {shapes} --init {init} --image-size 32 --epochs 1 --batch-size 48 --augment none"
    assert run(f"{words} --out {tmp_path}/run") == 0
    about = json_files.read(tmp_path / "run" / "config.json", dict)
    assert about["resolved"]["initial_encoder_hash"] == expected
    assert about["job"]["training"]["init"] == init
    # what a run wrote as its command starts from the same weights, from another folder too
    ended = subprocess.run(
        [sys.executable, "-m", "slmlp", "pretrain", "--config", "run/command.yaml", "--out", "again", "--overwrite"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    again = Encoder.load(tmp_path / "again" / "encoder.safetensors")
    assert again.hash() == Encoder.load(tmp_path / "run" / "encoder.safetensors").hash()


@pytest.mark.slow
def test_a_study_has_it_as_its_first_row(init, expected, shapes, tmp_path):
    words = f"study {shapes} --init {init} --image-size 32 --batch-size 24 --epochs 1 --augment none --seeds 1"
    words += " --rates 0.01 --split.by random --split.unseen-fraction 0.5 --probe.folds 3 --probe.l2 0.01 --parallel 1"
    assert run(f"{words} --out {tmp_path}/study") == 0
    rows = records.read(tmp_path / "study" / "results.jsonl")
    assert {row.hashes["encoder"] for row in rows if row.method == "starting-encoder"} == {expected}


@pytest.mark.slow
def test_a_suite_has_it_beside_another_part(init, expected, once, tmp_path):
    student = init.replace("teacher", "student")
    words = f"suite one={init} other={student} --datasets {data_sets(once)} --tasks knn --preprocess.size 32"
    assert run(f"{words} --out {tmp_path}/suite") == 0
    rows = records.read(tmp_path / "suite" / "results.jsonl")
    hashes = {row.method: row.hashes["encoder"] for row in rows}
    assert hashes["one"] == expected != hashes["other"]


@pytest.mark.slow
def test_a_detector_is_built_on_it(init, tmp_path):
    data_set(tmp_path)
    quick: list[str] = []
    for key, value in QUICK.items():
        quick += [f"--{key.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    student = init.replace("teacher", "student")
    assert run(f"detect one={init} other={student} {tmp_path}", *quick, f"--out {tmp_path}/detection") == 0
    rows = [row for row in records.read(tmp_path / "detection" / "results.jsonl") if row.metric == "box_ap"]
    hashes = {row.method: row.hashes["encoder"] for row in rows}
    assert hashes["one"] == open_encoder(init).hash()
    assert hashes["other"] == open_encoder(student).hash()
