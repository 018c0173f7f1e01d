"""Options: every method's are flags of their own, and one that is not there is answered with those that are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slmlp import config
from slmlp.cli import main
from slmlp.cli.parse import options, parse
from slmlp.cli.pretraining import Pretrain
from slmlp.cli.studying import Study
from slmlp.runtime.errors import SlmlpError


@pytest.mark.parametrize("method", sorted(config.METHOD_CONFIGS))
def test_every_methods_settings_are_flags_that_clash_with_none(method):
    names = [option.flag for option in options(Pretrain.defaults(["--method", method]))]
    assert len(names) == len(set(names))
    words = ["x", "--out", "y", "--method", method, "--momentum", "0.5", "--projector.depth", "2"]
    parsed = parse(Pretrain, "pretrain", words)
    assert (parsed.training.momentum, parsed.settings.projector.depth) == (0.5, 2)
    preset = config.METHOD_CONFIGS[method]
    for name in ("ema_momentum", "temperature"):
        assert (f"--{name.replace('_', '-')}" in names) == hasattr(preset, name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["x", "--method", "byol", "--queue-size", "5"],
            ["no option --queue-size", "--ema-momentum", "--predictor.depth"],
        ),
        (["x", "--method", "sl", "--label-smooting", "0.1"], ["did you mean --label-smoothing", "--cosine"]),
        (["x", "--out", "y", "extra"], ["unexpected word 'extra'"]),
    ],
)
def test_an_option_that_is_not_there_is_answered_with_those_that_are(words, said):
    with pytest.raises(SlmlpError) as error:
        parse(Pretrain, "pretrain", words)
    assert all(part in str(error.value) for part in said), error.value


@pytest.mark.parametrize("columns", ["60", "80", "300"])
@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("pretrain", "x --epochs ten", "--epochs must be a whole number, found 'ten'"),
        ("pretrain", "x --base-lr fast", "--base-lr must be a number, found 'fast'"),
        ("pretrain", "x --epochs", "--epochs needs a value"),
        ("pretrain", "x --optimizer adam", "--optimizer must be adamw, lars or sgd, found 'adam'"),
        ("pretrain", "x --projector.act silu", "--projector.act must be gelu, none or relu, found 'silu'"),
        (
            "pretrain", "x --projector.hidden big",
            "--projector.hidden must be a whole number, encoder, encoder*2 or none, found 'big'",
        ),
        ("study", "x --out y --rates 0.1 fast", "--rates must be numbers, found '0.1 fast'"),
        ("suite", "x --out y --preprocess.mean 0.5 0.5", "--preprocess.mean must be 3 numbers, found '0.5 0.5'"),
        ("export", "", "slmlp export needs RUN, --to and --out"),
        ("split", "--out y", "slmlp split needs DATA"),
        ("data", "", "slmlp data needs list, get or check"),
    ],
)  # fmt: skip
def test_a_value_that_an_option_does_not_take_is_one_line(command, words, said, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert main([command, *words.split()]) == 2
    assert capsys.readouterr().err == f"slmlp: {said}; slmlp {command} --help-all explains all\n"


def test_words_are_read_as_they_may_be_typed():
    words = "x --batch_size=8 --no-nesterov --milestones 0.5 0.75 --image-size None --projector.no-bias y --out z"
    with pytest.raises(SlmlpError, match="unexpected word 'y'"):
        parse(Pretrain, "pretrain", words.split())
    parsed = parse(Pretrain, "pretrain", words.replace(" y", "").split())
    assert (parsed.data, parsed.out, parsed.method) == ("x", "z", "sl-mlp")
    training = config.Training(batch_size=8, nesterov=False, milestones=(0.5, 0.75))
    assert parsed.training == training
    assert parsed.settings == config.SL(projector=config.Projector(depth=1, bias=False))
    parsed = parse(Study, "study", ["--probe.folds", "3", "x", "--rates", "0.1", "--out", "y"])
    assert parsed.study.probe == config.Probe(folds=3)


def test_a_flag_that_equals_its_default_is_given_too():
    words = ["x", "--out", "y", "--method", "simclr", "--projector.depth", "0"]
    assert parse(Pretrain, "pretrain", words).settings.projector.out == "none"
    assert parse(Pretrain, "pretrain", [*words, "--projector.out", "128"]).settings.projector.out == 128


def test_help_goes_to_stdout_and_ends_with_0(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["split", "--help-all"])
    assert ended.value.code == 0
    assert "--unseen-fraction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--seeds 0", "--seeds must be at least 1, found 0"),
        ("--curve-seeds -1", "--curve-seeds must be at least 0, found -1"),
        ("--parallel 0", "--parallel must be at least 1, found 0"),
        ("--rates", "--rates must be one or more numbers above 0, found nothing"),
        ("--rates 0.1 -1", "--rates must be one or more numbers above 0, found 0.1 -1.0"),
        ("--optimizer adamw --rates 0.1", "--methods sl at rate 0.1 (--rates): --base-lr 0.1 is a rate for sgd"),
        ("--methods sl,sl:training.optimizer=adamw", "--methods sl:training.optimizer=adamw at rate 0.05"),
        ("--rates inf", "--rates must be one or more numbers above 0, found inf"),
        ("--validation-fraction 1", "--validation-fraction must be above 0 and below 1, found 1.0"),
        ("--probe.folds 1", "--probe.folds must be at least 2, found 1"),
        ("--probe.l2 0", "--probe.l2 must be one or more numbers above 0, found 0.0"),
        ("--probe.inner-fraction 0", "--probe.inner-fraction must be above 0 and below 1, found 0.0"),
        ("--probe.tolerance 0", "--probe.tolerance must be above 0, found 0.0"),
        ("--probe.memory-limit-gb 0", "--probe.memory-limit-gb must be above 0, found 0.0"),
        ("--probe.max-iterations 0", "--probe.max-iterations must be at least 1, found 0"),
        ("--measures.mixtureness-k 0", "--measures.mixtureness-k must be one or more numbers above 0, found 0"),
        ("--measures.images-per-class -1", "--measures.images-per-class must be at least 0, found -1"),
    ],
)
def test_what_a_study_could_not_end_with_is_refused_before_it_begins(words, said, tmp_path, capsys):
    assert main(["study", "emoji", "--out", str(tmp_path / "s"), *words.split()]) == 2
    assert f"slmlp: {said}" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "--finetune.steps must be at least 1"),
        ({"batch_size": 1}, "--finetune.batch-size must be at least 2"),
        ({"rates": ()}, "--finetune.rates must be one or more numbers above 0, found nothing"),
        ({"weight_decays": ()}, "--finetune.weight-decays must be one or more numbers, none below 0, found nothing"),
        ({"weight_decays": (0.1, -0.1)}, "--finetune.weight-decays must be .* found 0.1 -0.1"),
        ({"validation_fraction": 0.0}, "--finetune.validation-fraction must be above 0"),
    ],
)
def test_a_grid_of_nothing_is_refused(changes, said):
    with pytest.raises(SlmlpError, match=said):
        config.Finetune(**changes)


def test_the_answer_is_one_line_and_code_2():
    words = [sys.executable, "-m", "slmlp", "study", "x", "--out", "y", "--epoch", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("slmlp: slmlp study has no option --epoch; did you mean --epochs")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--split.node" in {option.flag for option in options(Study)}
