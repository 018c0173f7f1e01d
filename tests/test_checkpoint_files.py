"""Checkpoints as other people's training writes them: tables in tables, prefixes, heads, objects beside the weights."""

from __future__ import annotations

import argparse
import datetime
import fractions
import re
import shlex
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import timm
import torch
import torchvision

from encoder_words import refused
from slmlp import config
from slmlp.encoders.sources import open_encoder
from slmlp.runtime import seeds

SMALL = config.PreprocessFlags(size=32)
FIRST = "conv1.0.weight"


def drawn(seed, name="test_resnet", **keywords):
    """Return the state of one of timm's tiny networks with a classifier of seven classes."""
    with seeds.seeded(seed, "theirs"):
        return timm.create_model(name, num_classes=7, **keywords).state_dict()


def saved(file, content):
    torch.save(content, file)
    return file


def opened(file, name="test_resnet"):
    return open_encoder(f"timm:{name}@{file}", overrides=SMALL)


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "teacher", "swa_state_dict"])
def test_two_sets_of_weights_are_named_and_one_is_chosen(tmp_path, average, capsys):
    file, state = tmp_path / "w.pt", drawn(1)
    torch.save({"state_dict": state, average: {k: v + 1 for k, v in state.items()}, "epoch": 3}, file)
    refused(f"timm:test_resnet@{file}", ["2 sets of weights", f"{file}#state_dict", f"{file}#{average}"])
    for part, more in (("state_dict", 0), (average, 1)):
        assert torch.equal(opened(f"{file}#{part}").weights()[FIRST], state[FIRST] + more)
        assert repr(part) in capsys.readouterr().err
    refused(f"timm:test_resnet@{file}#student", ["'student'", "state_dict", average])
    torch.save({"state_dict": state, average: dict(state), "ema_decay": {"value": 0.9}}, file)  # the same twice
    assert torch.equal(opened(file).weights()[FIRST], state[FIRST])


BELOW = [[], ["state_dict"], ["teacher"], ["model", "state_dict"]]
PREFIXES = ["", "module.", "_orig_mod.", "backbone.", "module.encoder_q.", "module.model.backbone.", "model._orig_mod."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("below", BELOW, ids=".".join)
def test_weights_are_found_wherever_they_lie(tmp_path, below, prefix):
    state = drawn(1)
    content = {f"{prefix}{k}": v for k, v in state.items()}
    if prefix:  # what lies beside an encoder in a method's own checkpoint
        content |= {"queue": torch.zeros(4, 9), "head.0.weight": torch.zeros(7, 96), "temperature": torch.ones(())}
    for name in reversed(below):
        content = {name: content, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 4}
    weights = opened(saved(tmp_path / "w.pt", content)).weights()
    assert len(weights) == len(state) - 2
    assert all(torch.equal(value, state[key]) for key, value in weights.items())


def test_a_momentum_encoder_beside_the_encoder_is_a_choice(tmp_path, capsys):
    q, k = drawn(1), drawn(2)
    both = {f"module.encoder_q.{n}": v for n, v in q.items()} | {f"module.encoder_k.{n}": v for n, v in k.items()}
    file = saved(tmp_path / "moco.pth", {"state_dict": both | {"module.queue": torch.zeros(2)}, "arch": "x"})
    refused(f"timm:test_resnet@{file}", [f"{file}#encoder_q", f"{file}#encoder_k"])
    for part, state in (("encoder_q", q), ("encoder_k", k), ("state_dict.encoder_k", k)):
        assert torch.equal(opened(f"{file}#{part}").weights()[FIRST], state[FIRST])
    assert "beside them left out" in capsys.readouterr().err


def test_none_fits_and_the_nearest_is_told(tmp_path):
    state = {f"model.{k}": v for k, v in drawn(1).items()}
    weight = state.pop("model.layer4.0.conv1.weight")
    refused(f"timm:test_resnet@{saved(tmp_path / 'lack.pt', {'ema': state})}", "missing 1 (layer4.0.conv1.weight)")
    state |= {"model.layer4.0.conv1.weight": weight, "model.layer4.7.conv1.weight": weight}  # a deeper network
    refused(f"timm:test_resnet@{saved(tmp_path / 'deep.pt', state)}", "unexpected 1 (layer4.7.conv1.weight)")
    other = saved(tmp_path / "vit.pt", drawn(0, "test_vit"))
    refused(f"timm:test_resnet@{other}", ["missing", "unexpected", "nothing was loaded"])
    grey = saved(tmp_path / "grey.pt", drawn(0, in_chans=1))
    refused(f"timm:test_resnet@{grey}", ["images of 1 channels", "slmlp's have 3"])


def test_names_of_a_networks_authors_are_renamed_as_timm_does(tmp_path, capsys):
    """ConvNeXt under the names that its authors give; timm's network itself is the second form."""
    state = drawn(0, "test_convnext")
    model = timm.create_model("test_convnext", num_classes=7).eval()
    model.load_state_dict(state)
    theirs = {}
    for key, value in state.items():
        name = re.sub(r"stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", key)
        for ours, other in (("stem.", "downsample_layers.0."), (".blocks.", "."), ("conv_dw", "dwconv"),
                            ("mlp.fc", "pwconv"), ("head.norm", "norm"), ("head.fc", "head")):  # fmt: skip
            name = name.replace(ours, other)
        theirs[name] = value
    assert "downsample_layers.0.0.weight" in theirs
    encoder = opened(saved(tmp_path / "theirs.pt", {"model": theirs}), "test_convnext")
    assert "renamed as timm does" in capsys.readouterr().err
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), model.forward_head(model.forward_features(x), pre_logits=True))


