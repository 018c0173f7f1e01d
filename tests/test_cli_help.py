"""Help: a screen of what matters, every setting on request, quickly."""

from __future__ import annotations

import importlib
import re
import resource
import shlex
import subprocess
import sys

import pytest

from slmlp.cli import COMMANDS, main
from slmlp.cli.parse import options, parse


def settings(command):
    module, name, _ = COMMANDS[command]
    kind = getattr(importlib.import_module(f"slmlp.cli.{module}"), name)
    return kind, list(options(kind.defaults([]) if hasattr(kind, "defaults") else kind))


def printed(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_screen_with_an_example_that_the_command_takes(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, command, "--help")
    lines = text.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    [example] = [line.strip() for line in lines if line.startswith("  slmlp ")]
    _, named, *words = shlex.split(example)
    assert named == command
    kind, known = settings(command)
    parse(kind, command, words)
    shown = [option for option in known if re.search(rf"^  {re.escape(option.flag)}( |$)", text, re.MULTILINE)]
    flags = sum(not option.positional for option in known)
    assert (f"--help-all explains all {flags} settings" in text) is (len(shown) < len(known))
    assert all(option in shown for option in known if option.positional)
    assert all(flag in text for flag in ("--json", "-q", "-v"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_all_explains_every_setting_with_types_in_words(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, command, "--help-all")
    _, known = settings(command)
    for option in known:
        assert re.search(rf"^  {re.escape(option.flag)}[ ,\n]", text, re.MULTILINE), option.flag
    assert not re.search(r"\b(INT|FLOAT|STR)\b", text)
    assert not re.search(r"\d\.\d{7,}", text)  # defaults are rounded
    long = [line for line in text.splitlines() if len(line) > 80]
    assert all(line.startswith(("  --", "usage: ")) for line in long)  # a flag with many choices


def test_help_of_a_method_is_of_its_settings(capsys):
    text = printed(capsys, "pretrain", "--method", "byol", "--help-all")
    assert "--ema-momentum <number>" in text
    assert "--queue-size" not in text
    assert "15 values, 1e-06 to 10" in printed(capsys, "evaluate", "--help-all")


def test_commands_are_listed_and_help_is_quick(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^  (\w+)  ", text, re.MULTILINE) == list(COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
    took = []
    for words in ([], ["study"], ["study"], ["study"]):  # the first reads the files for the others
        before = processor_time()
        subprocess.run([sys.executable, "-m", "slmlp", *words, "--help"], capture_output=True, check=True)
        took.append(processor_time() - before)
    assert min(took[1:]) < 0.5  # 0.14 s; not by the clock, which other tests slow down


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
