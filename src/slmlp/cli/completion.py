"""The command slmlp completion."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from slmlp import config
from slmlp.cli.answer import Answer, Output, spelled
from slmlp.cli.help import summary
from slmlp.cli.parse import Option, alternatives, options
from slmlp.config import recipes
from slmlp.config.flags import argument
from slmlp.config.tasks import BESIDE
from slmlp.config.training import AUGMENTS

NAMES: dict[str, Iterable[str]] = {
    "method": config.METHODS, "recipe": recipes.RECIPES, "task": config.OFFERED, "task-beside": BESIDE,
    "augmentation": AUGMENTS,
}  # fmt: skip
LISTED = ("method", "task", "task-beside")  # what is named by commas too, where several may be
PATHS = {
    "data": "FILE",
    "encoder": "FILE",
    "weights": "FILE",
    "run": "DIRECTORY",
    "file": "FILE",
    "folder": "DIRECTORY",
}


@dataclass(frozen=True)
class Completion:
    """Print a script that completes commands, flags, their values and files in a shell.

    Example: `slmlp completion bash`
    For this shell `eval "$(slmlp completion bash)"`, for all that same line in ~/.bashrc; of zsh in ~/.zshrc behind
    `compinit`, of fish `slmlp completion fish > ~/.config/fish/completions/slmlp.fish`.
    """

    shell: Literal["bash", "zsh", "fish"] = field(
        metadata=argument("{bash,zsh,fish}", 'the shell; eval "$(slmlp completion bash)" completes here')
    )
    """The shell."""

    def run(self) -> Answer:
        """Return the script."""
        import shtab

        script = shtab.complete(parser(), self.shell)
        return Answer({"shell": self.shell, "script": script}, lines=[script])


def parser() -> argparse.ArgumentParser:
    """Return all commands with their flags as one argparse parser, to be read by shtab only."""
    from slmlp.cli import COMMANDS

    whole = argparse.ArgumentParser("slmlp", add_help=False)
    whole.add_argument("--help", action="store_true", help="list the commands")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, (module, attribute, text) in COMMANDS.items():
        kind = getattr(importlib.import_module(f"slmlp.cli.{module}"), attribute)
        one = commands.add_parser(name, help=_said(text), add_help=False)
        for option in options(kind.defaults([]) if hasattr(kind, "defaults") else kind):
            _add(one, option)
        for flags, said in _everywhere():
            one.add_argument(*flags, action="store_true", help=said)
        _completed(one.add_argument("--config", help="settings from a file"), "FILE")
    return whole


def _everywhere() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the flags that all commands have."""
    from slmlp.config.sentences import sentences

    yield ("-h", "--help"), "what it does, and what matters most"
    yield ("--help-all",), "every setting"
    yield ("--debug",), "the traceback of an error"
    for entry in dataclasses.fields(Output):
        yield spelled(entry), _said(sentences(Output)[entry.name])


def _add(one: argparse.ArgumentParser, option: Option) -> None:
    said = _said(summary(option))
    if option.hint is bool:
        one.add_argument(option.flag, action="store_true", help=said)
        one.add_argument(option.negative, action="store_true", help=said)
        return
    many = any(get_origin(kind) is tuple for kind in alternatives(option.hint))
    more: dict[str, Any] = {"nargs": "*"} if many else {"nargs": "?"} if option.positional else {}
    choices = NAMES.get(option.takes) or _choices(option)
    if choices:
        more["choices"] = list(map(str, choices))
    name = option.field if option.positional else option.flag
    action = one.add_argument(name, help=said, **more)
    if many and option.takes in LISTED:
        vars(action)["complete"] = _list_of(option.takes)
    _completed(action, "" if choices else PATHS.get(option.takes, ""))


def _completed(action: argparse.Action, what: str) -> None:
    """Let an argument be completed by names of files or folders."""
    import shtab

    if what:
        vars(action)["complete"] = getattr(shtab, what)  # an attribute of shtab's own, which argparse does not declare


def _list_of(what: str) -> dict[str, Any]:
    """Return how each shell completes names that may stand behind one another with commas between: the last of them."""
    function, names = f"_slmlp_list_of_{what.replace('-', '_')}", " ".join(NAMES[what])
    bash = f"""{function}() {{
  local before=""
  [[ $1 == *,* ]] && before="${{1%,*}},"
  compgen -P "$before" -W "{names}" -- "${{1##*,}}"
}}"""
    fish = f"""function {function}
  set -l before (string replace -r '[^,]*$' '' -- (commandline -ct))
  for name in {names}
    echo -- "$before$name"
  end
end"""
    return {
        "bash": function, "zsh": f"_values -s , {what} {names}", "fish": f"({function})",
        "preamble": {"bash": bash, "fish": fish},
    }  # fmt: skip


def _choices(option: Option) -> list[Any]:
    """Return the values that an option's type names."""
    kinds = [
        one for kind in alternatives(option.hint) for one in (get_args(kind) if get_origin(kind) is tuple else [kind])
    ]
    return [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def _said(text: str) -> str:
    """Return a text without what argparse and shells would read as more than letters."""
    return text.replace("%", " percent").replace("`", "").replace("'", "’").replace('"', "").replace("$", "")
