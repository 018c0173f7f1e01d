"""Options: every method's are flags of their own, and one that is not there is answered with those that are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slmlp import config
from slmlp.cli.main_job import StudyCommand
from slmlp.cli.parse import flags, parse
from slmlp.cli.pretraining import Pretrain
from slmlp.errors import SlmlpError


@pytest.mark.parametrize("method", sorted(config.METHOD_CONFIGS))
def test_every_methods_settings_are_flags_that_clash_with_none(method):
    made = Pretrain.for_words(["--method", method])
    names = list(flags(made))
    assert len(names) == len(set(names))
    words = ["x", "--out", "y", "--method", method, "--momentum", "0.5", "--projector.depth", "2"]
    parsed = parse(Pretrain, "pretrain", words)
    assert (parsed.training.momentum, parsed.projector.depth) == (0.5, 2)
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


def test_the_answer_is_one_line_and_code_2():
    words = [sys.executable, "-m", "slmlp", "study", "x", "--out", "y", "--epoch", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("slmlp: slmlp study has no option --epoch; did you mean --epochs")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--split.node" in set(flags(StudyCommand))
