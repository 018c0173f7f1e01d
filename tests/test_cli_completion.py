"""Completion: the script in a real bash answers what a user who presses tab is offered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from slmlp import config
from slmlp.cli import COMMANDS, main
from slmlp.cli.parse import parse
from slmlp.cli.transfer import Evaluate
from slmlp.config import recipes

ASK = """
set -e
eval "$(cat "$1")"
function=$(complete -p slmlp | sed 's/.*-F \\([^ ]*\\).*/\\1/')
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
"$function" slmlp "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || true
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "slmlp", "completion", "bash"], capture_output=True, text=True, check=True
    )
    path = tmp_path_factory.mktemp("completion") / "slmlp.bash"
    path.write_text(done.stdout)
    return path


def offered(script, *words, cwd=None):
    done = subprocess.run(
        ["bash", "-c", ASK, "ask", script, *words], capture_output=True, text=True, check=True, cwd=cwd
    )
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def test_commands_flags_choices_and_names(script):
    assert offered(script, "slmlp", "") >= set(COMMANDS)
    assert offered(script, "slmlp", "pre") == {"pretrain"}
    assert offered(script, "slmlp", "pretrain", "--proj") >= {"--projector.depth", "--projector.out"}
    assert offered(script, "slmlp", "study", "--see") == {"--seeds"}
    assert offered(script, "slmlp", "study", "--preset", "") == {"quick", "standard", "thorough"}
    assert offered(script, "slmlp", "split", "x", "--by", "w") == {"wordnet"}
    assert offered(script, "slmlp", "pretrain", "x", "--method", "moco") == {"moco-v1", "moco-v2"}
    assert offered(script, "slmlp", "study", "x", "--methods", "t-") == {"t-rex", "t-rex-star"}
    assert offered(script, "slmlp", "methods", "") >= set(config.METHODS)
    assert offered(script, "slmlp", "recipes", "sl-sm") == {"sl-small"}
    assert offered(script, "slmlp", "pretrain", "--recipe", "") >= set(recipes.RECIPES)
    assert offered(script, "slmlp", "evaluate", "a", "b", "--task", "unseen-") >= {"unseen-knn", "unseen-retrieval"}
    assert offered(script, "slmlp", "measure", "--js") == {"--json"}
    assert offered(script, "slmlp", "completion", "") >= {"bash", "zsh", "fish"}


def test_the_word_behind_the_last_comma_is_completed(script):
    assert offered(script, "slmlp", "study", "x", "--methods", "sl,t-") == {"sl,t-rex", "sl,t-rex-star"}
    assert offered(script, "slmlp", "study", "x", "--methods", "sl,sl-m") == {"sl,sl-mlp"}
    assert offered(script, "slmlp", "study", "x", "--methods", "a=sl,") == {f"a=sl,{name}" for name in config.METHODS}
    assert offered(script, "slmlp", "study", "x", "--tasks", "novelty,") >= {"novelty,unseen-knn"}
    assert offered(script, "slmlp", "suite", "x", "--tasks", "knn,lin,fewsh") == {"knn,lin,fewshot"}
    assert offered(script, "slmlp", "suite", "x", "--tasks", "knn", "lin") == {"linear"}  # by spaces as before
    assert offered(script, "slmlp", "evaluate", "a", "b", "--task", "knn,nothing") == set()
    # and commas are read so
    command = parse(Evaluate, "evaluate", ["a", "b", "--task", "knn,linear", "m.py:Mine:shares=(0.1,1),centroid"])
    assert command.task == ("knn", "linear", "m.py:Mine:shares=(0.1,1)", "centroid")


@pytest.mark.skipif(
    shutil.which("fish") is None, reason="fish is not installed (.ci/run installs it); names are tested above"
)
def test_fish_completes_the_word_behind_the_last_comma(tmp_path, capsys):
    assert main(["completion", "fish"]) == 0
    (tmp_path / "slmlp.fish").write_text(capsys.readouterr().out)
    ask = 'source slmlp.fish; complete -C "slmlp study x --methods sl,sl-m"'
    done = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["sl,sl-mlp"]


def test_files_are_offered_where_they_are_meant(script, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.tar").touch()
    assert offered(script, "slmlp", "study", "--config", "pho", cwd=tmp_path) >= {"photos.tar"}
    assert offered(script, "slmlp", "evaluate", "x", "--datasets", "pho", cwd=tmp_path) == {"photos"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_flag_is_in_every_script(shell, capsys):
    assert main(["completion", shell, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["shell"] == shell
    dashes = "" if shell == "fish" else "--"
    for flag in ("projector.no-bias", "probe.l2", "help-all", "config", "quiet"):
        assert f"{dashes}{flag}" in printed["script"]
    assert all(name in printed["script"] for name in (*COMMANDS, *config.METHODS))


def test_another_shell_is_refused(capsys):
    assert main(["completion", "cmd"]) == 2
    assert "bash" in capsys.readouterr().err
