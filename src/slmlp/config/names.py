"""Names of methods and baselines as readers know them."""

from __future__ import annotations

import re

from slmlp.config.methods import METHODS
from slmlp.config.tasks import TASKS
from slmlp.runtime import plugins

CHANCE = "chance"  # the guess of the most frequent class
NAMES = {
    **{name: entry.title for name, entry in METHODS.items()},
    "raw-pixels": "raw pixels",
    "random-init": "untrained encoder",
    "random-frozen": "untrained encoder, frozen",
    "starting-encoder": "starting encoder",
    CHANCE: "chance",
}

BEHIND = "@projector.output"


def behind(name: str) -> str:
    """Return the name of a contender whose numbers are of the embeddings behind its projector."""
    return name + BEHIND


NAMED = re.compile(r'(?:"([\w. +-]+)"|([\w. +-]+))=(.+)')  # NAME=WHAT


def named(word: str) -> tuple[str | None, str]:
    """Return the name that a user gives a contender of a study, suite or detection, and what it is.

    >>> named("no MLP=sl"), named('"no MLP"=sl:cosine=true'), named("sl:cosine=true")
    (('no MLP', 'sl'), ('no MLP', 'sl:cosine=true'), (None, 'sl:cosine=true'))
    """
    match = NAMED.fullmatch(word)
    return (match[1] or match[2], match[3]) if match else (None, word)


def display(name: str) -> str:
    """Return a method's name as it is printed; settings behind a colon go in brackets, unknown names stay.

    >>> display("sl-mlp"), display("sl-mlp:projector.out=256"), display("timm:resnet50")
    ('SL-MLP', 'SL-MLP (projector.out=256)', 'timm:resnet50')
    >>> display("mine/my_method.py:Barlow"), display("my_method.py:Barlow:off_diagonal=0.01")
    ('Barlow', 'Barlow (off_diagonal=0.01)')
    >>> display(behind("sl-mlp")), display("timm:resnet50@random")
    ('SL-MLP behind its projector', 'timm:resnet50, untrained')
    """
    if name.endswith(BEHIND):
        return f"{display(name.removesuffix(BEHIND))} behind its projector"
    if name.endswith("@random"):  # one word for random weights, whoever asked for them
        return f"{display(name.removesuffix('@random'))}, untrained"
    base, settings = plugins.split(name)
    if base not in NAMES and not (plugins.is_file(base) and ":" in base):
        return name
    title = NAMES.get(base, base.rpartition(":")[2])
    listed = [setting for setting in settings if not setting.startswith("seeds=")]  # tables count seeds themselves
    return f"{title} ({', '.join(listed)})" if listed else title


def task_title(task: str) -> str:
    """Return the heading of a task's tables; of a plug-in, which may not be there any more, its class.

    >>> task_title("knn"), task_title("my_task.py:Discriminant")
    ('Nearest neighbours', 'Discriminant')
    """
    return TASKS[task].title if task in TASKS else display(task)
