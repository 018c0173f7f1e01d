"""--config: settings from YAML; what a run or a study was made by is such a file, and gives the same again."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml

from slmlp import config
from slmlp.cli import COMMANDS, main
from slmlp.cli.parse import options, parse
from slmlp.cli.pretraining import Pretrain
from slmlp.cli.studying import Study
from slmlp.config import command_file
from slmlp.results import records
from slmlp.runtime.errors import SlmlpError
from slmlp.train.run import Run


def written(tmp_path, text):
    (tmp_path / "my.yaml").write_text(text)
    return str(tmp_path / "my.yaml")


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = written(
        tmp_path,
        "data: x\nout: y\nmethod: byol\nbatch_size: 8\nbase-lr: 1e-2\nnesterov: false\nmilestones: [0.5, 0.75]\n"
        "ema-momentum: 0.5\nprojector: {hidden: none}\nprojector.depth: 3\nlocal-size: null\n",
    )
    parsed = parse(Pretrain, "pretrain", ["--config", file, "--epochs", "3", "--milestones", "0.2", "--out=z"])
    assert (parsed.data, parsed.out, parsed.method) == ("x", "z", "byol")
    assert parsed.training == config.Training(batch_size=8, base_lr=0.01, nesterov=False, milestones=(0.2,), epochs=3)
    assert parsed.settings.ema_momentum == 0.5
    assert (parsed.settings.projector.hidden, parsed.settings.projector.depth) == ("none", 3)
    preset = written(tmp_path, "preset: quick\ndata: x\nprobe:\n  folds: 3\nmethods: [sl, byol]\n")
    parsed = parse(Study, "study", [f"--config={preset}", "--out", "y", "--seeds", "2"])
    assert (parsed.study.rates, parsed.study.seeds, parsed.study.probe.folds) == ((0.1,), 2, 3)
    assert parsed.study.methods == ("sl", "byol")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 3\nepoch: 4\n", ["line 2", "no setting epoch", "did you mean epochs"]),
        ("probe:\n  folds: 3\n", ["line 2", "no setting probe.folds"]),
        ("data: x\nepochs: ten\n", ["line 2", "--epochs must be a whole number, found 'ten'"]),
        ("nesterov: 3\n", ["line 1", "--nesterov must be True or False"]),
        ("epochs: null\nbatch-size: [1, 2]\n", ["line 2", "--batch-size"]),
        ("epochs: 3\nepochs: 4\n", ["line 2", "a second time"]),
        ("command: study\nepochs: 4\n", ["line 1", "of slmlp study, not of slmlp pretrain"]),
        ("- epochs\n", ["line 1", "expected settings"]),
        ("epochs: [3\n", ["line 2", "no YAML"]),
        ("milestones: [[0.5]]\n", ["line 1", "a value or a list"]),
        ("? [a]\n: 3\n", ["line 1", "the name of a setting"]),
        ("out: !!python/object/apply:os.system [echo]\n", ["my.yaml"]),
        ("a: &a [1]\nb: *a\n", ["no setting a"]),
        ("\x07: 3\n", ["no YAML"]),
    ],
)
def test_a_file_that_is_wrong_is_one_line_with_its_place(tmp_path, text, said, capsys):
    assert main(["pretrain", "emoji", "--out", str(tmp_path / "o"), "--config", written(tmp_path, text)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(part in line for part in (*said, "my.yaml"))


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["split", "emoji", "--config", str(tmp_path / "no.yaml"), "--out", "x"]) == 2
    assert "no.yaml: No such file" in capsys.readouterr().err
    (tmp_path / "no.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["split", "emoji", "--config", str(tmp_path / "no.yaml"), "--out", "x"]) == 2
    assert main(["split", "emoji", "--out", "x", "--config"]) == 2
    assert "--config needs a file" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_every_command_is_taken_from_a_file(command, tmp_path):
    """What a command is by default, written as a file, is the same command."""
    import importlib

    module, name, _ = COMMANDS[command]
    kind = getattr(importlib.import_module(f"slmlp.cli.{module}"), name)
    base = kind.defaults([]) if hasattr(kind, "defaults") else kind
    needed = {
        option.field: ("x",)
        if "tuple" in str(option.hint)
        else {"action": "list", "shell": "bash"}.get(option.field, "x")
        for option in options(base) if option.default is dataclasses.MISSING
    }  # fmt: skip
    if "to" in needed:
        needed["to"] = "onnx"
    before = dataclasses.replace(base, **needed) if not isinstance(base, type) else base(**needed)
    command_file.write(tmp_path, command, {}, before)
    after = parse(kind, command, ["--config", str(tmp_path / command_file.NAME)])
    if hasattr(after, "given"):
        after = dataclasses.replace(after, given={})
    assert after == before


@pytest.mark.parametrize("method", config.METHODS)
@pytest.mark.parametrize(
    "given", [[], ["--projector.depth", "0"], ["--projector.depth", "2", "--projector.hidden", "9"]]
)
def test_the_settings_of_every_method_are_taken_from_a_file(method, given, tmp_path):
    before = parse(Pretrain, "pretrain", ["x", "--out", "y", "--method", method, *given])
    command_file.write(tmp_path, "pretrain", {}, before)
    after = parse(Pretrain, "pretrain", ["--config", str(tmp_path / command_file.NAME)])
    assert dataclasses.replace(after, given={}) == dataclasses.replace(before, given={})


@pytest.mark.slow
def test_a_run_is_made_again_by_its_file(shapes, tmp_path, monkeypatch):
    assert main(["split", str(shapes), "--by", "random", "--out", str(tmp_path / "s.json")]) == 0
    words = "--method simclr --temperature 0.3 --projector.out 32 --epochs 1 --augment weak --seed 3 --split s.json"
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", str(shapes), *words.split(), "--image-size", "16", "--out", "first"]) == 0
    content = yaml.safe_load((tmp_path / "first" / "command.yaml").read_text())
    assert content["command"] == "pretrain"
    assert content["encoder"] == "resnet10"  # what was chosen
    assert content["projector"]["out"] == 32
    assert "out" not in content
    monkeypatch.chdir("/")
    assert main(["pretrain", "--config", str(tmp_path / "first/command.yaml"), "--out", str(tmp_path / "other")]) == 0
    first, other = (tmp_path / name for name in ("first", "other"))
    for file in ("encoder.safetensors", "projector.safetensors"):
        assert (first / file).read_bytes() == (other / file).read_bytes()
    assert Run(first).config["identity"] == Run(other).config["identity"]
    same = yaml.safe_load((other / "command.yaml").read_text())
    assert same | {"split": None} == content | {"split": None}


@pytest.mark.slow
def test_a_study_is_made_again_by_its_file(shapes, tmp_path):
    few = "--seeds 1 --rates 0.2 --encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment weak"
    words = ["--methods", "sl,named=sl-mlp:projector.out=32", "--split.by", "random", "--split.unseen-fraction", "0.5"]
    probe = ["--probe.folds", "2", "--probe.l2", "0.1", "1", "--curve-seeds", "0", "--parallel", "1"]
    assert main(["study", str(shapes), *few.split(), *words, *probe, "--out", str(tmp_path / "first")]) == 0
    file = str(tmp_path / "first" / "command.yaml")
    assert main(["study", "--config", file, "--out", str(tmp_path / "other")]) == 0
    first, other = (records.read(tmp_path / name / "results.jsonl") for name in ("first", "other"))
    assert [(row.key(), row.value) for row in first] == [(row.key(), row.value) for row in other]
    for run in (tmp_path / "first" / "runs").iterdir():
        weights = [tmp_path / name / "runs" / run.name / "encoder.safetensors" for name in ("first", "other")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        assert (run / "command.yaml").exists()
    file = str(tmp_path / "first" / "runs" / "sl-seed0" / "command.yaml")  # with the rate that the study took
    assert main(["pretrain", "--config", file, "--out", str(tmp_path / "alone")]) == 0
    alone, inside = Run(tmp_path / "alone"), Run(tmp_path / "first" / "runs" / "sl-seed0")
    assert alone.config["identity"] == inside.config["identity"]
    assert (alone.path / "encoder.safetensors").read_bytes() == (inside.path / "encoder.safetensors").read_bytes()
    owners = [json.loads((tmp_path / name / "owner.json").read_text()) for name in ("first", "other")]
    assert owners[0]["settings"] == owners[1]["settings"]


def test_numbers_are_written_so_that_they_are_read_again(tmp_path):
    command_file.write(
        tmp_path, "pretrain", {"base_lr": 1e-05, "seed": 3, "data": "1e3", "out": "no", "recipe": "null"}
    )
    found = {entry.name: entry.words for entry in command_file.read(tmp_path / "command.yaml", "pretrain")}
    assert found == {
        "base-lr": ("1e-05",), "seed": ("3",), "data": ("1e3",), "out": ("no",), "recipe": ("null",),
    }  # fmt: skip
    with pytest.raises(SlmlpError, match="of slmlp pretrain"):
        command_file.read(tmp_path / "command.yaml", "study")
