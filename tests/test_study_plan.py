"""The plan of a study: measured by its own runs, disturbing none; what is done and left; presets.

The claims: weights and numbers are the same to the bit with and without the measurement; a dry run leaves no file;
runs, steps and bytes are those that the study then has; a line after every run counts them.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from slmlp import cli, config
from slmlp.cli.parse import parse
from slmlp.cli.studying import Study
from slmlp.experiments.study import plan
from slmlp.experiments.study import progress as study_progress
from slmlp.experiments.study.context import open_study
from slmlp.experiments.study.plan import Plan, Planned
from slmlp.experiments.study.progress import StudyProgress
from slmlp.experiments.study.task import Task
from slmlp.runtime.errors import SlmlpError
from slmlp.train import measure

pytestmark = pytest.mark.slow

FLAGS = (
    "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 2 --augment moco-v2 --save-every 1 --seeds 2 "
    "--parallel 1 --rates 0.1 0.2 --split.by random --split.unseen-fraction 0.5 --probe.folds 2 --probe.l2 1e-2"
)


def run(shapes: Path, out: Path, *words: str) -> int:
    return cli.main(["study", str(shapes), *FLAGS.split(), *words, "--out", str(out)])


@pytest.fixture(scope="module")
def done(shapes, once) -> Path:
    def make(folder: Path) -> None:
        assert run(shapes, folder) == 0

    return once("planned", make)


def test_numbers_are_the_same_to_the_bit_without_the_measurement(shapes, done, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "make", lambda context, out=None: Plan({}, frozenset(), 1, 0))
    assert run(shapes, tmp_path / "unplanned") == 0
    for name in ("results.jsonl", "verdict.json", "tsne.json"):
        assert (tmp_path / "unplanned" / name).read_bytes() == (done / name).read_bytes()
    for file in done.glob("runs/*/encoder.safetensors"):
        assert file.read_bytes() == (tmp_path / "unplanned" / file.relative_to(done)).read_bytes()


def test_measuring_leaves_random_states_and_threads_alone(shapes, tmp_path):
    command = parse(Study, "study", [str(shapes), *FLAGS.split(), "--out", str(tmp_path)])
    context = open_study(str(shapes), tmp_path / "trial", command.study, trial_of=tmp_path / "none")
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    found = measure.cost(context.job(context.specs[0], 0.1, 0), context.images, context.split, context.image_cache, 2)
    after = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert found.steps == 72 // 24 * 2
    assert found.step > 0


def test_a_dry_run_leaves_nothing_and_tells_what_the_study_then_has(shapes, done, tmp_path, capsys):
    assert run(shapes, tmp_path / "dry", "--dry-run") == 0
    said = capsys.readouterr().err
    assert not (tmp_path / "dry").exists()
    runs, size = re.search(r"plan: (\d+) runs, about .* on this machine, ([0-9.]+) MB", said).groups()
    assert int(runs) == len(list(done.glob("runs/*"))) == 8
    written = [f for f in done.rglob("*") if f.is_file() and f.suffix in (".safetensors", ".npz")]
    assert 0.7 < float(size) * 1e6 / sum(f.stat().st_size for f in written) < 1.5
    before = {f: f.stat().st_mtime_ns for f in done.rglob("*")}
    assert run(shapes, done, "--dry-run") == 0
    assert "plan: 8 runs, 8 of them done" in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in done.rglob("*")} == before


def test_a_dry_run_refuses_what_the_study_would(shapes, done, tmp_path, capsys):
    assert run(shapes, tmp_path / "dry", "--dry-run", "--batch-size", "73") == 2
    assert "more than the" in capsys.readouterr().err
    assert run(shapes, done, "--dry-run", "--epochs", "3") == 2
    assert "--epochs is 2 there, 3 here" in capsys.readouterr().err


def test_a_dry_run_of_pretrain_measures_its_own_steps(shapes, tmp_path, capsys):
    words = "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 2 --augment weak --dry-run"
    assert cli.main(["pretrain", str(shapes), *words.split(), "--out", str(tmp_path / "run")]) == 0
    assert "plan: 144 images, 12 steps, about" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["pretrain", "study"])
def test_a_dry_run_measures_beside_a_file_that_cannot_be_read(shapes, tmp_path, words, capsys):
    images = shutil.copytree(shapes, tmp_path / "images")
    for name in (
        "circle",
        "moon",
    ):  # two of 204 are fewer than one in a hundred, of the images measured on they are more
        file = images / "train" / name / "000.png"
        file.write_bytes(file.read_bytes()[:-40])
    flags = FLAGS.split() if words == "study" else ["--encoder", "resnet10", "--image-size", "16", "--batch-size", "72"]
    assert cli.main([words, str(images), *flags, "--dry-run", "--out", str(tmp_path / "o")]) == 0
    assert "plan: " in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_line_after_every_run_counts_done_left_and_best(shapes, done, tmp_path, capsys):
    context = open_study(str(shapes), shutil.copytree(done, tmp_path / "again"), parse(
        Study, "study", [str(shapes), *FLAGS.split(), "--out", "x"]).study, quiet=True)  # fmt: skip
    keys = [("final", name, 0.0, seed) for seed in range(2) for name in ("sl", "sl-mlp")]
    with StudyProgress(context, Plan(dict.fromkeys(keys, Planned(100.0)), frozenset(keys[:1]), 2, 0)) as progress:
        assert progress.line().startswith("study: 1 of 4 runs done, about ")
        assert progress.plan.left == 150
        progress.finished(Task("final", "sl-mlp", 0.2, 0))
        progress.finished(Task("final", "sl-mlp", 0.2, 0))  # once
        line = progress.line()
        assert line.startswith("study: 2 of 4 runs done")
        assert re.search(r"best so far SL(-MLP)?, [0-9.]+ % of unseen images$", line)
        progress.phase("the baselines")
        assert progress.line().endswith("; now the baselines")
    assert "study: 2 of 4 runs done" in capsys.readouterr().err


def test_what_is_left_follows_the_speed_of_the_runs_that_train_now(shapes, done, tmp_path, monkeypatch):
    """A plan that is wrong by ten is mended within the first run, not at its end."""
    folder = shutil.copytree(done, tmp_path / "again")
    context = open_study(str(shapes), folder, parse(
        Study, "study", [str(shapes), *FLAGS.split(), "--out", "x"]).study, quiet=True)  # fmt: skip
    name = "sl-seed0"
    (folder / "runs" / name / "encoder.safetensors").unlink()
    log = folder / "runs" / name / "metrics.jsonl"
    line = json.loads(log.read_text().splitlines()[-1])
    now = [0.0]
    monkeypatch.setattr(study_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log.write_text("")
    runs = {("final", "sl", 0.0, seed): Planned(100.0, 80.0, (f"sl-seed{seed}",)) for seed in range(2)}
    runs["final", "sl", 0.0, 1] = Planned(100.0, 80.0, ("elsewhere",))
    with StudyProgress(context, Plan(runs, frozenset(), 1, 0)) as progress:
        now[0] = 50.0
        assert progress.left == 200.0  # nothing is known yet
        progress.phase("")  # the runs begin
        now[0] = 450.0
        log.write_text(json.dumps({**line, "step": 3}) + "\n" + '{"step": ')  # half of its six steps: 40 of 200 seconds
        assert progress.left == pytest.approx((200 - 40) * 400 / 40)
        progress.finished(Task("final", "sl", 0.2, 0))
        now[0] = 1050.0
        assert progress.left == pytest.approx(100 * 1000 / 100)
    with StudyProgress(context, Plan(runs, frozenset(), 2, 0)) as progress:  # what was trained before tells no speed
        now[0] = 1100.0
        assert progress.left == pytest.approx((200 - 40) / 2)


def test_a_watch_speaks_by_itself_while_nothing_ends(shapes, done, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study_progress, "EVERY", 0.05)
    context = open_study(str(shapes), done, parse(
        Study, "study", [str(shapes), *FLAGS.split(), "--out", "x"]).study, quiet=True)  # fmt: skip
    with StudyProgress(context, Plan({("final", "sl", 0.0, 0): Planned(1.0)}, frozenset(), 1, 0)) as progress:
        progress._thread.join(0.3)
    assert capsys.readouterr().err.count("study: 0 of 1 runs done") >= 2


def test_presets_are_defaults_that_flags_override():
    quick = parse(Study, "study", ["DATA", "--preset", "quick", "--out", "x"])
    assert (quick.study.seeds, quick.study.grid, quick.study.curve_seeds) == (1, (0.1,), 0)
    more = parse(Study, "study", ["DATA", "--preset", "quick", "--seeds", "3", "--optimizer", "adamw", "--out", "x"])
    assert (more.study.seeds, more.study.grid) == (3, (0.001,))
    assert parse(Study, "study", ["DATA", "--preset=standard", "--out", "x"]).study == config.Study()
    assert len(parse(Study, "study", ["DATA", "--preset", "thorough", "--out", "x"]).study.grid) == 6
    for words, message in ((["--preset", "fast"], "--preset must be"), (["--preset"], "--preset needs a value")):
        with pytest.raises(SlmlpError, match=message):
            parse(Study, "study", ["DATA", "--out", "x", *words])
