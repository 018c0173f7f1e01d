"""Recipes: built and stepped at toy size, cited, listed, run and overridden; what the docs say of them is current."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import slmlp
import tiny
from slmlp import config, data, methods
from slmlp.cli import catalogue, main
from slmlp.cli.parse import parse
from slmlp.cli.pretraining import Pretrain
from slmlp.config import recipes
from slmlp.config.recipes.recipe import FIXED
from slmlp.data import augment
from slmlp.data.augment.recipes import VIEWS
from slmlp.data.cache import ImageCache
from slmlp.encoders import build
from slmlp.methods.base import Facts
from slmlp.runtime import seeds
from slmlp.runtime.device import Compute
from slmlp.runtime.errors import SlmlpError
from slmlp.train import checkpoint, optim
from slmlp.train.batches import Batches, Plan
from slmlp.train.job import Job
from slmlp.train.loop import State
from slmlp.train.run import Run
from terminal import seen

ALL = list(recipes.RECIPES.values())
IDS = [recipe.name for recipe in ALL]
CPU = Compute(torch.device("cpu"), precision="float32", channels_last=False)
TOY = {"encoder": "resnet10", "stem": "small", "image_size": 16, "batch_size": 8, "precision": "float32"}
CLASSES, IMAGES = 6, 48


@pytest.fixture(scope="module")
def image_cache(shapes):
    images = data.load(str(shapes), config.DataOptions(images_per_class=IMAGES // CLASSES)).of_part("train")
    return ImageCache(images, config.DataOptions(), None, 20, progress=False)


def toy(recipe, image_cache, **changes):
    """A recipe's run at toy size: its state before step 0, its batches and its settings."""
    cfg = dataclasses.replace(recipe.training, **TOY, **changes)
    settings = recipe.settings
    if recipe.method.startswith("moco"):  # as many keys and parts as 48 images and batches of 8 allow
        settings = dataclasses.replace(settings, queue_size=16, bn_groups=2)
    with seeds.seeded(0, "toy"):
        encoder = build(cfg.encoder, cfg.image_size, cfg.stem)
        settings, _ = methods.fit(recipe.method, settings, Facts(IMAGES, cfg.batch_size, encoder.dim))
        method = methods.build(recipe.method, encoder, CLASSES, settings)
    views = augment.views(cfg.augment, cfg.image_size, method.num_views, cfg.local_crops, cfg.local_size)
    rows = image_cache.rows(image_cache.images)
    batches = Batches(
        image_cache, rows, Plan.of_epochs(image_cache.images.labels, cfg.batch_size, cfg.epochs, 0, cfg.balanced), views
    )
    return State(method, optim.build(method, cfg)), batches, cfg


def steps(state, batches, cfg, number):
    return tiny.rows(state, batches, optim.schedule(cfg, batches.plan, 0), CPU, number)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ALL, ids=IDS)
def test_it_is_built_and_stepped(recipe, image_cache):
    state, batches, cfg = toy(recipe, image_cache)
    method = state.model
    sizes = [view.shape[-1] for view in batches.inputs(batches[0], CPU)[0]]
    assert sizes == [16] * method.num_views + [8] * {"swav": 6, "t-rex": 8, "t-rex-star": 8}.get(recipe.method, 0)
    assert (type(state.optimizer) is optim.LARS) == (cfg.optimizer == "lars")
    assert not any(group["nesterov"] for group in state.optimizer.param_groups)
    before = [p.detach().clone() for p in method.encoder.parameters()]
    (row,) = steps(state, batches, cfg, 1)
    assert torch.isfinite(torch.tensor(row["loss"]))
    warmup = optim.warmup_steps(batches.plan.total, batches.plan.steps_per_epoch, cfg)
    assert warmup == cfg.warmup_epochs * batches.plan.steps_per_epoch  # the source's warm-up, not cut short
    assert row["lr"] == pytest.approx(cfg.peak_lr / warmup if warmup else cfg.peak_lr)
    assert any(not torch.equal(a, b) for a, b in zip(before, method.encoder.parameters(), strict=True))
    assert all(torch.isfinite(p).all() for p in method.parameters())


