"""The first command works on any folder: settings that nobody gave adapt, a folder is taken over or told apart."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from slmlp import api, cli, config
from slmlp.config.adapt import Situation, adapt, as_before
from slmlp.runtime import json_files
from slmlp.runtime.errors import SlmlpError
from slmlp.train.run import KEPT_MINUTES, Run

SMALL = "--encoder resnet10 --image-size 16 --augment weak --epochs 1"


def here(*words: object) -> int:
    return cli.main([w for word in words for w in str(word).split(" ")])


@pytest.mark.parametrize(
    ("images", "gpu", "expected"),
    [
        (1_281_167, True, ("resnet50", 100, None, 256)),  # what was the default for all
        (19_999, True, ("resnet18", 100, None, 256)),
        (2_559, True, ("resnet18", 100, None, 128)),  # 256 would be 9 steps per epoch
        (1_281_167, False, ("resnet10", 100, 96, 256)),
        (320, False, ("resnet10", 100, 96, 32)),
        (114, False, ("resnet10", 334, 96, 32)),  # 3 steps per epoch: 334 of them are the first above 1,000 steps
        (40, False, ("resnet10", 500, 96, 16)),
        (3, False, ("resnet10", 1000, 96, 2)),
    ],
)
def test_fewer_images_get_smaller_batches_more_epochs_and_a_smaller_network(images, gpu, expected):
    chosen, why = adapt(config.Training(), Situation(images, side=224, gpu=gpu))
    assert (chosen.encoder, chosen.epochs, chosen.image_size, chosen.batch_size) == expected
    assert chosen.batch <= images
    assert images // chosen.batch * chosen.passes >= 1000
    assert list(why) == ["encoder", "image size", "batch size", "epochs"]


def test_what_is_given_is_never_changed():
    given = config.StudyTraining(encoder="resnet50", epochs=2, image_size=224, batch_size=256, save_every=1)
    chosen, why = adapt(given, Situation(images=30, side=224, gpu=False))
    assert (chosen, why) == (given, {})
    chosen, _ = adapt(config.Training(encoder="resnet18"), Situation(images=30, side=224, gpu=False))
    assert (chosen.encoder, chosen.image_size) == ("resnet18", None)  # its size is the images'


def test_a_batch_is_shared_evenly_by_processes():
    for processes in (2, 3, 5):
        chosen, _ = adapt(config.Training(), Situation(images=500, side=32, gpu=False, processes=processes))
        assert chosen.batch % processes == 0


def test_curves_keep_their_ten_points_where_the_epochs_are_chosen():
    at = Situation(images=114, side=224, gpu=False)
    assert adapt(config.StudyTraining(), at)[0].save_every == 33
    assert adapt(config.StudyTraining(epochs=60), at)[0].save_every == 10  # as it was
    assert adapt(config.Training(), at)[0].save_every == 0


def test_what_a_folder_was_begun_with_comes_first():
    saved = {"encoder": "resnet50", "epochs": 7, "batch_size": 3, "image_size": None}
    kept = as_before(config.Training(epochs=9), saved)
    assert (kept.encoder, kept.epochs, kept.batch_size, kept.image_size) == ("resnet50", 9, 3, None)


@pytest.mark.slow
def test_a_run_without_settings_is_resumed_by_its_own_command(shapes, tmp_path, monkeypatch, capsys):
    few = "--augment weak --epochs 2 --image-size 16"
    assert here("pretrain", shapes, few, "--out", tmp_path / "run") == 0
    assert "chosen: encoder resnet10 (on a CPU), batch size 32 (144 training images)" in capsys.readouterr().err
    saved = Run(tmp_path / "run").config
    assert (saved["job"]["training"]["encoder"], saved["job"]["training"]["batch_size"]) == ("resnet10", 32)
    assert saved["resolved"]["chosen"].keys() == {"encoder", "batch size"}
    explicit = "--encoder resnet10 --batch-size 32"
    assert here("pretrain", shapes, few, explicit, "--out", tmp_path / "run") == 0  # one and the same run
    monkeypatch.setattr("slmlp.config.adapt.LEAN", "resnet18")  # as on a machine that chooses otherwise
    assert here("pretrain", shapes, few, "--out", tmp_path / "run") == 0
    assert here("pretrain", shapes, few, explicit, "--out", tmp_path / "same") == 0
    a, b = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in ("run", "same"))
    assert a == b


@pytest.mark.slow
def test_a_study_of_few_photos_says_what_it_chose(tmp_path, capsys):
    folder = os.environ.get("SLMLP_DATA")
    if not folder:
        pytest.skip("SLMLP_DATA is not set: no folder of photos")
    with tarfile.open(Path(folder) / "domains" / "flowers5.tar") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and "train" in m.name]
        for name in sorted({m.name.split("/")[-2] for m in members}):
            (tmp_path / "photos" / name).mkdir(parents=True)
            for member in [m for m in members if m.name.split("/")[-2] == name][:24]:
                content = tar.extractfile(member).read()
                (tmp_path / "photos" / name / Path(member.name).name).write_bytes(content)
    words = "--seeds 1 --parallel 1 --rates 0.1 --epochs 1 --augment weak --probe.folds 2 --probe.l2 1e-2"
    assert here("study", tmp_path / "photos", words, "--out", tmp_path / "study") == 0
    said = capsys.readouterr().err
    line = "chosen: encoder resnet10 (on a CPU), image size 96 (by the images), batch size 16 (51 training images)"
    assert line in said
    about = json_files.read(tmp_path / "study" / "study.json", dict)
    assert about["chosen"]["batch size"] == "16 (51 training images)"
    assert about["settings"]["training"]["batch_size"] == 16
    assert "--batch-size 16" in about["command"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch-size 73", "--batch-size 73 is more than the 66 training images"),
        ("--encoder resnet10x", "unknown encoder 'resnet10x'"),
        ("--methods sl,sl-mlp:training.batch_size=70", "sl-mlp:training.batch_size=70: --batch-size 70 is more"),
        ("--methods sl,swav:prototypes=100000:queue=70", "swav"),
        ("--methods moco-v2 --local-crops 2", "no local crops"),
        ("--augment moco-v3", "moco-v3"),
        ("--device cuda:9", "--device cuda:9"),
    ],
)
def test_what_a_run_would_stop_with_is_told_before_the_first_file(shapes, tmp_path, capsys, flags, message):
    words = "--image-size 16 --split.by random --split.unseen-fraction 0.5"
    assert here("study", shapes, words, flags, "--out", tmp_path / "study") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_run_is_refused_before_its_images_are_decoded(shapes, tmp_path):
    with pytest.raises(SlmlpError, match="--batch-size 500 is more than the 144"):
        api.pretrain(str(shapes), tmp_path / "run", training=config.Training(image_size=16, batch_size=500))
    assert not (tmp_path / "run").exists()


def study(shapes: Path, out: Path, *words: str) -> int:
    words = ("--batch-size 24 --seeds 1 --parallel 1 --rates 0.1 --split.by random --split.unseen-fraction 0.5", *words)
    return here("study", shapes, SMALL, *words, "--probe.folds 2 --probe.l2 1e-2 --save-every 0 --out", out)


@pytest.fixture(scope="module")
def finished(shapes, once) -> Path:
    def make(folder: Path) -> None:
        assert study(shapes, folder) == 0

    return once("first-command", make)


@pytest.mark.slow
def test_a_study_without_a_finished_run_is_taken_over(shapes, finished, tmp_path, capsys):
    begun = shutil.copytree(finished, tmp_path / "begun")
    for file in begun.glob("runs/*/encoder.safetensors"):
        file.unlink()
    assert study(shapes, begun, "--batch-size 16") == 0
    assert "begun there with other settings is removed" in capsys.readouterr().err
    assert json_files.read(begun / "owner.json", dict)["settings"]["training"]["batch_size"] == 16
    assert {r.config["job"]["training"]["batch_size"] for r in map(Run, begun.glob("runs/*"))} == {16}


@pytest.mark.slow
def test_minutes_of_training_are_no_nothing(shapes, finished, tmp_path, capsys):
    begun = shutil.copytree(finished, tmp_path / "begun")
    run = Run(begun / "runs" / "sl-seed0")
    for file in begun.glob("runs/*/encoder.safetensors"):
        file.unlink()
    (run.path / "checkpoints").mkdir(exist_ok=True)
    (run.path / "checkpoints" / "step-000000001.ckpt").touch()
    assert not run.worth_keeping
    slow = [row | {"images_per_second": row["step"] * 24 / (60 * KEPT_MINUTES + 1)} for row in run.metrics()[:1]]
    (run.path / "metrics.jsonl").write_text("".join(json_files.line(row) for row in slow))
    assert run.worth_keeping
    before = sorted(begun.rglob("*"))
    assert study(shapes, begun, "--batch-size 16") == 2
    said = capsys.readouterr().err
    assert "--batch-size is 24 there, 16 here" in said
    assert "--overwrite" in said
    assert sorted(begun.rglob("*")) == before


@pytest.mark.slow
def test_overwrite_removes_only_what_a_study_wrote(shapes, finished, tmp_path, capsys):
    done = shutil.copytree(finished, tmp_path / "done")
    theirs = done / "runs" / "sl-seed0" / "notes.txt"
    theirs.write_text("mine")
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file() and path.name != ".slmlp"}
    assert study(shapes, done, "--batch-size 16", "--overwrite") == 2
    assert "holds runs/sl-seed0/notes.txt, which no study of slmlp wrote" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file() and path.name != ".slmlp"} == before
    theirs.unlink()
    del before[theirs]
    (done / "linked").symlink_to(tmp_path)
    assert study(shapes, done, "--batch-size 16", "--overwrite") == 2
    (done / "linked").unlink()
    assert study(shapes, done, "--batch-size 73", "--overwrite") == 2  # checked before anything is removed
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file() and path.name != ".slmlp"} == before
    assert study(shapes, done, "--batch-size 16", "--overwrite") == 0
    assert {r.config["job"]["training"]["batch_size"] for r in map(Run, done.glob("runs/*"))} == {16}


@pytest.mark.slow
def test_other_images_in_a_finished_study_are_named(shapes, finished, tmp_path, capsys):
    done = shutil.copytree(finished, tmp_path / "done")
    fewer = shutil.copytree(shapes, tmp_path / "fewer")
    next((fewer / "train" / "ring").iterdir()).unlink()
    assert study(fewer, done) == 2
    assert "its images are others" in capsys.readouterr().err


@pytest.mark.slow
def test_another_run_is_told_apart_and_overwritten_on_request(shapes, tmp_path, capsys):
    out = tmp_path / "run"
    assert here("pretrain", shapes, SMALL, "--batch-size 24 --out", out) == 0
    assert here("pretrain", shapes, SMALL, "--batch-size 16 --method sl --out", out) == 2
    said = capsys.readouterr().err
    assert "--method is sl-mlp there, sl here" in said
    assert "--batch-size is 24 there, 16 here" in said
    (out / "mine.txt").touch()
    assert here("pretrain", shapes, SMALL, "--batch-size 16 --out", out, "--overwrite") == 2
    (out / "mine.txt").unlink()
    assert here("pretrain", shapes, SMALL, "--batch-size 16 --out", out, "--overwrite") == 0
    assert Run(out).config["job"]["training"]["batch_size"] == 16
    (out / "encoder.safetensors").unlink()  # nothing worth keeping: a corrected command takes the folder
    assert here("pretrain", shapes, SMALL, "--batch-size 18 --out", out) == 0
    assert Run(out).config["job"]["training"]["batch_size"] == 18
