"""The examples of docs/extending.md run as they stand: files, commands, and a package that pip installs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slmlp.cli import main
from slmlp.results import records

pytestmark = pytest.mark.slow

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = [line for block in re.findall(r"```\n(slmlp.*?)```", TEXT, re.S) for line in block.splitlines()]
STUDY = "--tasks my_task.py:Discriminant --layer-seeds 0 --curve-seeds 0 --probe.l2 1e-3 1e-1"


def slmlp(folder: Path, words: str, *path: str) -> str:
    """Run a command in a folder, which must succeed; return what it printed."""
    places = [*path, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(words)], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(once):
    """A folder with the files of the guide."""

    def make(path: Path) -> None:
        method, test, task = PYTHON
        (path / "my_method.py").write_text(method)
        (path / "test_my_method.py").write_text(test)
        (path / "my_task.py").write_text(task)

    return once("extending", make)


def test_every_command_runs_in_order(folder, monkeypatch):
    assert len(COMMANDS) == 6
    monkeypatch.chdir(folder)
    for command in COMMANDS:  # the study with another task, as the page says, and without what is not its subject here
        assert main([*command.split()[1:], *STUDY.split() * (" study " in command)]) == 0
    study = json.loads((folder / "barlow-study" / "study.json").read_text())
    assert study["methods"] == ["sl", "strong"]
    rows = records.read(folder / "barlow-study" / "results.jsonl")
    of_task = {row.method for row in rows if row.task == "my_task.py:Discriminant" and row.role == "final"}
    assert of_task == {"sl", "strong"}  # its runs were trained in processes of their own
    assert "Discriminant" in (folder / "barlow-study" / "report.html").read_text()
    assert "my_task.py" in (folder / "my-suite" / "suite.json").read_text()


def test_the_test_of_the_guide_passes(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    found: dict[str, object] = {}
    exec((folder / "test_my_method.py").read_text(), found)
    found["test_barlow_twins_is_its_sum"]()


def test_a_package_that_pip_installs_offers_its_names(folder, tmp_path, monkeypatch, capsys):
    (project,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    source, target = tmp_path / "source", str(tmp_path / "target")
    (source / "slmlp_barlow").mkdir(parents=True)
    (source / "pyproject.toml").write_text(project)
    (source / "slmlp_barlow" / "__init__.py").touch()
    for name in ("my_method.py", "my_task.py"):
        (source / "slmlp_barlow" / name).write_text((folder / name).read_text())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, str(source)], check=True, capture_output=True)

    listed = slmlp(tmp_path, "slmlp methods", target)
    assert "barlow-twins" in listed
    assert "slmlp-barlow 0.1.0" in listed
    small = "--encoder resnet10 --image-size 16 --batch-size 64 --images-per-class 12 --epochs 1"
    slmlp(tmp_path, f"slmlp pretrain emoji --method barlow-twins --off-diagonal 0.02 {small} --out run", target)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["job"]
    assert (saved["method"], saved["settings"]["off_diagonal"]) == ("barlow-twins", 0.02)
    assert saved["plugin"]["file"].startswith(target)
    slmlp(tmp_path, "slmlp evaluate run emoji --task discriminant", target)
    (_, row) = records.read(tmp_path / "run" / "evaluation" / "results.jsonl")[-2:]
    assert row.task == "discriminant"
    # a name of slmlp's own, and a module that is not there
    monkeypatch.syspath_prepend(target)
    monkeypatch.chdir(tmp_path)
    entries = next(Path(target).glob("*.dist-info/entry_points.txt"))
    before = entries.read_text()
    for name, text, found in (
        ("sl", before.replace("barlow-twins", "sl"), "slmlp's own"),
        ("barlow-twins", before.replace("slmlp_barlow.my_method", "slmlp_barlow.gone"), "cannot be imported"),
    ):
        entries.write_text(text)
        assert main(["pretrain", "emoji", "--method", name, "--out", "x"]) == 2
        said = capsys.readouterr().err
        assert found in said
        assert "slmlp-barlow 0.1.0" in said
