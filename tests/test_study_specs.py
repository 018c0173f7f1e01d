"""Contenders of a study as they are written: names, overrides, and which differ in the projector only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import types
import typing
from pathlib import Path
from types import SimpleNamespace

import pytest

from slmlp import cli, config
from slmlp.cli.parse import parse as cli_parse
from slmlp.cli.studying import Study
from slmlp.experiments.study import summary
from slmlp.experiments.study.specs import mlp_pairs, parse, parse_all, variants
from slmlp.runtime.errors import SlmlpError


def assert_refused(refused: dict[str, str]) -> None:
    for text, words in refused.items():
        with pytest.raises(SlmlpError, match=words):
            parse_all((text,))


def test_specs_of_methods():
    spec = parse("sl-mlp:projector.out=64:label_smoothing=0.1")
    assert (spec.settings.projector.out, spec.settings.label_smoothing) == (64, 0.1)
    assert len(parse_all(("sl,sl-mlp", "sl-mlp:projector.depth=2"))) == 3
    assert_refused({
        "sl-mpl": "did you mean",
        "sl:depth": "name:setting=value",
        "sl:projector.dept=1": "did you mean 'depth'",
        "sl:queue_size=1": "setting of sl",
        "sl,sl": "more than once",
    })  # fmt: skip


def test_specs_carry_their_own_compute_views_and_seeds():
    spec = parse("byol:predictor.depth=2:ema_momentum=0.9:training.epochs=7:training.local_crops=0:seeds=2")
    assert spec.settings == dataclasses.replace(
        config.BYOL(), predictor=config.BYOL().predictor.override(depth=2), ema_momentum=0.9
    )
    assert spec.training == {"epochs": 7, "local_crops": 0}
    assert (list(spec.seeds(5)), list(parse("byol").seeds(3))) == ([0, 1], [0, 1, 2])
    assert_refused({
        "sl:training.base_lr=1": "training setting of one method",
        "sl:predictor.depth=1": "group of settings",
        "sl:seeds=0": "seeds must be",
        "sl:training.epochs=0": "epochs must be at least 1",
        "moco-v2:ema_momentum=2": "ema_momentum must be 0 to below 1",
        "swav:prototypes=1": "prototypes must be at least 2",
    })  # fmt: skip


def test_pairs_with_and_without_the_mlp_differ_in_nothing_else():
    names = ("sl", "sl-mlp", "sl-mlp:projector.depth=2", "supcon", "supcon:projector.depth=0", "moco-v1", "moco-v2",
             "supcon:projector.depth=0:temperature=0.2")  # fmt: skip
    assert mlp_pairs(parse_all(names)) == [
        ("sl", "sl-mlp"), ("sl", "sl-mlp:projector.depth=2"), ("supcon:projector.depth=0", "supcon"),
    ]  # fmt: skip


def test_a_pair_stays_one_where_another_value_was_chosen_for_each():
    cosine = "sl:cosine=true", "sl-mlp:cosine=true"
    chosen = [variants(parse(text), ["temperature=0.1,0.2"])[i] for i, text in enumerate(cosine)]
    assert [spec.settings.temperature for spec in chosen] == [0.1, 0.2]
    assert mlp_pairs(chosen) == [(chosen[0].name, chosen[1].name)]
    assert mlp_pairs([parse(spec.name) for spec in chosen]) == []  # asked for so, they differ in more


def others(hint, value):
    """Return values that a field of this type may have besides its own."""
    kind = next(k for k in (typing.get_args(hint) if type(hint) is types.UnionType else (hint,)) if k is not type(None))
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return [choice for choice in inner if choice != value]
    if typing.get_origin(kind) is tuple:
        (made, *_), old = others(inner[0], None), value or ()
        return [(*old, made), old[1:], (made,) if inner[-1] is ... else (made,) * len(inner)]
    number = value if type(value) in (int, float) else 1
    return {bool: [not value], int: [number + 1, 3, 64], float: [number / 3, 2.0], str: ["a b", "weak"]}[kind]


def changed(settings):
    """Yield the settings with one field changed, for every field that a command can give, as (field, settings)."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, found = getattr(settings, field.name), 0
        if dataclasses.is_dataclass(value):
            yield from (
                (f"{field.name}.{n}", dataclasses.replace(settings, **{field.name: s})) for n, s in changed(value)
            )
            continue
        for other in () if field.metadata.get("hidden") else others(hints[field.name], value):
            with contextlib.suppress(SlmlpError):  # out of the field's range
                yield field.name, dataclasses.replace(settings, **{field.name: other})
                found += 1
        assert found or field.metadata.get("hidden") or field.name in ("methods", "optimizer", "norm"), field.name


