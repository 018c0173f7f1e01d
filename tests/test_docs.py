"""The documentation's commands and examples run, at smoke size; its links and file names are there."""

from __future__ import annotations

import dataclasses
import doctest
import functools
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import slmlp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [m.name for m in pkgutil.walk_packages(slmlp.__path__, "slmlp.") if m.name != "slmlp.__main__"]


@pytest.mark.parametrize("name", ["slmlp", *MODULES])
def test_docstring_examples_run(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert outcome.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@functools.cache
def flags_of_all_commands() -> frozenset[str]:
    """The flags that ``--help-all`` shows, and those of other programs that the pages tell of."""
    from slmlp.cli import COMMANDS

    known = {
        "--help",
        "--version",
        "--debug",
        "--help-all",
        "--dist",
        "--rounds",
        "--threads",
        "--steps",
        "--batch-size",
        "--out",
    }
    # of torchrun, srun and sbatch, rsync, pip
    known |= {"--standalone", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id"}
    known |= {"--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--gpus", "--array", "--time"}
    known |= {
        "--requeue",
        "--signal",
        "--exclude",
        "--no-deps",
        "--target",
        "--wheel-dir",
        "--no-index",
        "--find-links",
    }
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\("(--[a-z-]+)"', script.read_text()))
    known |= {"--off-diagonal", "--logdir", "--backend-store-uri"}  # of a method in docs/extending.md, and of trackers
    known |= {"--epoch", "--config-file", "--num-gpus"}  # a mistyped flag; those of Detectron2
    for command in COMMANDS:
        shown = subprocess.run(
            [sys.executable, "-m", "slmlp", command, "--help-all"], capture_output=True, text=True, check=True
        )
        known |= set(re.findall(r"--[a-z][a-z0-9.-]+", shown.stdout))
    return frozenset(known)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_flags_and_commands_named_in_the_docs_exist(page):
    from slmlp.cli import COMMANDS

    text = page.read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", text))
    assert named - flags_of_all_commands() == set()
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        for command in re.findall(r"^slmlp ([a-z]+)", block, re.MULTILINE):
            assert command in COMMANDS


@pytest.mark.slow
def test_the_readmes_python_runs(shapes, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    smoke = 'encoder="resnet10", image_size=16, batch_size=24, epochs=1, save_every=0, augment="weak"'
    code = code.replace('"MY_IMAGES"', repr(str(shapes)))
    code = code.replace(
        "slmlp.Study(seeds=3)",
        f"slmlp.Study(seeds=1, rates=(0.1,), parallel=1, training=slmlp.Training({smoke}), "
        "split=__import__('slmlp.config').config.Split(by='random', unseen_fraction=0.5))",
    )
    code = code.replace('encoder="resnet18", epochs=50', 'encoder="resnet18", epochs=1, image_size=32')
    code = code.replace("epochs=1, image_size=32", "epochs=1, image_size=32, batch_size=48")
    pictures = sorted((shapes / "test" / "ring").glob("*.png"))[:2]
    code = code.replace('["a.jpg", "b.jpg"]', repr([str(p) for p in pictures]))
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(code, found)
    assert Path(found["page"]).name == "report.html"
    assert found["features"].shape == (2, 512)


@pytest.mark.slow
def test_the_demo_is_a_study_of_the_embedded_set_at_smoke_size(tmp_path, monkeypatch):
    from slmlp import config
    from slmlp.experiments.study import main as study
    from slmlp.report import inputs
    from slmlp.runtime import json_files

    training = dataclasses.replace(config.DEMO.training, epochs=1, save_every=0)
    probe = dataclasses.replace(config.DEMO.probe, folds=2, l2=(1e-3, 1e-2, 1e-1))
    cfg = dataclasses.replace(config.DEMO, training=training, probe=probe, parallel=1, layer_seeds=0)
    page = study.study("emoji", tmp_path / "demo", cfg, demo=True)
    text = page.read_text()
    assert "one seed" in text
    assert "--init timm:" in text  # after one epoch nothing beats raw pixels: what to do next is to start from weights
    verdict = json_files.read(tmp_path / "demo" / "verdict.json", dict)
    pairs = verdict["tasks"]["unseen accuracy"]["pairs"]
    assert {(c["a"], c["b"]) for c in pairs} == {("sl", "sl-mlp"), ("cosine SL", "cosine SL-MLP")}
    lead, rest = verdict["sentences"][: verdict["lead"]], verdict["sentences"][verdict["lead"] :]
    assert {c["sentence"] for c in pairs} <= set(lead)  # the question of each pair leads, and is said once
    means = verdict["tasks"]["unseen accuracy"]["means"]
    (switch,) = (line for line in lead if line not in {c["sentence"] for c in pairs} and "MLP projector" in line)
    for c in pairs:  # whether found or not, each pair's difference is there, of found ones the accuracies too
        assert f"({c['difference']:+.1f}" in switch
        assert c["winner"] is None or f"{means[c['a']]['value']:.1f} % to {means[c['b']]['value']:.1f} %" in switch
    assert rest
    assert not {c["sentence"] for c in pairs} & set(rest)
    assert inputs.read(page.parent).opening == (lead, rest)
