"""The commands slmlp methods and slmlp recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slmlp import config
from slmlp.config import recipes
from slmlp.config.flags import argument
from slmlp.config.names import display
from slmlp.config.recipes import Recipe
from slmlp.config.sentences import sentences
from slmlp.runtime import plugins
from slmlp.runtime.plain import plain

COLUMNS = ("recipe", "method", "data", "epochs", "batch", "settings from", "hardware; hours", "expected", "run by us")


@dataclass(frozen=True)
class Methods:
    """List the methods with their sources; with a name, that method's settings, defaults and what they mean.

    Example: `slmlp methods byol`
    """

    name: str | None = field(default=None, metadata=argument("[NAME]"))
    """`sl`, `sl-mlp`, `supcon`, `simclr`, `moco-v1`, `moco-v2`, `byol`, `swav`, `t-rex-star`, `t-rex`, or a class of
    yours, `FILE.py:CLASS`; without it all are listed."""

    def run(self) -> int:
        """Print the list, or the method."""
        if self.name is None:
            rows = [(name, entry.title, entry.summary, entry.source) for name, entry in config.METHODS.items()]
            others = {name: found for name, found in plugins.installed("method").items() if name not in config.METHODS}
            rows += [(name, name, point.value, plugins.package(point)) for name, (point, *_) in others.items()]
            show_table(("method", "name", "what it does", "source"), rows)
            print("slmlp methods NAME shows a method's settings; slmlp recipes lists settings to run.")
            return 0
        entry = config.method_entry(self.name)
        print(f"{plain(display(self.name))}: {plain(entry.summary)} ({plain(entry.source)})\n")
        show_table(("setting", "default", "meaning"), settings_rows(entry.settings))
        those = ", ".join(name for name in recipes.RECIPES if recipes.get(name).method == self.name)
        print(f"run it:   slmlp pretrain DATA --method {self.name} --out RUN")
        print(f"compare:  slmlp study DATA --methods sl,{self.name if self.name != 'sl' else 'sl-mlp'} --out STUDY")
        if those:
            print(f"recipes:  {those}")
        return 0


@dataclass(frozen=True)
class Recipes:
    """List recipes with the number to expect; with a name, its settings and the source of each.

    Example: `slmlp recipes simclr-in1k`, then `slmlp pretrain IMAGENET --recipe simclr-in1k --out my-run`
    """

    name: str | None = field(default=None, metadata=argument("[NAME]"))
    """A recipe; without it all are listed."""
    markdown: bool = False
    """Print the list as a Markdown table, as the documentation has it."""

    def run(self) -> int:
        """Print the list, or the recipe."""
        if self.name is not None:
            show_recipe(recipes.get(self.name))
        elif self.markdown:
            print(markdown())
        else:
            show_table(COLUMNS, overview())
            print("slmlp recipes NAME shows a recipe's settings; slmlp pretrain DATA --recipe NAME --out RUN runs it.")
        return 0


def overview() -> list[tuple[str, ...]]:
    """Return one row of words for each recipe."""
    entries = [make() for make in recipes.RECIPES.values()]
    return [
        (
            r.name, display(r.method), r.data, f"{r.training.epochs:,}", f"{r.training.batch_size:,}",
            r.settings_from, f"{r.hardware}; {r.hours}", r.expected, "yes" if r.run_by_us else "no",
        )
        for r in entries
    ]  # fmt: skip


def markdown() -> str:
    """Return the overview as a Markdown table."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *((f"`{name}`", *rest) for name, *rest in overview())]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def show_recipe(recipe: Recipe) -> None:
    """Print one recipe: what it is, every setting with its source, and the commands."""
    about = [
        ("recipe", f"{recipe.name}: {display(recipe.method)}"),
        ("source", recipe.source),
        ("data", recipe.data),
        ("hardware", recipe.hardware),
        ("hours", recipe.hours),
        ("settings from", recipe.settings_from),
        ("expected", recipe.expected),
        ("run by us", "yes" if recipe.run_by_us else "no: the number is the source's"),
        *(("differs" if i == 0 else "", text) for i, text in enumerate(recipe.differs)),
    ]
    show_table((), about)
    rows = [
        (name, value, recipe.cited.get(name, "slmlp's default"))
        for name, value, _ in settings_rows(recipe.training)
    ]  # fmt: skip
    rows += [(name, value, recipe.cited.get(name, meaning)) for name, value, meaning in settings_rows(recipe.settings)]
    show_table(("setting", "value", "where it stands"), rows)
    print(f"run it:       {recipe.command()}")
    print(f"spelled out:  {recipe.full_command()}")


def settings_rows(settings: Any) -> list[tuple[str, str, str]]:
    """Return (name, value, meaning) of each setting."""
    kind: Any = type(settings)
    meanings = sentences(kind)
    return [
        (field.name, as_words(getattr(settings, field.name)), plain(meanings.get(field.name, "")))
        for field in dataclasses.fields(settings)
    ]


def as_words(value: Any) -> str:
    """Return a value as it is typed; of a group of settings, those that are not at their defaults.

    >>> as_words((0.6, 0.8)), as_words(None), as_words(config.Projector(depth=1, out=128))
    ('0.6 0.8', 'default', 'depth 1, out 128')
    """
    if isinstance(value, config.Projector):
        plain = config.Projector()
        changed = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != getattr(plain, f.name)]
        return ", ".join(f"{name} {as_words(getattr(value, name))}" for name in changed) or "none"
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose long cells wrap; the first column keeps its words whole."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file or pipe has no width of its own
        console = Console(markup=False, highlight=False, width=160)
    table = Table(*columns, box=box.SIMPLE_HEAD if columns else None, show_header=bool(columns), pad_edge=False)
    for _ in range(0 if columns else len(rows[0])):
        table.add_column()
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    console.print(table)
