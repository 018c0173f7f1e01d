"""Command line: words -> settings -> one library call -> printed answer. Imports nothing heavy until a command runs."""

from __future__ import annotations

import importlib
import sys
import traceback

from slmlp.runtime import interrupt, processes
from slmlp.runtime.errors import SlmlpError, unknown
from slmlp.runtime.plain import plain

# name -> (module, its dataclass there, one line of help), in the order of use
COMMANDS = {
    "demo": ("studying", "Demo", "a study of the embedded images, in minutes"),
    "study": ("studying", "Study", "split -> rates -> pretrain -> evaluate -> page, on your images"),
    "methods": ("catalogue", "Methods", "list the methods; one method's settings"),
    "recipes": ("catalogue", "Recipes", "list the recipes with the number to expect; one recipe's settings"),
    "data": ("datasets", "Data", "list the data sets, fetch one, check a copy of one"),
    "advise": ("advising", "Advise", "would a projector help? of images, a run or a study"),
    "split": ("measuring", "Split", "hold classes out and write which"),
    "pretrain": ("pretraining", "Pretrain", "pretrain one encoder"),
    "evaluate": ("transfer", "Evaluate", "evaluate any encoder's frozen features"),
    "compare": ("studying", "Compare", "table, verdict and page over runs"),
    "suite": ("transfer", "Suite", "many encoders on many data sets: verdict and page"),
    "serve": ("serving", "Serve", "studies and runs of a folder in the browser, with live curves"),
    "features": ("measuring", "Features", "write an encoder's features to .npz"),
    "measure": ("measuring", "Measure", "discriminative ratio, redundancy, mixtureness of features"),
    "detect": ("detecting", "Detect", "Mask R-CNN on encoders: COCO's AP, compared, and the page"),
    "export": ("exporting", "Export", "write an encoder for another tool, and compare its features there"),
    "completion": ("completion", "Completion", "a script for bash, zsh or fish that completes commands and flags"),
}
SHARED = ("pretrain", "evaluate", "features", "detect")  # several processes share their work

HELP = """usage: slmlp COMMAND ... [--debug]

Pretrain encoders on labelled images, with the MLP projector as a switch, and
prove which of them transfers.

{commands}

Start with:  slmlp demo
Then:        slmlp study MY_IMAGES --out my-study
slmlp COMMAND --help shows an example and what matters most of a command,
--help-all every setting; --version prints the version.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return 0, 2 for bad input, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with interrupt.program(ends=argv is None):
        try:
            return _main(words, debug)
        except KeyboardInterrupt:  # beside a command: while its error is printed
            return 130


def _main(words: list[str], debug: bool) -> int:
    try:
        several = processes.is_distributed() and processes.rank() >= 0  # variables that make no sense are told here
    except SlmlpError as error:
        print(f"slmlp: {error}", file=sys.stderr)
        return 2
    if several:
        from slmlp.cli.together import together

        return together(words, debug)
    code, line = attempt(words, debug)
    if line:
        print(line, file=sys.stderr)
    return code


def attempt(words: list[str], debug: bool) -> tuple[int, str]:
    """Run one command; return the exit code and an error line, empty if it succeeded."""
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        print(HELP.format(commands="\n".join(f"  {name:<{width}}{text}" for name, (_, _, text) in COMMANDS.items())))
        return 0, ""
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"slmlp {version('slmlp')}")
        return 0, ""
    try:
        return _dispatch(words), ""
    except KeyboardInterrupt:
        return 130, interrupt.STOPPED
    except BrokenPipeError:
        return 0, ""
    except Exception as error:
        if interrupt.came():  # amid a library's own code, which may make an error of its own of it
            return 130, interrupt.STOPPED
        if isinstance(error, SlmlpError):
            return 2, _line(str(error), debug)
        if isinstance(error, OSError):
            return 2, _line(f"{error.filename or 'the system'}: {error.strerror or error}", debug)
        raise


def _dispatch(words: list[str]) -> int:
    name = words[0]
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    if name not in SHARED:
        processes.alone_only(f"slmlp {name}")
    module, attribute, _ = COMMANDS[name]
    from slmlp.cli.answer import Output, show
    from slmlp.cli.checks import check
    from slmlp.cli.parse import parse
    from slmlp.runtime.progress import speaking

    output, rest = Output.taken_from(words[1:])
    command = parse(getattr(importlib.import_module(f"slmlp.cli.{module}"), attribute), name, rest)
    check(command)
    with speaking(output.verbosity):
        answer = command.run()
        show(answer, name, output)
    code: int = answer.code
    return code


def _line(message: str, debug: bool) -> str:
    return (traceback.format_exc() if debug else "") + f"slmlp: {plain(' '.join(message.split()))}"
