"""Encoders as the user names them: whose seeds they are, what they are called, and names that clash."""

from __future__ import annotations

import shutil

import pytest

from slmlp import config
from slmlp.experiments.contenders import contenders
from slmlp.experiments.suite.untrained import untrained
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from suite_runs import trained


@pytest.fixture(scope="module")
def runs(shapes, once):
    return trained(shapes, once)


@pytest.mark.slow
def test_runs_of_a_study_bear_the_names_of_its_contenders(runs, tmp_path):
    names = ["sl:seeds=2", "sl-mlp", "sl:cosine=true", "sl:training.epochs=9"]
    made = {"sl_seeds=2-seed1": names[0], "sl_cosine=true-seed1": names[2], "sl_training.epochs=9-seed1": names[3]}
    for folder in [*made, "sl-seed1", "sl_cosine=true-seed1x"]:
        shutil.copytree(runs[1], tmp_path / "runs" / folder)
    json_files.write(tmp_path / "study.json", {"contenders": names})
    found = contenders([str(tmp_path / "runs" / folder) for folder in made])
    assert [(one.name, one.run, one.seed) for one in found] == [(made[run], run, 1) for run in made]
    for folder in ("sl-seed1", "sl_cosine=true-seed1x"):  # beside them, and not the study's
        [other] = contenders([str(tmp_path / "runs" / folder)])
        assert (other.name, other.run) == ("sl", folder)
    [named] = contenders([f"mine={tmp_path / 'runs' / 'sl_cosine=true-seed1'}"])
    assert (named.name, named.run) == ("mine", "mine-seed1")
    (tmp_path / "study.json").write_text('{"contenders": ["nothing"]}')
    [alone] = contenders([str(tmp_path / "runs" / "sl_cosine=true-seed1")])
    assert alone.name == "sl"


@pytest.mark.slow
def test_two_runs_in_folders_of_one_name_never_share_their_predictions(runs, tmp_path):
    """Their predictions' files would bear one name: the second would overwrite the first, and pair with itself."""
    for method, run in (("a", runs[0]), ("b", runs[2])):
        shutil.copytree(run, tmp_path / method / "run")
    with pytest.raises(SlmlpError, match="are both called run: give them names of their own"):
        contenders([str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")])
    named = contenders([f"first={tmp_path / 'a' / 'run'}", f"second={tmp_path / 'b' / 'run'}"])
    assert [one.run for one in named] == ["first-seed0", "second-seed0"]


def test_a_file_of_weights_is_called_by_its_own_name_and_not_by_its_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.safetensors").touch()
    words = [f"timm:test_resnet@{tmp_path / folder / 'w.safetensors'}" for folder in ("a", "b")]
    [one] = contenders(words[:1])
    assert (one.name, one.run, one.source) == (*["timm:test_resnet@w.safetensors"] * 2, words[0])
    with pytest.raises(SlmlpError, match=r"are both timm:test_resnet@w.safetensors with seed 0: give them names"):
        contenders(words)


def test_untrained_networks_are_rows_one_a_network(runs):
    found = contenders([*runs, "timm:test_resnet@random", "again=timm:test_resnet@random"])
    rows = untrained(found, config.PreprocessFlags())
    assert [row.name for row in rows] == ["random-init:resnet10", "random-init:test_resnet"]
    assert [row.name for row in untrained(found[:2], config.PreprocessFlags())] == ["random-init"]
    [first] = untrained(found[:1], config.PreprocessFlags())
    assert first.open(config.PreprocessFlags()).hash() != found[0].open(config.PreprocessFlags()).hash()
