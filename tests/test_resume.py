"""Going on with a run: the same command, moved data, free and decisive settings, two commands at once, leftovers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from slmlp import api, cli, config
from slmlp.encoders import Encoder
from slmlp.runtime import folders, json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train import checkpoint, record
from slmlp.train.run import Run

SMALL = config.Training(
    encoder="resnet10", image_size=16, batch_size=24, epochs=2, base_lr=0.2, augment="weak", threads=1
)
WORDS = "--encoder resnet10 --image-size 16 --batch-size 24 --base-lr 0.2 --augment weak --threads 1"


def command(*words: object) -> int:
    return cli.main(["pretrain", *(word for text in words for word in str(text).split())])


@pytest.fixture
def stopped(shapes, tmp_path):
    """A run that was stopped with its state saved; its images lie in tmp_path/images."""
    images = shutil.copytree(shapes, tmp_path / "images")
    words = ["pretrain", str(images), *WORDS.split(), "--epochs", "400", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-m", "slmlp", *words], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "images/s" in line:
            break
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == 130, text
    assert "the same command" in text.splitlines()[-1]
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_goes_on_with_moved_images_and_is_refused_with_others(stopped, shapes, tmp_path, capsys):
    images = tmp_path / "images"
    images.rename(tmp_path / "moved")
    assert command("--resume", stopped) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(images) in error
    assert f"DATA --resume {stopped}" in error
    next((tmp_path / "moved" / "train").rglob("*.png")).unlink()
    assert command(tmp_path / "moved", "--resume", stopped) == 2
    assert "trained on other images" in capsys.readouterr().err
    job = Run(stopped).config["job"]
    assert (job["data"], job["training"]["epochs"]) == (str(images), 400)


@pytest.mark.slow
def test_settings_that_decide_weights_are_refused_beside_resume(stopped, capsys):
    assert command("--resume", stopped, "--epochs 5 --base-lr 0.9 --projector.depth 2 --threads 1") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--base-lr, --epochs, --projector.depth cannot be changed" in error
    assert command("--resume", stopped, "--method sl") == 2
    assert "--method cannot be changed" in capsys.readouterr().err.splitlines()[-1]


def test_the_same_request_on_a_finished_run_changes_nothing(shapes, tmp_path):
    run = api.pretrain(str(shapes), tmp_path / "run", training=SMALL, progress=False)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != folders.MARK}
    api.pretrain(str(shapes), tmp_path / "run", training=SMALL, progress=False)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_of_two_commands_on_one_folder_the_second_is_refused(stopped, tmp_path):
    words = [sys.executable, "-m", "slmlp", "pretrain", str(tmp_path / "images"), "--resume", str(stopped)]
    first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    for line in first.stderr:
        if "images/s" in line:
            break
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].startswith(
        f"slmlp: {stopped} is in use by another command (process {first.pid} on "
    )
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)  # the lock ended with its process
    for line in third.stderr:
        if "images/s" in line:
            break
    third.send_signal(signal.SIGINT)
    third.communicate(timeout=60)
    assert third.returncode == 130


def test_what_a_killed_start_left_is_no_obstacle(shapes, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in (folders.MARK, ".config.json.77.0a1b2c3d.tmp", "split.json"):
        (out / name).write_text("{")
    assert api.pretrain(str(shapes), out, training=SMALL, progress=False).finished


@pytest.mark.parametrize("at", [0, 1, 2])
def test_folders_of_others_are_refused_and_left_as_they_are(tmp_path, at):
    out = tmp_path / "mine"
    out.mkdir()
    (out / ["a.txt", ".hidden", "split.json"][at]).write_text("mine")
    with pytest.raises(SlmlpError, match="not empty and holds no run"), folders.locked(out, "run", "config.json"):
        pass
    assert len(list(out.iterdir())) == 1


def test_a_folder_in_which_nothing_was_written_is_taken_away(tmp_path):
    with pytest.raises(SlmlpError, match="bad data"), folders.locked(tmp_path / "new", "study"):
        raise SlmlpError("bad data")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_meanwhile_hides_no_error(tmp_path):
    def removed() -> None:
        with folders.locked(tmp_path / "new", "study"):
            shutil.rmtree(tmp_path / "new")
            raise SlmlpError("the real one")

    with pytest.raises(SlmlpError, match="the real one"):
        removed()


@pytest.mark.slow
def test_a_study_in_use_is_refused(shapes, tmp_path):
    words = ["study", str(shapes), *WORDS.replace("--base-lr 0.2", "--rates 0.2").split(), "--epochs", "400", "--out"]
    words = [sys.executable, "-m", "slmlp", *words, str(tmp_path / "study"), "--parallel", "1", "--split.by", "random"]
    first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "study" / folders.MARK).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert f"{tmp_path / 'study'} is in use by another command" in second.stderr.splitlines()[-1]


@pytest.mark.slow
def test_files_of_another_run_are_refused(shapes, tmp_path):
    for name, seed in (("run", 0), ("other", 5)):
        assert command(shapes, WORDS, f"--epochs 1 --seed {seed} --out {tmp_path / name}") == 0
    assert Encoder.load(tmp_path / "run").dim
    shutil.copy(tmp_path / "other" / "encoder.safetensors", tmp_path / "run")
    with pytest.raises(SlmlpError, match=r"encoder.safetensors is of another run than .*\(sl-mlp, seed 5, or other"):
        Encoder.load(tmp_path / "run")
    assert Encoder.load(tmp_path / "run" / "encoder.safetensors").dim  # the file alone claims nothing


def test_checkpoints_of_another_run_are_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 3, {"job": "theirs"})
    json_files.write(tmp_path / "config.json", {"identity": {"job": "mine"}})
    with pytest.raises(SlmlpError, match=r"checkpoints holds the checkpoints of another run than .*config\.json"):
        record.resume(None, tmp_path)
