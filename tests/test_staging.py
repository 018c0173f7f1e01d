"""Files that appear together: what is left when the hidden folder, or what was placed, is removed meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmlp import api
from slmlp.experiments import features
from slmlp.runtime import files, staging
from slmlp.runtime.errors import SlmlpError


def test_placed_files_that_are_removed_meanwhile_are_an_error(tmp_path, monkeypatch):
    out, real = tmp_path / "main.npz", os.link

    def link(path, target):
        real(path, target)
        (tmp_path / "beside.json").unlink(missing_ok=True)

    monkeypatch.setattr(os, "link", link)

    def write():
        with staging.staged(out) as stage:
            for name in ("beside.json", out.name):
                (stage / name).write_text(name)
            staging.place([stage / "beside.json", stage / out.name], tmp_path)

    with pytest.raises(SlmlpError, match=f"cannot write {out}"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_features_without_the_summary_of_their_data_are_not_placed(tmp_path, monkeypatch):
    """Who removes the hidden folder's files before the features are saved into it takes the summary with them."""
    out, real = tmp_path / "f.npz", features.data.announce

    def announce(images, folder, prefix=""):
        written = real(images, folder, prefix)
        for file in written:
            file.unlink()
        return written

    monkeypatch.setattr(features.data, "announce", announce)
    with pytest.raises(SlmlpError, match=f"cannot write {out}"):
        api.features("timm:test_resnet@random", "emoji", out=out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "free space"), (errno.EACCES, "make it writable")])
def test_an_error_without_a_file_gets_one_and_what_to_do(tmp_path, number, remedy):
    with pytest.raises(SlmlpError, match=f"cannot write {tmp_path}.*; {remedy} or") as caught, files.writing(tmp_path):
        raise OSError(number, "refused")
    assert "\n" not in str(caught.value)


FULL = """
import pathlib, resource, sys
from slmlp.runtime.errors import SlmlpError
from slmlp.train.log import TrainingLog
path = pathlib.Path(sys.argv[1])
if sys.argv[2] == "later":
    log = TrainingLog(path, 0, 1, 4)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    if sys.argv[2] == "at once":
        log = TrainingLog(path, 0, 1, 4)
    for step in range(1, 9):
        log.add({"step": step, "epoch": 0, "loss": 1.0, "seconds": 0.1})
except SlmlpError as error:
    print(error)
if sys.argv[2] == "later":
    try:
        log.close()
    except SlmlpError as error:
        print(error)
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_training_log_on_a_full_disk_is_one_line_that_names_it(tmp_path, when):
    """TensorBoard writes from a thread of its own, whose error has no file and whose traceback would be printed."""
    (tmp_path / "run").mkdir()
    words = [sys.executable, "-c", FULL, str(tmp_path / "run" / "metrics.jsonl"), when]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stdout.splitlines()
    assert lines
    assert all(f"cannot write {tmp_path / 'run'}" in line for line in lines)
    assert "Traceback" not in done.stderr


def test_a_folder_on_a_full_disk_is_one_line_that_names_it(tmp_path):
    code = (
        "import pathlib, resource, sys\n"
        "from slmlp.runtime import folders\n"
        "from slmlp.runtime.errors import SlmlpError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n"
        "    with folders.locked(pathlib.Path(sys.argv[1]), 'run'): print('written')\n"
        "except SlmlpError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'run'}")
    assert done.stderr == ""


def test_a_folder_of_somebody_else_is_one_line_and_stays_as_it_is(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from slmlp.runtime import folders\n"
        "from slmlp.runtime.errors import SlmlpError\n"
        "if os.getuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)  # permissions do not stop root\n"
        "try:\n"
        "    with folders.locked(pathlib.Path(sys.argv[1]), 'run'): print('written')\n"
        "except SlmlpError as error: print(error)\n"
    )
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    for target in (tmp_path, tmp_path / "new"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(target)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout.startswith(f"cannot write {target}: Permission denied; make it writable or choose another")
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("out", [".", "/", "{}", "{}/missing/.."])
@pytest.mark.parametrize("command", ["features", "split", "export"])
def test_a_folder_in_place_of_a_new_file_is_told(tmp_path, monkeypatch, out, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "missing").mkdir()
    out = Path(out.format(tmp_path))
    with pytest.raises(SlmlpError, match=r"--out .* is a folder that exists: .* writes a new file, as --out .*NAME"):
        {"features": lambda: api.features("timm:test_resnet@random", "emoji", out=out),
         "split": lambda: api.split("emoji", out),
         "export": lambda: api.export("timm:test_resnet@random", "onnx", out)}[command]()  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["missing"]


def test_a_file_in_place_of_a_folder_and_another_ending_are_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SlmlpError, match=r"a file is where a folder must be.*choose another --out"):
        api.evaluate("timm:test_resnet@random", "emoji", task="centroid", out=tmp_path / "file")
    with pytest.raises(SlmlpError, match=r"features writes a file that ends in \.npz"):
        api.features("timm:test_resnet@random", "emoji", out=tmp_path / "f")
    with pytest.raises(SlmlpError, match="file is not overwritten"):
        api.split("emoji", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