def test_the_command_on_a_page_gives_every_setting_of_its_study():
    cases = [*changed(config.Study()), ("optimizer", config.Study(training=config.StudyTraining(optimizer="adamw")))]
    cases.append(("norm", config.Study(training=config.StudyTraining(init="my run", norm="frozen"))))
    cases.append(("all", config.Study(methods=("sl", "sl-mlp:projector.out=64"), probe=config.Probe(tolerance=1 / 3))))
    assert {"measures.seed", "validation_fraction", "curve_seeds"} <= {name for name, _ in cases}
    for name, cfg in cases:
        specs = parse_all(("sl",) if name == "methods" else cfg.methods)
        context = SimpleNamespace(cfg=cfg, source="my data", specs=specs, folder=Path("x/o"))
        program, command, *words = shlex.split(summary.study_command(context))
        again = cli_parse(Study, "study", words)
        assert (program, command, again.data, again.out) == ("slmlp", "study", "my data", "o")
        assert parse_all(again.study.methods) == specs
        assert again.study.grid == cfg.grid
        assert dataclasses.replace(again.study, methods=cfg.methods, rates=cfg.rates) == cfg, name


def test_every_study_setting_survives_json():
    cfg = config.Study(
        rates=(0.3,), training=config.StudyTraining(epochs=7), split=config.Split(unseen_superclasses=("a", "b"))
    )
    assert config.from_dict(config.Study, json.loads(json.dumps(dataclasses.asdict(cfg)))) == dataclasses.replace(
        cfg, training=config.Training(**dataclasses.asdict(cfg.training))
    )
    with pytest.raises(SlmlpError, match="did you mean 'epochs'"):
        config.from_dict(config.Training, {"epoch": 3})


def test_a_name_before_the_spec_is_the_contenders_in_study_and_suite_alike():
    from slmlp.config.names import display, named

    specs = parse_all(('"no MLP"=sl,sl-mlp', "narrow + cosine=sl-mlp:projector.out=64:cosine=true:seeds=2"))
    assert [spec.name for spec in specs] == ["no MLP", "sl-mlp", "narrow + cosine"]
    assert [display(spec.name) for spec in specs] == ["no MLP", "SL-MLP", "narrow + cosine"]
    assert (specs[2].settings.projector.out, specs[2].settings.cosine, specs[2].most_seeds) == (64, True, 2)
    assert parse_all(tuple(spec.text for spec in specs)) == specs  # what a study writes down is read again
    assert specs[0].run(1) == "no_MLP-seed1"
    assert named("first=timm:resnet18@a=b.safetensors") == ("first", "timm:resnet18@a=b.safetensors")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("sl-mlp=sl",), "sl-mlp is the name of something else"),
        (("raw-pixels=sl",), "raw-pixels is the name of something else"),
        (("a b=sl", "a_b=sl-mlp"), "would share a folder"),
        (("a=sl", "a=sl-mlp"), "names a more than once"),
        (("a=slx",), "unknown method 'slx'"),
    ],
)
def test_names_that_would_be_mistaken_are_refused(texts, message):
    with pytest.raises(SlmlpError, match=message):
        parse_all(texts)


@pytest.mark.slow
def test_a_named_contender_is_known_by_its_name_from_runs_to_suite(shapes, tmp_path):
    from slmlp.experiments.contenders import contenders
    from slmlp.runtime import json_files

    words = "--encoder resnet10 --image-size 16 --batch-size 24 --epochs 1 --augment none --save-every 0 --seeds 1"
    words += " --rates 0.1 0.2 --parallel 1 --split.by random --split.unseen-fraction 0.5 --probe.folds 2"
    named = ["--methods", '"no MLP"=sl,sl-mlp', "--probe.l2", "1e-2", "--out", str(tmp_path / "study")]
    assert cli.main(["study", str(shapes), *words.split(), *named]) == 0
    about = json_files.read(tmp_path / "study" / "study.json", dict)
    assert about["methods"] == ["no MLP", "sl-mlp"]
    assert about["contenders"] == ["no MLP=sl", "sl-mlp"]
    (c,) = json_files.read(tmp_path / "study" / "verdict.json", dict)["tasks"]["unseen accuracy"]["comparisons"]
    assert (c["a"], c["b"]) == ("no MLP", "sl-mlp")
    (again,) = contenders([str(tmp_path / "study" / "runs" / "no_MLP-seed0")])
    assert again.name == "no MLP"
    _, command, *rest = shlex.split(about["command"])
    assert cli_parse(Study, command, rest).study.methods == ("no MLP=sl,sl-mlp",)
