"""Methods and tasks of the user's own file: what is refused, what a command holds on to, what a run keeps."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dist_launch import ended, started
from slmlp import api, config
from slmlp.cli import main
from slmlp.cli.pretraining import Pretrain
from slmlp.config import plugins as by_name
from slmlp.experiments.study.specs import parse, parse_all
from slmlp.runtime import files, plugins
from slmlp.runtime.errors import SlmlpError
from slmlp.train.job import Job
from slmlp.train.run import Run

DOCS = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
METHOD, TASK = (
    next(
        block
        for block in re.findall(r"```python\n(.*?)```", DOCS, re.S)
        if f"class {name}:" in block or f"class {name}(" in block
    )
    for name in ("Barlow", "Discriminant")
)
TINY = config.Training(encoder="resnet10", image_size=16, batch_size=24, epochs=1, augment="weak")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the two files of the guide, which is the current one."""
    plugins.forget()
    monkeypatch.chdir(tmp_path)
    Path("my_method.py").write_text(METHOD)
    Path("my_task.py").write_text(TASK)
    return tmp_path


HEAD = """from dataclasses import dataclass
from slmlp.config import MethodConfig
from slmlp.methods.base import Method
"""
BODY = "    def forward(self, views, labels): ...\n"
BAD = {
    "missing file": (None, "Mine", "no file"),
    "no class named": (f"{HEAD}class Other(Method):\n{BODY}", "", "give bad.py:Other"),
    "class missing": (f"{HEAD}class Other(Method):\n{BODY}", "Mine", "Other"),
    "no class at all": ("x = 1\n", "Mine", "defines no class"),
    "syntax": ("x = 1\ny = (\n", "Mine", "line 2: SyntaxError"),
    "import": ("x = 1\n\nimport nowhere_at_all\n", "Mine", "line 3: ModuleNotFoundError"),
    "raises": ('def f():\n    return 1 / 0\n\n\nf()\n', "Mine", "line 2: ZeroDivisionError"),
    "exits": ("import sys\nsys.exit('bye')\n", "Mine", "line 2: SystemExit: bye"),
    "acts on the terminal": ("raise ValueError('\x1b[2Jgone')\n", "Mine", "line 1: ValueError: gone"),
    "no method": ("class Mine: pass\n", "Mine", "no method"),
    "forward missing": (f"{HEAD}class Mine(Method): pass\n", "Mine", "forward"),
    "settings no dataclass": (f"{HEAD}class Mine(Method):\n    settings = {{'a': 1}}\n{BODY}", "Mine", "dict"),
    "settings a class": (f"{HEAD}class Mine(Method):\n    settings = MethodConfig\n{BODY}", "Mine", "an instance"),
    "decorator forgotten": (
        f"{HEAD}class S(MethodConfig):\n    a: int = 1\nclass Mine(Method):\n    settings = S()\n{BODY}",
        "Mine", "@dataclass"
    ),
    "type of a setting": (
        f"{HEAD}@dataclass(frozen=True)\nclass S(MethodConfig):\n    a: dict = None\n"
        f"class Mine(Method):\n    settings = S()\n{BODY}", "Mine", "setting a is of type"
    ),
    "name of a flag": (
        f"{HEAD}@dataclass(frozen=True)\nclass S(MethodConfig):\n    epochs: int = 3\n"
        f"class Mine(Method):\n    settings = S()\n{BODY}", "Mine", "setting epochs"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_method_is_one_line_before_anything_is_written(case, folder, capsys):
    text, name, found = BAD[case]
    if text is not None:
        Path("bad.py").write_text(text)
    words = f"bad.py:{name}" if name else "bad.py"
    for command in (["pretrain", "emoji", "--method", words], ["study", "emoji", "--methods", f"sl,mine={words}"]):
        assert main([*command, "--out", "out"]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("starting")]
        assert re.search(found, line), line
        assert "\x1b" not in line
    assert not Path("out").exists()


def test_debug_shows_where_a_file_fails(folder, capsys):
    Path("bad.py").write_text("def f():\n    return 1 / 0\n\n\nf()\n")
    assert main(["pretrain", "emoji", "--method", "bad.py:Mine", "--out", "out", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "return 1 / 0" in shown


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bad.py:Mine", "no task"),
        ("my_task.py:Settings", "no task"),
        ("my_task.py:Nothing", "Discriminant"),
        ("my_task.py:Discriminant:shrink=1", "shrinkage"),
        ("my_task.py:Discriminant:shrinkage=much", "shrinkage"),
        ("unseen-knn:neighbours=3", "flags"),
        ("nothing", "FILE.py:CLASS"),
    ],
)
def test_a_bad_task_is_one_line(words, found, folder, capsys):
    Path("bad.py").write_text("class Mine:\n    task = 'mine'\n    def run(inputs): ...\n")
    for command in (
        ["evaluate", "nothing", "emoji", "--task", words],
        ["suite", "nothing", "emoji", "--tasks", words, "--out", "out"],
        ["study", "emoji", "--tasks", words, "--out", "out"],
    ):
        assert main(command) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("starting")]
        assert found in line, line
    assert not Path("out").exists()


def test_names_and_settings_of_a_file(folder):
    Path("sub").mkdir()
    Path("sub/my_method.py").write_text(METHOD)
    spec = parse("sub/my_method.py:Barlow:off_diagonal=0.5:projector.out=64:training.epochs=3:seeds=1")
    assert spec.name == "my_method.py:Barlow:off_diagonal=0.5:projector.out=64:training.epochs=3:seeds=1"
    assert (spec.settings.off_diagonal, spec.settings.projector.out, spec.training) == (0.5, 64, {"epochs": 3})
    assert parse(spec.text) == spec
    assert parse("x=sub/my_method.py:Barlow").name == "x"
    with pytest.raises(SlmlpError, match="off_diagonal"):
        parse("my_method.py:Barlow:off_diagonal=much")
    with pytest.raises(SlmlpError, match="more than once"):
        parse_all(("my_method.py:Barlow", "sub/my_method.py:Barlow"))
    Path("other.py").write_text(METHOD)
    with pytest.raises(SlmlpError, match="both shown as Barlow"):
        parse_all(("my_method.py:Barlow", "other.py:Barlow"))


def test_flags_of_pretrain_are_no_names_of_settings():
    own = {field.name for field in dataclasses.fields(Pretrain)} - {"training", "settings", "options", "given"}
    assert own <= by_name.FLAGS


def test_a_command_holds_the_text_that_it_read(folder):
    before = config.method_config("my_method.py:Barlow")
    Path("my_method.py").write_text(METHOD.replace("0.0051\n", "0.25\n"))
    assert config.method_config("my_method.py:Barlow") == before
    assert files.sha256(METHOD.encode()) == config.method_source("my_method.py:Barlow").sha256
    plugins.forget()  # the next command
    assert config.method_config("my_method.py:Barlow").off_diagonal == 0.25


def test_an_edited_task_is_computed_again(folder):
    import numpy as np

    x, parts = np.random.default_rng(0).normal(size=(60, 4)).astype("float32"), np.repeat(["train", "test"], 30)
    np.savez("features.npz", x=x, y=np.arange(60) % 3, parts=parts)
    for text, lines in ((TASK, 2), (TASK, 2), (TASK + "\n# another\n", 4)):
        Path("my_task.py").write_text(text)
        rows = api.evaluate("features.npz", task="my_task.py:Discriminant:shrinkage=0.3", out="out")
        assert {(row.task, row.metric) for row in rows} == {
            ("my_task.py:Discriminant:shrinkage=0.3", metric) for metric in ("accuracy", "mean_class_accuracy")
        }
        assert len(Path("out/results.jsonl").read_text().splitlines()) == lines


@pytest.mark.slow
def test_a_run_keeps_its_text_and_its_encoder_needs_none(shapes, folder):
    run = api.pretrain(str(shapes), "run", method="my_method.py:Barlow", training=TINY, progress=False)
    saved = run.config["job"]
    assert saved["plugin"] == {"file": str(folder / "my_method.py"), "sha256": files.sha256(METHOD.encode())}
    assert (run.path / "plugin.py").read_text() == METHOD
    assert Job.from_json(saved, "run", to_train=True).hash() == run.config["identity"]["job"]
    Path("my_method.py").unlink()
    plugins.forget()
    assert [row.method for row in api.evaluate("run", str(shapes), task="knn")][:1] == ["my_method.py:Barlow"]
    assert Path(api.suite(["run"], "suite", sources=[str(shapes)], cfg=config.Suite(tasks=("knn",)))).exists()


@pytest.mark.slow
def test_a_stopped_run_resumes_with_the_same_text_only(shapes, folder):
    words = ["pretrain", str(shapes), "--method", "my_method.py:Barlow", "--epochs", "30", "--encoder", "resnet10"]
    words += ["--image-size", "16", "--batch-size", "24", "--augment", "weak", "--threads", "1", "--out", "run"]
    process = subprocess.Popen([sys.executable, "-m", "slmlp", *words], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "images/s" in line:
            process.send_signal(signal.SIGINT)
            break
    process.communicate()
    assert process.returncode == 130
    Path("my_method.py").write_text(METHOD + "\n# edited\n")
    with pytest.raises(SlmlpError) as refused:
        api.resume("run")
    for text in (METHOD, METHOD + "\n# edited\n"):
        assert files.sha256(text.encode())[:12] in str(refused.value)
    Path("elsewhere").mkdir()
    Path("elsewhere/my_method.py").write_text(METHOD)
    done = subprocess.run(
        [sys.executable, "-m", "slmlp", "pretrain", "--resume", "run", "--method", "elsewhere/my_method.py:Barlow"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "continues after step" in done.stderr
    assert Run(Path("run")).metrics()[-1]["step"] == 180


@pytest.mark.slow
def test_processes_that_share_a_run_find_the_file(shapes, folder):
    words = (
        f"-m slmlp pretrain {shapes} --method my_method.py:Barlow --encoder resnet10 --image-size 16 --batch-size 24"
    )
    group = ended(started(2, *words.split(), "--epochs", "1", "--out", "run"))
    assert [code for code, _, _ in group] == [0, 0], group
    assert json.loads(Path("run/config.json").read_text())["job"]["method"] == str(folder / "my_method.py:Barlow")