HARMLESS = {
    "args": argparse.Namespace(lr=0.1, out=Path("runs/x"), windows=PureWindowsPath("c:/x")),
    "numbers": [np.float64(71.2), np.int64(3), np.bool_(True), np.arange(3.0), np.array(["a", None], dtype=object)],
    "tables": [OrderedDict(a=1), types.SimpleNamespace(a=frozenset([1]))],
    "torch": [torch.float16, torch.device("cpu"), torch.Size([1]), torch.__version__],
    "when": datetime.datetime(2026, 1, 2),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_beside_weights_are_read(tmp_path, name, zipped):
    file, state = tmp_path / "w.pt", drawn(1)
    torch.save({"state_dict": state, name: HARMLESS[name]}, file, _use_new_zipfile_serialization=zipped)
    assert torch.equal(opened(file).weights()[FIRST], state[FIRST])


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_other_objects_are_named_with_the_line_that_saves_a_clean_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": drawn(1), "x": Evil()}, "evil.pt")
    refused("timm:test_resnet@evil.pt", "slmlp runs none")
    assert not Path("executed").exists()
    torch.save({"state_dict": drawn(1), "cfg": fractions.Fraction(1, 2)}, "w.pt")
    torch.save(torchvision.models.resnet18(), "whole.pt")  # the network itself, not its state
    for file, source, found in (
        ("w.pt", "timm:test_resnet@", "fractions.Fraction"),
        ("whole.pt", "timm:resnet18@", "torch.nn.modules"),
    ):
        text = refused(f"{source}{file}", [found])
        line = text[text.index("python -c ") :]
        done = subprocess.run(shlex.split(line.replace("python", sys.executable, 1)), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert open_encoder(f"{source}{Path(file).stem}-clean.pt", overrides=SMALL).dim in (96, 512)


def test_torchvision_weights_are_found_as_well(tmp_path):
    with seeds.seeded(0, "net"):
        state = torchvision.models.resnet18().state_dict()
    both = {f"backbone.{k}": v for k, v in state.items()} | {f"backbone_momentum.{k}": v + 1 for k, v in state.items()}
    file = saved(tmp_path / "w.ckpt", {"state_dict": both, "epoch": 1})
    refused(f"torchvision:resnet18@{file}", [f"{file}#backbone,", f"{file}#backbone_momentum"])
    encoder = open_encoder(f"torchvision:resnet18@{file}#backbone", overrides=SMALL)
    assert torch.equal(encoder.weights()["conv1.weight"], state["conv1.weight"])