def test_lars_resumes_from_a_checkpoint_bit_for_bit(image_cache, tmp_path):
    recipe = recipes.get("byol-in1k")
    straight, batches, cfg = toy(recipe, image_cache, epochs=10)
    steps(straight, batches, cfg, 3)
    checkpoint.save(tmp_path, straight.step, straight.state_dict())
    steps(straight, batches, cfg, 3)
    resumed, batches, _ = toy(recipe, image_cache, epochs=10)
    saved, warnings = checkpoint.load_last(tmp_path)
    assert not warnings
    resumed.load_state_dict(saved)
    steps(resumed, batches, cfg, 3)
    ours, theirs = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("recipe", ALL, ids=IDS)
def test_it_says_where_it_comes_from_and_what_to_expect(recipe):
    assert recipes.get(recipe.name) == recipe
    assert re.search(r"arXiv \d{4}\.\d{5}", recipe.source)
    assert re.search(r"\d|not known", recipe.expected)
    assert all((recipe.data, recipe.hardware, recipe.hours))
    given, default = dataclasses.asdict(recipe.training), dataclasses.asdict(config.Training()) | FIXED
    changed = {name for name in given if given[name] != default[name]}
    preset = config.METHOD_CONFIGS[recipe.method]
    changed |= {
        f.name for f in dataclasses.fields(preset) if getattr(recipe.settings, f.name) != getattr(preset, f.name)
    }
    assert changed <= recipe.cited.keys()  # nothing departs from the defaults without a source
    assert all(recipe.cited.values())
    assert recipe.training.augment in VIEWS


PUBLISHED = ("sl", "sl-mlp", "supcon", "simclr", "moco-v1", "moco-v2", "byol", "swav", "t-rex-star", "t-rex")


def test_every_published_method_has_a_row_of_its_source_and_a_small_one():
    for ending in ("in1k", "small"):
        assert {r.method for r in ALL if ending in r.name} == {*PUBLISHED}
    assert {*PUBLISHED} <= config.METHOD_CONFIGS.keys()
    pairs = [("sl-in1k-100", "sl-mlp-in1k-100"), ("sl-in1k-300", "sl-mlp-in1k-300"), ("sl-small", "sl-mlp-small")]
    for without, with_mlp in pairs:  # the gap must have one cause
        assert recipes.get(without).training == recipes.get(with_mlp).training
    assert not any(recipe.run_by_us for recipe in ALL)


@pytest.mark.parametrize(
    ("name", "peak", "last"),
    [
        ("simclr-in1k", 4.8, 0.0),
        ("swav-in1k", 4.8, 0.0048),
        ("swav-in1k-256", 0.6, 0.0006),
        ("byol-in1k", 3.2, 0.0),
        ("moco-v2-in1k", 0.03, 0.0),
        ("t-rex-in1k", 0.1, 1e-6),
        ("supcon-in1k", 9.6, 0.0),
        ("sl-mlp-in1k-300", 0.4, 0.0),
        ("sl-small", 0.1, 0.0),
    ],
)
def test_rates_are_the_sources_at_the_sources_batches(name, peak, last):
    training = recipes.get(name).training
    assert (training.peak_lr, training.last_lr) == (pytest.approx(peak), pytest.approx(last))


@pytest.mark.parametrize("recipe", ALL, ids=IDS)
def test_its_settings_survive_json_and_do_not_depend_on_its_name(recipe):
    job = Job("emoji", recipe.method, recipe.settings, recipe.training, recipe=recipe.name)
    again = Job.from_json(json.loads(json.dumps(job.to_json())), "config.json")
    assert again == job
    assert dataclasses.replace(job, recipe=None).hash() == job.hash()
    for part in (recipe.settings, recipe.training):
        assert config.from_dict(type(part), json.loads(json.dumps(dataclasses.asdict(part)))) == part


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ALL, ids=IDS)
def test_its_two_commands_ask_for_the_same(recipe):
    asked = []
    for command in (recipe.command(), recipe.full_command()):
        words = shlex.split(command)
        assert words[:2] == ["slmlp", "pretrain"]
        asked.append(parse(Pretrain, "pretrain", words[2:]))
    for parsed in asked:
        assert parsed.method == recipe.method
        assert parsed.training == recipe.training
        assert parsed.settings == recipe.settings


def test_flags_override_a_recipe_and_help_shows_it():
    words = ["DATA", "--out", "RUN", "--recipe=simclr-small", "--epochs", "3", "--temperature", "0.2", "--nesterov"]
    parsed = parse(Pretrain, "pretrain", [*words, "--method", "simclr"])
    recipe = recipes.get("simclr-small")
    assert parsed.training == dataclasses.replace(recipe.training, epochs=3, nesterov=True)
    assert parsed.settings.temperature == 0.2
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        parse(Pretrain, "pretrain", ["--recipe", "byol-in1k", "--help-all"])
    text = " ".join(shown.getvalue().split())
    assert "(default: byol)" in text
    assert "(default: 1.5e-06)" in text
    assert "(default: 0.996)" in text
    for method in config.METHOD_CONFIGS:
        assert f"`{method}`" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--recipe", "simclr-in1k", "--method", "byol"],
            "recipe simclr-in1k is of method simclr, found --method byol",
        ),
        (["--recipe", "simclr-in1k", "--method=byol"], "a recipe of byol: byol-in1k, byol-in1k-300, byol-small"),
        (["--recipe", "moco-in1k"], "unknown recipe 'moco-in1k': did you mean 'moco-v2-in1k' or 'moco-v1-in1k'"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words, said, capsys):
    assert main(["pretrain", "DATA", "--out", "RUN", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_recipe_runs_with_what_is_overridden_and_the_run_remembers_it(shapes, tmp_path):
    smoke = ["--encoder", "resnet10", "--image-size", "16", "--batch-size", "24", "--epochs", "1", "--threads", "1"]
    out = tmp_path / "run"
    words = ["pretrain", str(shapes), "--recipe", "t-rex-star-small", "--out", str(out), *smoke]
    assert main([*words, "--projector.depth", "2"]) == 0
    job = Run(out).config["job"]
    assert (job["recipe"], job["method"]) == ("t-rex-star-small", "t-rex-star")
    assert (job["training"]["epochs"], job["training"]["local_crops"], job["training"]["final_lr"]) == (1, 8, 1e-6)
    assert (job["settings"]["projector"]["depth"], job["settings"]["memory_size"]) == (2, 0)
    assert Run(out).finished
    small = slmlp.recipes.get("t-rex-star-small").training
    training = dataclasses.replace(
        small, encoder="resnet10", image_size=16, batch_size=24, epochs=1, threads=1, save_every=1
    )
    same = slmlp.pretrain(
        str(shapes), tmp_path / "python", recipe="t-rex-star-small", training=training, progress=False,
        projector={"depth": 2},
    )  # fmt: skip
    assert same.encoder().hash() == Run(out).encoder().hash()
    with pytest.raises(SlmlpError, match="is of method"):
        slmlp.pretrain(str(shapes), tmp_path / "no", recipe="t-rex-star-small", method="sl")


def test_recipes_and_methods_are_listed_and_shown(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in recipes.RECIPES)
    shown = seen("recipes", "moco-v1-in1k", columns=160).text
    for text in ("60.8 +- 0.2", "no: the number is the source's", "0.6 0.8", "epochs 120 and 160 of 200", "bn_groups"):
        assert text in shown
    assert "slmlp pretrain DATA --recipe moco-v1-in1k --out RUN" in shown
    assert "--schedule step" in shown
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in config.METHOD_CONFIGS)
    assert all(entry.title and entry.summary and entry.source for entry in config.METHODS.values())
    assert main(["recipes", "nothing"]) == main(["methods", "nothing"]) == 2
    assert "unknown method 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("method", config.METHOD_CONFIGS)
def test_a_method_is_shown_with_every_setting_explained(method):
    shown = " ".join(seen("methods", method, columns=160).text.split())
    settings = config.METHOD_CONFIGS[method]
    for name, value, meaning in catalogue.settings_rows(settings):
        assert f"{name} " in shown
        assert value in shown
        assert meaning.split()[0] in shown
    assert config.METHODS[method].source in shown
    assert f"slmlp pretrain DATA --method {method}" in shown


def test_the_lists_need_no_torch():
    code = (
        "import sys; from slmlp.cli import main; import slmlp.config.recipes; main(['recipes']); "
        "main(['methods', 'byol']); "
        "main(['recipes', 'byol-in1k']); sys.exit(' '.join(m for m in ('torch', 'numpy') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_documentation_has_the_table_as_it_is():
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    assert catalogue.markdown() in page


def test_a_recipe_says_what_its_settings_are_known_from():
    known = {name: recipe.settings_from for name, recipe in recipes.RECIPES.items()}
    assert {name for name, basis in known.items() if basis.startswith("memory")} == {
        "sl-in1k-100", "sl-in1k-300", "sl-mlp-in1k-100", "sl-mlp-in1k-300",
    }  # fmt: skip
    assert known["simclr-in1k"] == "source"
    assert known["sl-small"] == "source, in part slmlp"
